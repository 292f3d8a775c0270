// The sequences section of a block (RFC 8878, 3.1.1.3.2), decoded and executed in one go.
import { ZSTD_INVALID } from '../abi';
import { copyMatch } from '../match';
import {
  accuracyLog,
  BASE_SHIFT,
  baseValue,
  buildSingle,
  buildTable,
  COUNTS,
  extraBits,
  nextState,
  readCounts,
  stateBits,
  symbolCount,
} from './fse';
import {
  bitsAt,
  firstBit,
  leading,
  LITERAL_LENGTH_TABLE,
  MATCH_LENGTH_TABLE,
  OFFSET_TABLE,
  scratch,
  SEQUENCE_TABLES,
} from './layout';

// @ts-ignore: decorator
@inline const PREDEFINED: u32 = 0;
// @ts-ignore: decorator
@inline const RLE: u32 = 1;
// @ts-ignore: decorator
@inline const REPEAT: u32 = 3;

// @ts-ignore: decorator
@inline const LITERAL_LENGTHS: u32 = 36;
// @ts-ignore: decorator
@inline const MATCH_LENGTHS: u32 = 53;
// @ts-ignore: decorator
@inline const OFFSETS: u32 = 32;

/** Extra bits of the codes from 16 (literal lengths) and 32 (match lengths) on. */
const LITERAL_LENGTH_BITS = memory.data<u8>([
  1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
]);
const MATCH_LENGTH_BITS = memory.data<u8>([
  1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
]);

/** Predefined distributions (RFC 8878, 3.1.1.3.2.2). */
const LITERAL_LENGTH_COUNTS = memory.data<i16>([
  4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1,
  -1, -1, -1,
]);
const MATCH_LENGTH_COUNTS = memory.data<i16>([
  1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
  1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
]);
const OFFSET_COUNTS = memory.data<i16>([
  1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1,
]);

/** Base and extra bits of each code, as in a table entry. */
const LITERAL_LENGTH_ENTRIES = memory.data(LITERAL_LENGTHS << 3, 16);
const MATCH_LENGTH_ENTRIES = memory.data(MATCH_LENGTHS << 3, 16);
const OFFSET_ENTRIES = memory.data(OFFSETS << 3, 16);

let literalLengthLog: u32 = 0;
let matchLengthLog: u32 = 0;
let offsetLog: u32 = 0;
/** Whether an earlier block of the frame left its three tables. */
let hasTables: bool = false;
/** The last three distances, kept from block to block. */
let repeat0: usize = 0;
let repeat1: usize = 0;
let repeat2: usize = 0;

/** Results of `runSequences`: where the next literal and the next byte of output are. */
export let literalsAt: usize = 0;
export let outputAt: usize = 0;

/** Runs when the module starts. */
export function fillSequenceEntries(): void {
  fillLengths(LITERAL_LENGTH_ENTRIES, LITERAL_LENGTHS, 16, 0, LITERAL_LENGTH_BITS);
  fillLengths(MATCH_LENGTH_ENTRIES, MATCH_LENGTHS, 32, 3, MATCH_LENGTH_BITS);
  for (let code: u32 = 0; code < OFFSETS; code++) {
    store<u64>(OFFSET_ENTRIES + (<usize>code << 3), code);
  }
}

function fillLengths(entries: usize, codes: u32, plain: u32, first: u32, bitsList: usize): void {
  let base = first;
  for (let code: u32 = 0; code < codes; code++) {
    const bits = code < plain ? 0 : <u32>load<u8>(bitsList + code - plain);
    store<u64>(entries + (<usize>code << 3), (base << BASE_SHIFT) | bits);
    base += 1 << bits;
  }
}

/** What a frame begins with. */
export function resetSequences(): void {
  hasTables = false;
  repeat0 = 1;
  repeat1 = 4;
  repeat2 = 8;
}

/** End of the table description read last. */
let descriptionEnd: usize = 0;

/**
 * Reads one table description at `descriptionEnd` and builds the table.
 * @returns its accuracy log, or -1 if it is invalid
 */
function readTable(
  mode: u32,
  end: usize,
  table: usize,
  entries: usize,
  codes: u32,
  maxLog: u32,
  usualLog: u32,
  usualCounts: usize,
  usualCodes: u32,
): i32 {
  if (mode == PREDEFINED) {
    buildTable(usualCounts, usualCodes, usualLog, entries, table);
    return usualLog;
  }
  if (mode == RLE) {
    if (descriptionEnd >= end) return -1;
    const code = <u32>load<u8>(descriptionEnd++);
    if (code >= codes) return -1;
    buildSingle(load<u64>(entries + (<usize>code << 3)), table);
    return 0;
  }
  const length = readCounts(descriptionEnd, end, codes - 1, maxLog);
  if (length == 0) return -1;
  descriptionEnd += length;
  buildTable(COUNTS, symbolCount, accuracyLog, entries, table);
  return accuracyLog;
}

/** Reads the three table descriptions; `modes` is the byte in front of them. */
function readTables(modes: u32, end: usize): bool {
  const tables = scratch(SEQUENCE_TABLES);
  let mode = modes >> 6;
  if (mode != REPEAT) {
    const log = readTable(mode, end, tables + LITERAL_LENGTH_TABLE, LITERAL_LENGTH_ENTRIES,
      LITERAL_LENGTHS, 9, 6, LITERAL_LENGTH_COUNTS, LITERAL_LENGTHS);
    if (log < 0) return false;
    literalLengthLog = log;
  } else if (!hasTables) return false;
  mode = (modes >> 4) & 3;
  if (mode != REPEAT) {
    const log = readTable(mode, end, tables + OFFSET_TABLE, OFFSET_ENTRIES,
      OFFSETS, 8, 5, OFFSET_COUNTS, 29);
    if (log < 0) return false;
    offsetLog = log;
  } else if (!hasTables) return false;
  mode = (modes >> 2) & 3;
  if (mode != REPEAT) {
    const log = readTable(mode, end, tables + MATCH_LENGTH_TABLE, MATCH_LENGTH_ENTRIES,
      MATCH_LENGTHS, 9, 6, MATCH_LENGTH_COUNTS, MATCH_LENGTHS);
    if (log < 0) return false;
    matchLengthLog = log;
  } else if (!hasTables) return false;
  hasTables = true;
  return true;
}

/**
 * Reads the section's header up to the bits of the sequences.
 * @returns the number of sequences, or -1 if the header is invalid; `descriptionEnd` is behind it
 */
export function readSequencesHeader(src: usize, end: usize): i32 {
  if (src >= end) return -1;
  let count = <i32>load<u8>(src);
  let length: usize = 1;
  if (count == 255) {
    count = 0x7f00 + <i32>load<u16>(src, 1);
    length = 3;
  } else if (count >= 128) {
    count = ((count - 128) << 8) | <i32>load<u8>(src, 1);
    length = 2;
  }
  if (length > end - src) return -1;
  src += length;
  if (count == 0) return src == end ? 0 : -1;
  if (src >= end) return -1;
  const modes = <u32>load<u8>(src);
  if ((modes & 3) != 0) return -1;
  descriptionEnd = src + 1;
  return readTables(modes, end) ? count : -1;
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

/** Matches are executed by `copyMatch`, which takes at most 258 bytes. */
function copyLongMatch(out: usize, distance: usize, length: usize): void {
  while (length > 256) {
    copyMatch(out, distance, 128);
    out += 128;
    length -= 128;
  }
  copyMatch(out, distance, length);
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
 * Decodes and executes `count` (at least 1) sequences, whose bits follow their header.
 * @param frameStart first byte that distances reach
 * @param outEnd end of the room for the block, less than 2^24 bytes from the frame's start
 * @param tooLong status when a sequence does not fit there
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
  const start = descriptionEnd;
  let position = firstBit(start, end);
  if (position < -1) return ZSTD_INVALID;
  const tables = scratch(SEQUENCE_TABLES);
  let bits = bitsAt(start, position);
  let literalState = firstState(tables + LITERAL_LENGTH_TABLE, literalLengthLog, bits);
  bits <<= literalLengthLog;
  let offsetState = firstState(tables + OFFSET_TABLE, offsetLog, bits);
  bits <<= offsetLog;
  let matchState = firstState(tables + MATCH_LENGTH_TABLE, matchLengthLog, bits);
  position -= <i32>(literalLengthLog + offsetLog + matchLengthLog);
  let r0 = repeat0;
  let r1 = repeat1;
  let r2 = repeat2;
  if (position < -1) return ZSTD_INVALID;

  while (true) {
    const literalEntry = load<u64>(literalState);
    const offsetEntry = load<u64>(offsetState);
    const matchEntry = load<u64>(matchState);
    const sum = literalEntry + offsetEntry + matchEntry;
    // The bits of distances that can be right and of both lengths are at most 57.
    bits = bitsAt(start, position);
    let distance = offsetValue(offsetEntry, bits);
    bits <<= offsetEntry;
    const matchLength = lengthValue(matchEntry, bits);
    bits <<= matchEntry;
    const literalLength = lengthValue(literalEntry, bits);
    bits <<= literalEntry;
    position -= <i32>extraBits(sum);
    if (extraBits(sum) > 31) bits = bitsAt(start, position);
    count--;
    if (count != 0) {
      literalState = nextState(literalEntry, bits);
      bits <<= stateBits(literalEntry);
      matchState = nextState(matchEntry, bits);
      bits <<= stateBits(matchEntry);
      offsetState = nextState(offsetEntry, bits);
      position -= <i32>stateBits(sum) & 63;
    }
    if (position < -1) return ZSTD_INVALID;

    if (distance > 3) {
      distance -= 3;
      r2 = r1;
      r1 = r0;
      r0 = distance;
    } else {
      // One of the last three; without literals, one of the second, the third and the first less 1.
      const index = distance - <usize>(literalLength != 0);
      if (index != 0) {
        distance = index == 1 ? r1 : index == 2 ? r2 : r0 - 1;
        if (index != 1) r2 = r1;
        r1 = r0;
        r0 = distance;
      }
      distance = r0;
    }

    const matchAt = out + literalLength;
    // Of distance 0 the predecessor is large.
    if (distance - 1 >= matchAt - frameStart) return ZSTD_INVALID;
    if (literalLength + matchLength > outEnd - out) return tooLong;
    if (literalLength > literalsEnd - literal) return ZSTD_INVALID;
    copyLiterals(out, literal, literalLength);
    literal += literalLength;
    if (matchLength <= 258) copyMatch(matchAt, distance, matchLength);
    else copyLongMatch(matchAt, distance, matchLength);
    out = matchAt + matchLength;
    if (count == 0) break;
  }
  if (position != -1) return ZSTD_INVALID;
  repeat0 = r0;
  repeat1 = r1;
  repeat2 = r2;
  literalsAt = literal;
  outputAt = out;
  return 0;
}

/** The state of a table that the first `log` (also 0) of `bits` choose. */
// @ts-ignore: decorator
@inline
function firstState(table: usize, log: u32, bits: u64): usize {
  return table + (<usize>leading(bits, log) << 3);
}
