import {
  INVALID_ALLOC_AND_ZERO,
  INVALID_ALLOC_WITHOUT_OFFSET,
  RUN_DATA,
  RUN_INVALID,
  RUN_UNALLOCATED,
  RUN_UNALLOCATED_SUBCLUSTER,
  RUN_ZERO_ALLOCATED,
  RUN_ZERO_PLAIN,
} from '../abi.ts';
import {
  appendCompressed,
  attributesOf,
  hostOffset,
  isCompressed,
  isCopied,
  type L2Rules,
  offsetFault,
} from './l2.ts';
import type { ScalarMemory } from './memory.ts';
import { RunWriter } from './runs.ts';

const SUBCLUSTERS = 32;

/** Twin of `l2_decode_extended`. */
export function decodeExtendedL2(
  memory: ScalarMemory,
  table: number,
  first: number,
  count: number,
  rules: L2Rules,
  guestBase: number,
  out: number,
  capacity: number,
): number {
  const runs = new RunWriter(memory, out, capacity, 2 ** rules.clusterBits / SUBCLUSTERS);
  const done = appendEntries(runs, memory.view, table, first, count, rules, guestBase);
  return runs.finish((first + done) * SUBCLUSTERS);
}

/**
 * Appends entries while there is room; returns their number. Nothing follows the loop: V8 compiles it
 * while it runs, and would leave that code each time it comes to what it has not seen before.
 */
function appendEntries(
  runs: RunWriter,
  view: DataView,
  table: number,
  first: number,
  count: number,
  rules: L2Rules,
  guestBase: number,
): number {
  const cluster = 2 ** rules.clusterBits;
  let i = 0;
  for (; i < count && runs.free >= SUBCLUSTERS; i++) {
    const at = table + (first + i) * 16;
    const high = view.getUint32(at);
    const low = view.getUint32(at + 4);
    const zero = view.getUint32(at + 8);
    const alloc = view.getUint32(at + 12);
    const unit = (first + i) * SUBCLUSTERS;
    if (isCompressed(high)) {
      appendCompressed(runs, high, low, (zero | alloc) !== 0, unit, SUBCLUSTERS, rules);
    } else {
      appendCluster(runs, high, low, alloc, zero, unit, guestBase + i * cluster, rules);
    }
  }
  return i;
}

/** Appends the subclusters of an entry that is not compressed (format section 9). */
function appendCluster(
  runs: RunWriter,
  high: number,
  low: number,
  alloc: number,
  zero: number,
  unit: number,
  guest: number,
  rules: L2Rules,
): void {
  const host = hostOffset(high, low);
  const hasHost = host !== 0 || (rules.isDataFile && isCopied(high));
  let fault = 0;
  if (!hasHost) fault = alloc !== 0 ? INVALID_ALLOC_WITHOUT_OFFSET : 0;
  else if ((alloc & zero) !== 0) fault = INVALID_ALLOC_AND_ZERO;
  else fault = offsetFault(host, low, guest, alloc !== 0, rules);
  if (fault !== 0) {
    runs.append(RUN_INVALID, unit, SUBCLUSTERS, fault, host);
    return;
  }
  const attributes = attributesOf(high, low, hasHost, rules);
  const unitBytes = 2 ** rules.clusterBits / SUBCLUSTERS;
  for (let k = 0; k < SUBCLUSTERS; ) {
    const kind = kindOf(alloc >>> k, zero >>> k, hasHost);
    let units = 1;
    while (k + units < SUBCLUSTERS && isLikeLast(alloc, zero, k + units)) units++;
    runs.append(kind, unit + k, units, attributes, hasHost ? host + k * unitBytes : 0);
    k += units;
  }
}

/** Kind of the subcluster whose bits are the lowest; not both are set. */
function kindOf(alloc: number, zero: number, hasHost: boolean): number {
  if (!hasHost) return (zero & 1) !== 0 ? RUN_ZERO_PLAIN : RUN_UNALLOCATED;
  if ((zero & 1) !== 0) return RUN_ZERO_ALLOCATED;
  return (alloc & 1) !== 0 ? RUN_DATA : RUN_UNALLOCATED_SUBCLUSTER;
}

/** Whether subcluster `k` (from 1) has the bits of the one before it. */
function isLikeLast(alloc: number, zero: number, k: number): boolean {
  return (((alloc ^ (alloc >>> 1)) | (zero ^ (zero >>> 1))) & (1 << (k - 1))) === 0;
}
