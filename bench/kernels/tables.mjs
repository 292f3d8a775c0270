// Inputs of the kernels that scan and decode. Nothing here needs Node.
import { CLUSTER_BYTES, pack } from './batch.mjs';

const TABLES = 4;
const CLUSTER_BITS = 16;
const EXTENDED_BITS = 32;
const RUN_BYTES = 24;
const ALLOCATED = 2n ** 32n - 1n;

/** Zero clusters of `bytes` together. */
export function zeroClusters(bytes) {
  return pack(Array(bytes / CLUSTER_BYTES).fill(new Uint8Array(CLUSTER_BYTES)));
}

/** Clusters of pseudo-random bytes (of refcounts, if you like). */
export function filledClusters(bytes) {
  let state = 1;
  const cluster = Uint8Array.from({ length: CLUSTER_BYTES }, () => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return state >>> 24;
  });
  return pack(Array(bytes / CLUSTER_BYTES).fill(cluster));
}

/** L2 tables of one cluster each; of the data clusters of the file, every `stride`-th is used. */
export function l2Tables(stride) {
  const entries = CLUSTER_BYTES / 8;
  return tables(entries, stride, entries, (view, index, entry) => {
    view.setBigUint64(index * 8, entry);
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
  return pack(made, (runs + EXTENDED_BITS) * RUN_BYTES, (host + 1) * CLUSTER_BYTES);
}
