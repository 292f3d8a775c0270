import {
  PIECE_ENTRY_BYTES,
  PIECE_SHIFT,
  RUN_ATTR_COPIED,
  RUN_ATTR_RESERVED,
  RUN_BYTES,
  RUN_COMPRESSED,
  RUN_INVALID,
  RUN_KIND_BITS,
  RUN_UNALLOCATED,
  RUN_ZERO_PLAIN,
} from '../abi.ts';
import type { ScalarMemory } from './memory.ts';
import { add, isOne } from './refcount.ts';

/** What the counting of all runs of a table depends on; see `count_runs`. */
export interface CountRules {
  clusterBits: number;
  unitBits: number;
  order: number;
  directory: number;
  pieces: number;
  clusters: number;
  times: number;
  verify: boolean;
}

/** Twin of `count_runs`. */
export function countRuns(
  memory: ScalarMemory,
  runs: number,
  count: number,
  rules: CountRules,
  state: number,
): number {
  const { view } = memory;
  const { times, order } = rules;
  if (!(times >= 1 && times < Math.min(2 ** (2 ** order), 2 ** 32))) return 0;
  const clusterSize = 2 ** rules.clusterBits;
  let next = view.getFloat64(state, true);
  let entries = view.getFloat64(state + 8, true);
  let breaks = view.getFloat64(state + 16, true);
  let highest = view.getFloat64(state + 24, true);
  let i = 0;
  for (; i < count; i++) {
    const run = runs + i * RUN_BYTES;
    const meta = view.getUint32(run, true);
    const kind = meta % 2 ** RUN_KIND_BITS;
    const attributes = meta >>> RUN_KIND_BITS;
    if (kind === RUN_COMPRESSED || kind === RUN_INVALID) break;
    if ((attributes & RUN_ATTR_RESERVED) !== 0) break;
    if (kind === RUN_UNALLOCATED || kind === RUN_ZERO_PLAIN) continue;
    const unit = view.getUint32(run + 4, true);
    const perEntry = 2 ** rules.unitBits;
    const entry = Math.ceil(unit / perEntry);
    const n = Math.ceil(view.getUint32(run + RUN_BYTES + 4, true) / perEntry) - entry;
    if (n === 0) continue;
    const skipped = (entry * perEntry - unit) * (clusterSize / perEntry);
    const host = view.getFloat64(run + 8, true) + skipped;
    const copied = (attributes & RUN_ATTR_COPIED) !== 0;
    if (!countClusters(memory, Math.floor(host / clusterSize), n, copied, rules)) break;
    if (next !== 0 && host !== next) breaks++;
    next = host + n * clusterSize;
    entries += n;
    highest = Math.max(highest, next / clusterSize - 1);
  }
  view.setFloat64(state, next, true);
  view.setFloat64(state + 8, entries, true);
  view.setFloat64(state + 16, breaks, true);
  view.setFloat64(state + 24, highest, true);
  return i;
}

/** Counts clusters of one piece; false, with nothing counted, if something is not as it should be. */
function countClusters(
  memory: ScalarMemory,
  first: number,
  n: number,
  copied: boolean,
  { order, directory, pieces, clusters, times, verify }: CountRules,
): boolean {
  const perPiece = 2 ** (PIECE_SHIFT - order);
  const piece = Math.floor(first / perPiece);
  const index = first - piece * perPiece;
  if (first + n > clusters || index + n > perPiece || piece >= pieces) return false;
  const references = memory.view.getUint32(directory + piece * PIECE_ENTRY_BYTES, true);
  if (references === 0) return false;
  if (verify) {
    const stored = memory.view.getUint32(directory + piece * PIECE_ENTRY_BYTES + 4, true);
    if (stored === 0) return false;
    for (let k = index; k < index + n; k++)
      if (isOne(memory, stored, order, k) !== copied) return false;
  }
  return add(memory, references, order, index, n, times) < 0;
}
