// The header of the sequences section of a block and its tables (RFC 8878, 3.1.1.3.2).
import {
  accuracyLog,
  BASE_SHIFT,
  buildSingle,
  buildTable,
  COUNTS,
  readCounts,
  symbolCount,
} from './fse';

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
/** Codes that have a predefined probability. */
// @ts-ignore: decorator
@inline const USUAL_OFFSETS: u32 = 29;

/** Extra bits of the codes from 16 (literal lengths) and 32 (match lengths) on. */
export const LITERAL_LENGTH_BITS = memory.data<u8>([
  1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
]);
export const MATCH_LENGTH_BITS = memory.data<u8>([
  1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
]);

/** Predefined distributions (RFC 8878, 3.1.1.3.2.2). */
export const LITERAL_LENGTH_COUNTS = memory.data<i16>([
  4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1,
  -1, -1, -1,
]);
export const MATCH_LENGTH_COUNTS = memory.data<i16>([
  1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
  1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
]);
export const OFFSET_COUNTS = memory.data<i16>([
  1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1,
]);

/** Base and extra bits of each code, as in a table entry. */
const LITERAL_LENGTH_ENTRIES = memory.data(LITERAL_LENGTHS << 3, 16);
const MATCH_LENGTH_ENTRIES = memory.data(MATCH_LENGTHS << 3, 16);
const OFFSET_ENTRIES = memory.data(OFFSETS << 3, 16);

/** The tables, kept from block to block; in the first 64 KiB, as all data of the module. */
export const LITERAL_LENGTH_TABLE = memory.data(512 << 3, 16);
export const MATCH_LENGTH_TABLE = memory.data(512 << 3, 16);
export const OFFSET_TABLE = memory.data(256 << 3, 16);

export let literalLengthLog: u32 = 0;
export let matchLengthLog: u32 = 0;
export let offsetLog: u32 = 0;
/** Whether an earlier block of the frame left its three tables. */
let hasTables: bool = false;

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

/** Forgets the tables: frames do not share them. */
export function forgetTables(): void {
  hasTables = false;
}

/** End of the table description read last: behind the header, where the bits begin. */
export let descriptionEnd: usize = 0;

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
  const literalMode = modes >> 6;
  const offsetMode = (modes >> 4) & 3;
  const matchMode = (modes >> 2) & 3;
  const repeats = literalMode == REPEAT || offsetMode == REPEAT || matchMode == REPEAT;
  if (repeats && !hasTables) return false;
  if (literalMode != REPEAT) {
    const log = readTable(
      literalMode,
      end,
      LITERAL_LENGTH_TABLE,
      LITERAL_LENGTH_ENTRIES,
      LITERAL_LENGTHS,
      9,
      6,
      LITERAL_LENGTH_COUNTS,
      LITERAL_LENGTHS,
    );
    if (log < 0) return false;
    literalLengthLog = log;
  }
  if (offsetMode != REPEAT) {
    const log = readTable(
      offsetMode,
      end,
      OFFSET_TABLE,
      OFFSET_ENTRIES,
      OFFSETS,
      8,
      5,
      OFFSET_COUNTS,
      USUAL_OFFSETS,
    );
    if (log < 0) return false;
    offsetLog = log;
  }
  if (matchMode != REPEAT) {
    const log = readTable(
      matchMode,
      end,
      MATCH_LENGTH_TABLE,
      MATCH_LENGTH_ENTRIES,
      MATCH_LENGTHS,
      9,
      6,
      MATCH_LENGTH_COUNTS,
      MATCH_LENGTHS,
    );
    if (log < 0) return false;
    matchLengthLog = log;
  }
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

