// The contenders of this package: kernels on one backend, working in kernel memory as conversions do.
// Each function takes a kernel and a batch and makes the call that is measured. No need of Node.
import { loadCodec } from '../../build/modules/codecs/load.js';
import { RUN_BYTES } from '../../build/modules/kernel/abi.js';
import { CLUSTER_BYTES, sampleOf, unpack } from './batch.mjs';

const CLUSTER_BITS = 16;
/** Of refcounts: 2^4 bits. */
const ORDER = 4;
const COUNTERS = CLUSTER_BYTES / 2;
/** Between the pieces, for kernels that read or write behind them. */
const SLACK = 64;

/** Copies the pieces into kernel memory. */
function placed({ arena }, batch) {
  const pieces = unpack(batch);
  const region = arena.allocate(batch.bytes.length + pieces.length * SLACK);
  let at = 0;
  return pieces.map((piece) => {
    region.bytes.set(piece, at);
    const place = { at, ptr: region.ptr + at, length: piece.length, region };
    at += piece.length + SLACK;
    return place;
  });
}

function viewOf({ at, length, region }) {
  return region.bytes.subarray(at, at + length);
}

export function zero(kernel, batch) {
  const { exports } = kernel;
  const pieces = placed(kernel, batch);
  return () => {
    let found = 0;
    for (const { ptr, length } of pieces) found += exports.zero_range(ptr, length);
    return found;
  };
}

/** Counts pieces that equal those of a copy. */
function comparing(compare) {
  return (kernel, batch) => {
    const [a, b] = [placed(kernel, batch), placed(kernel, batch)];
    return () => {
      let equal = 0;
      for (let i = 0; i < a.length; i++) {
        if (compare(kernel.exports, a[i], b[i]) === -1) equal++;
      }
      return equal;
    };
  };
}

export const difference = comparing((exports, a, b) =>
  exports.first_difference(a.ptr, b.ptr, a.length),
);

export const refcounts = comparing((exports, a, b) =>
  exports.refcount_compare(a.ptr, b.ptr, ORDER, 0, COUNTERS),
);

function decodingTables(name, entryBytes) {
  return (kernel, batch) => {
    const tables = placed(kernel, batch);
    const runs = kernel.arena.allocate(batch.outputBytes);
    // The end of the last run takes a record, too.
    const capacity = Math.floor(batch.outputBytes / RUN_BYTES) - 1;
    const decode = kernel.exports[name];
    return () => {
      let count = 0;
      for (const { ptr, length } of tables) {
        const entries = length / entryBytes;
        count += decode(ptr, 0, entries, CLUSTER_BITS, 0, 0, 0, batch.limit, runs.ptr, capacity);
      }
      return count;
    };
  };
}

export const l2 = decodingTables('l2_decode', 8);
export const l2Extended = decodingTables('l2_decode_extended', 16);

/** Decodes all streams with the codec of a compression type. */
export function decoding(type) {
  return async (kernel, batch) => {
    const codec = await loadCodec(type, kernel);
    const streams = placed(kernel, batch);
    const output = kernel.arena.allocate(CLUSTER_BYTES);
    const { bytes } = output;
    const views = streams.map(viewOf);
    return () => {
      let sum = 0;
      for (const view of views) {
        codec.decompress(view, bytes);
        sum += sampleOf(bytes);
      }
      return sum;
    };
  };
}

/** Compresses all clusters; the bytes they take, a cluster that does not shrink counting whole. */
export function encoding(type, level) {
  return async (kernel, batch) => {
    const codec = await loadCodec(type, kernel, { compress: true, ...(level && { level }) });
    const clusters = placed(kernel, batch);
    const output = kernel.arena.allocate(CLUSTER_BYTES);
    const room = output.bytes.subarray(0, CLUSTER_BYTES - 1);
    const views = clusters.map(viewOf);
    return () => {
      let total = 0;
      for (const view of views) {
        const length = codec.compress(view, room);
        total += length < 0 ? CLUSTER_BYTES : length;
      }
      return total;
    };
  };
}
