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
  const cluster = 2 ** rules.clusterBits;
  const runs = new RunWriter(memory, out, capacity, cluster / SUBCLUSTERS);
  let i = 0;
  for (; i < count && runs.free >= SUBCLUSTERS; i++) {
    const at = table + (first + i) * 16;
    const high = memory.view.getUint32(at);
    const low = memory.view.getUint32(at + 4);
    const zero = memory.view.getUint32(at + 8);
    const alloc = memory.view.getUint32(at + 12);
    const unit = (first + i) * SUBCLUSTERS;
    if (isCompressed(high)) {
      appendCompressed(runs, high, low, (zero | alloc) !== 0, unit, SUBCLUSTERS, rules);
    } else {
      appendCluster(runs, high, low, alloc, zero, unit, guestBase + i * cluster, rules);
    }
  }
  return runs.finish((first + i) * SUBCLUSTERS);
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
  else fault = offsetFault(host, guest, alloc !== 0, rules);
  if (fault !== 0) {
    runs.append(RUN_INVALID, unit, SUBCLUSTERS, fault, host);
    return;
  }
  const attributes = attributesOf(high, low, hasHost, rules);
  const unitBytes = 2 ** rules.clusterBits / SUBCLUSTERS;
  for (let k = 0; k < SUBCLUSTERS; k++) {
    const isZero = ((zero >>> k) & 1) !== 0;
    if (!hasHost) {
      runs.append(isZero ? RUN_ZERO_PLAIN : RUN_UNALLOCATED, unit + k, 1, attributes, 0);
      continue;
    }
    let kind = RUN_UNALLOCATED_SUBCLUSTER;
    if (isZero) kind = RUN_ZERO_ALLOCATED;
    else if (((alloc >>> k) & 1) !== 0) kind = RUN_DATA;
    runs.append(kind, unit + k, 1, attributes, host + k * unitBytes);
  }
}
