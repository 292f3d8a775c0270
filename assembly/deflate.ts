// Raw deflate encoding (RFC 1951) with distances up to 4096 (format section 8).
//
// The source is parsed in pieces; a piece joins the block before it unless codes of its own pay.
import { DEFLATE_SCRATCH_BYTES } from './abi';
import { finishStream, startStream, writeBlock, writeStored } from './deflate-block';
import {
  countSymbols,
  farthestShortMatch,
  fillLengthSymbols,
  fillLogarithms,
  isPieceApart,
  joinPiece,
  startBlock,
} from './deflate-counts';
import { clearMatchTables, FIRST_POSITION, MATCH_TABLE_BYTES } from './deflate-match';
import { parse, parseLiterals, recordsEnd } from './deflate-parse';
import { isNoise } from './deflate-probe';

// @ts-ignore: decorator
@inline const PIECE_BYTES: usize = 8192;
/** Greatest length of a block, before the piece that goes beyond it. */
// @ts-ignore: decorator
@inline const BLOCK_BYTES: usize = 65536;

// @ts-ignore: decorator
@inline const DEFLATE_SCRATCH: usize = DEFLATE_SCRATCH_BYTES;

fillLengthSymbols();
fillLogarithms();

/** Parses the piece at `at`; where it ends. */
function parsePiece(
  tables: usize,
  src: usize,
  at: usize,
  end: usize,
  into: usize,
  level: u32,
  far: u32,
): usize {
  const base = src - FIRST_POSITION;
  const to = min(at + PIECE_BYTES, end);
  if (isNoise(src, at, to)) return parseLiterals(at, to, into);
  if (level == 0) return parse(tables, base, at, to, end, into, 3, 32, 16, false, far);
  if (level == 1) return parse(tables, base, at, to, end, into, 16, 64, 32, true, far);
  return parse(tables, base, at, to, end, into, 256, 258, 258, true, far);
}

/** Parses and writes the source block by block. False if it does not fit. */
function writeBlocks(src: usize, end: usize, level: u32, scratch: usize): bool {
  const records = scratch + MATCH_TABLE_BYTES;
  // A record stands for 3 bytes or more, but for the one that ends each piece.
  assert(MATCH_TABLE_BYTES + ((BLOCK_BYTES + PIECE_BYTES + 258) / 3 + 100) * 4 <= DEFLATE_SCRATCH);
  let into = records;
  let start = src;
  let at = src;
  let far: u32 = 2048;
  do {
    const piece = at;
    at = parsePiece(scratch, src, piece, end, into, level, far);
    countSymbols(piece, into, recordsEnd);
    far = farthestShortMatch();
    if (piece == start) {
      startBlock();
    } else if (at - start <= BLOCK_BYTES && !isPieceApart()) {
      joinPiece();
    } else {
      if (!writeBlock(start, piece, records, into, false)) return false;
      start = piece;
      startBlock();
      memory.copy(records, into, recordsEnd - into);
      into = records + (recordsEnd - into);
      continue;
    }
    into = recordsEnd;
  } while (at < end);
  return writeBlock(start, end, records, into, true);
}

export function deflate(
  src: usize,
  src_length: usize,
  out: usize,
  out_capacity: usize,
  level: u32,
  scratch: usize,
): i32 {
  assert(level <= 2);
  const end = src + src_length;
  // The stream is stored in whole words: what lies behind the output is put back at the end.
  const behind = load<u64>(out + out_capacity);
  startStream(out, out_capacity);
  let fits: bool;
  if (isNoise(src, src, end)) {
    fits = writeStored(src, end, true);
  } else {
    clearMatchTables(scratch);
    fits = writeBlocks(src, end, level, scratch);
  }
  const length = fits ? <i32>(finishStream() - out) : -1;
  store<u64>(out + out_capacity, behind);
  return length;
}
