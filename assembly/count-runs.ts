// References to clusters, counted from decoded runs (format section 18).
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
} from './abi';
import { addWithin, get, maximum } from './refcount';

/** Whether each of `count` stored counters is 1 exactly if bit 63 says so. */
// @ts-ignore: decorator
@inline
function agree(block: usize, order: u32, first: u32, count: u32, isCopied: bool): bool {
  for (let i: u32 = 0; i < count; i++) {
    if ((get(block, order, first + i) == 1) != isCopied) return false;
  }
  return true;
}

export function count_runs(
  runs: usize,
  count: u32,
  cluster_bits: u32,
  unit_bits: u32,
  order: u32,
  directory: usize,
  pieces: u32,
  clusters: u32,
  times: f64,
  verify: u32,
  state: usize,
): u32 {
  assert(order <= 6);
  if (!(times >= 1 && times <= <f64>maximum(order) && times < 4294967296.0)) return 0;
  const change = <u64>times;
  const greatest = maximum(order) - change;
  const unitsToEntry: u32 = ((<u32>1) << unit_bits) - 1;
  const pieceShift = PIECE_SHIFT - order;
  const perPiece: u32 = (<u32>1) << pieceShift;
  let next = <u64>load<f64>(state);
  let entries: u64 = 0;
  let breaks: u32 = 0;
  let highest = <i64>load<f64>(state, 24);
  let i: u32 = 0;
  for (; i < count; i++) {
    const run = runs + <usize>i * RUN_BYTES;
    const meta = load<u32>(run);
    const kind = meta & ((1 << RUN_KIND_BITS) - 1);
    if (kind == RUN_COMPRESSED || kind == RUN_INVALID) break;
    const attributes = meta >> RUN_KIND_BITS;
    if ((attributes & RUN_ATTR_RESERVED) != 0) break;
    if (kind == RUN_UNALLOCATED || kind == RUN_ZERO_PLAIN) continue;
    // Of subclusters, the first of its cluster stands for all.
    const unit = load<u32>(run, 4);
    const entry = (unit + unitsToEntry) >> unit_bits;
    const n = ((load<u32>(run, RUN_BYTES + 4) + unitsToEntry) >> unit_bits) - entry;
    if (n == 0) continue;
    const skipped = <u64>((entry << unit_bits) - unit) << (cluster_bits - unit_bits);
    const host = <u64>load<f64>(run, 8) + skipped;
    const first = host >> cluster_bits;
    if (first + n > clusters) break;
    const index = <u32>first & (perPiece - 1);
    const piece = <u32>(first >> pieceShift);
    if (index + n > perPiece || piece >= pieces) break;
    const known = directory + <usize>piece * PIECE_ENTRY_BYTES;
    const references = load<u32>(known);
    if (references == 0) break;
    if (verify) {
      const stored = load<u32>(known, 4);
      const isCopied = (attributes & RUN_ATTR_COPIED) != 0;
      if (stored == 0 || !agree(stored, order, index, n, isCopied)) break;
    }
    if (addWithin(references, order, index, n, change, 0, greatest) >= 0) break;
    breaks += u32(next != 0 && host != next);
    next = host + (<u64>n << cluster_bits);
    entries += n;
    highest = max<i64>(highest, first + n - 1);
  }
  store<f64>(state, <f64>(<i64>next));
  store<f64>(state, load<f64>(state, 8) + <f64>(<i64>entries), 8);
  store<f64>(state, load<f64>(state, 16) + <f64>breaks, 16);
  store<f64>(state, <f64>highest, 24);
  return i;
}
