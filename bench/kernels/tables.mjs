// Inputs of the kernels that scan and decode. Nothing here needs Node.
import { CLUSTER_BYTES, pack } from './batch.mjs';

const TABLES = 4;
const CLUSTER_BITS = 16;
const EXTENDED_BITS = 32;
const RUN_BYTES = 16;
const ALLOCATED = 2n ** 32n - 1n;

/** Zero clusters of `bytes` together. */
export function zeroClusters(bytes) {
  return pack(Array(bytes / CLUSTER_BYTES).fill(new Uint8Array(CLUSTER_BYTES)));
}

/** Clusters of pseudo-random bytes (of refcounts, if you like). */
export function filledClusters(bytes) {
  const next = generator();
  const cluster = Uint8Array.from({ length: CLUSTER_BYTES }, () => next(256));
  return pack(Array(bytes / CLUSTER_BYTES).fill(cluster));
}

/** Integers below `limit` that are the same in every run. */
function generator() {
  let state = 1;
  return (limit) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 16) % limit;
  };
}

/** L2 tables of one cluster each; of the data clusters of the file, every `stride`-th is used. */
export function l2Tables(stride) {
  const entries = CLUSTER_BYTES / 8;
  return tables(entries, stride, entries, (view, index, entry) => {
    view.setBigUint64(index * 8, entry);
  });
}

/** L2 tables as use makes them: runs of 1 to 16 entries, of data for the most part, then holes and zeros. */
export function mixedTables() {
  const entries = CLUSTER_BYTES / 8;
  const next = generator();
  let [left, kind, skipped] = [0, 0, 0];
  return tables(entries, 1, entries, (view, index, entry) => {
    if (left === 0) {
      [left, kind] = [1 + next(16), next(8)];
      skipped += next(4);
    }
    left--;
    const data = entry + (BigInt(skipped) << BigInt(CLUSTER_BITS));
    view.setBigUint64(index * 8, [0n, 1n][kind] ?? data);
  });
}

/** Tables of extended entries: clusters in a row, one of sixteen with only half its subclusters. */
export function extendedTables() {
  const entries = CLUSTER_BYTES / 16;
  return tables(entries, 1, entries * EXTENDED_BITS, (view, index, entry) => {
    view.setBigUint64(index * 16, entry);
    view.setBigUint64(index * 16 + 8, index % 16 === 15 ? ALLOCATED >> 16n : ALLOCATED);
  });
}

function tables(entries, stride, runs, write) {
  let host = 5;
  const made = Array.from({ length: TABLES }, () => {
    const table = new Uint8Array(CLUSTER_BYTES);
    const view = new DataView(table.buffer);
    for (let i = 0; i < entries; i++) {
      write(view, i, (1n << 63n) | (BigInt(host) << BigInt(CLUSTER_BITS)));
      host += stride;
    }
    return table;
  });
  // Every data cluster lies before the end, wherever a writer has moved it to.
  return pack(made, (runs + EXTENDED_BITS) * RUN_BYTES, (host + runs) * 2 * CLUSTER_BYTES);
}
