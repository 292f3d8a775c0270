// The sequences of a block (RFC 8878, 3.1.1.3.2 to 3.1.1.5), decoded and executed.
import { ZSTD_INVALID } from '../abi';
import { copyMatch } from '../match';
import { baseValue, extraBits, nextStateLow, stateBits } from './fse';
import { bitsAt, firstBit, leading } from './layout';
import {
  descriptionEnd,
  LITERAL_LENGTH_TABLE,
  literalLengthLog,
  MATCH_LENGTH_TABLE,
  matchLengthLog,
  OFFSET_TABLE,
  offsetLog,
} from './sequence-tables';

/** The last three distances, kept from block to block. */
let repeat0: usize = 0;
let repeat1: usize = 0;
let repeat2: usize = 0;

/** Results of `runSequences`: where the next literal and the next byte of output are. */
export let literalsAt: usize = 0;
export let outputAt: usize = 0;

/** Sets the distances that a frame begins with. */
export function resetDistances(): void {
  repeat0 = 1;
  repeat1 = 4;
  repeat2 = 8;
}

/** Copies literals: 16 bytes at a time, up to 31 more than asked for. */
// @ts-ignore: decorator
@inline
function copyLiterals(out: usize, from: usize, length: usize): void {
  if (ASC_FEATURE_SIMD) {
    v128.store(out, v128.load(from));
    if (length <= 16) return;
    const end = out + length;
    do {
      v128.store(out, v128.load(from, 16), 16);
      v128.store(out, v128.load(from, 32), 32);
      out += 32;
      from += 32;
    } while (out + 16 < end);
  } else {
    const end = out + length;
    do {
      store<u64>(out, load<u64>(from));
      store<u64>(out, load<u64>(from, 8), 8);
      out += 16;
      from += 16;
    } while (out < end);
  }
}

// Sequences are decoded in batches and then executed: decoding waits for loads and executing for
// branches, and each needs all the registers there are.

// @ts-ignore: decorator
@inline const BATCH: i32 = 256;
/** A decoded sequence: literal length, match length and offset value, u32 each. */
// @ts-ignore: decorator
@inline const RECORD_BYTES: usize = 12;
const RECORDS = memory.data(256 * 12, 16);

// The bits between batches; states are addresses of entries.
let bitsStart: usize = 0;
let position: i32 = 0;
let literalState: usize = 0;
let offsetState: usize = 0;
let matchState: usize = 0;

/** Opens the bits behind the section's header. */
function openBits(end: usize): bool {
  bitsStart = descriptionEnd;
  position = firstBit(bitsStart, end);
  if (position < -1) return false;
  let bits = bitsAt(bitsStart, position);
  literalState = LITERAL_LENGTH_TABLE + (<usize>leading(bits, literalLengthLog) << 3);
  bits <<= literalLengthLog;
  offsetState = OFFSET_TABLE + (<usize>leading(bits, offsetLog) << 3);
  bits <<= offsetLog;
  matchState = MATCH_LENGTH_TABLE + (<usize>leading(bits, matchLengthLog) << 3);
  position -= <i32>(literalLengthLog + offsetLog + matchLengthLog);
  return position >= -1;
}

/** What an offset code stands for: the bits read and a one in front of them. */
// @ts-ignore: decorator
@inline
function offsetValue(entry: u64, bits: u64): usize {
  return <usize>(((bits >> 1) | ((<u64>1) << 63)) >> ~entry);
}

// @ts-ignore: decorator
@inline
function lengthValue(entry: u64, bits: u64): usize {
  return baseValue(entry) + <usize>leading(bits, entry);
}

/**
 * Decodes `count` sequences, at most a batch, and the states behind them.
 * @returns the bits of the last states, or -1 if there were too few bits
 */
function decodeBatch(count: i32): i32 {
  const start = bitsStart;
  let at = position;
  let atLiteral = literalState;
  let atOffset = offsetState;
  let atMatch = matchState;
  let to: usize = RECORDS;
  const toEnd = to + <usize>count * RECORD_BYTES;
  let total: u32 = 0;
  let extra: u32 = 0;
  // Too few bits are noticed after the batch: what it reads instead is in front of the stream, at
  // most 3 KiB, which is less than the module's own data take.
  do {
    const literalEntry = load<u64>(atLiteral);
    const offsetEntry = load<u64>(atOffset);
    const matchEntry = load<u64>(atMatch);
    const sum = literalEntry + offsetEntry + matchEntry;
    // Enough for both lengths and any distance within 16 MiB; greater ones are refused anyway.
    const word = bitsAt(start, at);
    store<u32>(to, offsetValue(offsetEntry, word), 8);
    store<u32>(to, lengthValue(matchEntry, word << offsetEntry), 4);
    store<u32>(to, lengthValue(literalEntry, word << (offsetEntry + matchEntry)));
    to += RECORD_BYTES;
    extra = extraBits(sum);
    total = extra + (<u32>stateBits(sum) & 63);
    let rest = word;
    let taken = total;
    if (total > 57) {
      rest = bitsAt(start, at - extra);
      taken -= extra;
    }
    at -= total;
    rest >>= 61 - taken;
    atOffset = nextStateLow(atOffset, rest);
    rest >>= stateBits(offsetEntry);
    atMatch = nextStateLow(atMatch, rest);
    rest >>= stateBits(matchEntry);
    atLiteral = nextStateLow(atLiteral, rest);
  } while (to < toEnd);
  position = at;
  literalState = atLiteral;
  offsetState = atOffset;
  matchState = atMatch;
  return total - extra;
}

/** Decodes the next of `left` sequences; returns how many, or 0 if the bits are not theirs. */
function nextBatch(left: i32): i32 {
  const count = min(left, BATCH);
  const surplus = decodeBatch(count);
  if (count < left) return position >= -1 ? count : 0;
  // No state follows the last sequence, and no bit.
  position += surplus;
  return position == -1 ? count : 0;
}

/**
 * Decodes and executes `count` (at least 1) sequences, whose bits follow their header.
 * @param frameStart first byte that distances reach
 * @param outEnd end of the room for the block, less than 16 MiB from the frame's start
 * @param tooLong status when the sequences are in order, but do not fit there
 * @returns 0, or a status; `literalsAt` and `outputAt` are set with 0 only
 */
export function runSequences(
  count: i32,
  end: usize,
  literal: usize,
  literalsEnd: usize,
  frameStart: usize,
  out: usize,
  outEnd: usize,
  tooLong: i32,
): i32 {
  if (!openBits(end)) return ZSTD_INVALID;
  let r0 = repeat0;
  let r1 = repeat1;
  let r2 = repeat2;
  while (count > 0) {
    const decoded = nextBatch(count);
    if (decoded == 0) return ZSTD_INVALID;
    count -= decoded;
    const recordsEnd = RECORDS + <usize>decoded * RECORD_BYTES;
    for (let record: usize = RECORDS; record < recordsEnd; record += RECORD_BYTES) {
      const literalLength = <usize>load<u32>(record);
      const matchLength = <usize>load<u32>(record, 4);
      const value = <usize>load<u32>(record, 8);
      // Values up to 3 are one of the last three distances; without literals, one of the second, the
      // third, and the first less 1. Which it is cannot be predicted: no branches.
      const index = value - <usize>(literalLength != 0);
      const last = select(r2, r0 - 1, index == 2);
      const repeated = select(r0, select(r1, last, index == 1), index == 0);
      r2 = select(r1, r2, index > 1);
      r1 = select(r0, r1, index != 0);
      const distance = select(value - 3, repeated, value > 3);
      r0 = distance;

      const matchAt = out + literalLength;
      // Of distance 0 the predecessor is large.
      if (distance - 1 >= matchAt - frameStart) return ZSTD_INVALID;
      if (literalLength > literalsEnd - literal) return ZSTD_INVALID;
      if (literalLength + matchLength > outEnd - out) return excess(count, tooLong);
      copyLiterals(out, literal, literalLength);
      literal += literalLength;
      copyMatch(matchAt, distance, matchLength);
      out = matchAt + matchLength;
    }
  }
  repeat0 = r0;
  repeat1 = r1;
  repeat2 = r2;
  literalsAt = literal;
  outputAt = out;
  return 0;
}

/** Status for sequences that do not fit, of which `left` are not decoded yet: they may be invalid. */
function excess(left: i32, tooLong: i32): i32 {
  while (left > 0) {
    const decoded = nextBatch(left);
    if (decoded == 0) return ZSTD_INVALID;
    left -= decoded;
  }
  return tooLong;
}
