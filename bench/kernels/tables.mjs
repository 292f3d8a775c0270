// Inputs of the table kernels.
import { RUN_BYTES } from '../../dist/kernel/abi.js';
import { CLUSTER_BYTES } from './clusters.mjs';

const ENTRIES = CLUSTER_BYTES / 8;

/** An L2 table of one cluster whose data clusters come in runs; every `stride`-th place is used. */
export function entriesOf({ arena, exports }, stride) {
  const table = arena.allocate(CLUSTER_BYTES);
  const runs = arena.allocate(ENTRIES * RUN_BYTES);
  const view = new DataView(table.bytes.buffer, table.ptr, CLUSTER_BYTES);
  for (let i = 0; i < ENTRIES; i++)
    view.setBigUint64(i * 8, (1n << 63n) | (BigInt(5 + i * stride) << 16n));
  const end = (5 + ENTRIES * stride + 1) * CLUSTER_BYTES;
  return () => exports.l2_decode(table.ptr, 0, ENTRIES, 16, 0, 0, 0, end, runs.ptr, ENTRIES);
}

/** Zero clusters larger than the processor's caches together, scanned in turn. */
export function scannedMemory({ arena, exports }) {
  const region = arena.allocate(64 * 1024 ** 2);
  region.bytes.fill(0);
  let at = 0;
  return () => {
    at = (at + CLUSTER_BYTES) % region.length;
    return exports.zero_range(region.ptr + at, CLUSTER_BYTES);
  };
}
