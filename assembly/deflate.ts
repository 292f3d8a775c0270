// Raw deflate encoding (RFC 1951) with distances up to 4096 (format section 8).
import { finishStream, fillLengthSymbols, startStream, writeBlock } from './deflate-block';
import { clearMatchTables, FIRST_POSITION, MATCH_TABLE_BYTES } from './deflate-match';
import { parseGreedy, parseLazy, recordsEnd } from './deflate-parse';

/** Source bytes of a block. */
// @ts-ignore: decorator
@inline const BLOCK_BYTES: usize = 65536;

fillLengthSymbols();

export function deflate(
  src: usize,
  src_length: usize,
  out: usize,
  out_capacity: usize,
  level: u32,
  scratch: usize,
): i32 {
  const end = src + src_length;
  const base = src - FIRST_POSITION;
  const records = scratch + MATCH_TABLE_BYTES;
  // Words are written whole: what lies behind the output is put back at the end.
  const behind = load<u64>(out + out_capacity);
  clearMatchTables(scratch);
  startStream(out, out_capacity);
  let at = src;
  let fits = true;
  do {
    const to = min(at + BLOCK_BYTES, end);
    const from = at;
    at = level == 0
      ? parseGreedy(scratch, base, at, to, end, records, 4, 32)
      : level == 1
      ? parseLazy(scratch, base, at, to, end, records, 16, 128)
      : parseLazy(scratch, base, at, to, end, records, 256, 258);
    fits = writeBlock(from, at, records, recordsEnd, at == end);
  } while (fits && at < end);
  const length = fits ? <i32>(finishStream() - out) : -1;
  store<u64>(out + out_capacity, behind);
  return length;
}
