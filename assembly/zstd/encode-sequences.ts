// The sequences section of a compressed block (RFC 8878, 3.1.1.3.2), for the compressor.
import { buildEncodeTable, chooseLog, costOf, firstState, normalize, writeCounts } from './encode-fse';
import { highBit, increase, LENGTH_MASK, LENGTH_SHIFT, OFFSET_SHIFT, word } from './encode-layout';
import { COUNTS } from './fse';
import {
  LITERAL_LENGTH_BITS,
  LITERAL_LENGTH_COUNTS,
  MATCH_LENGTH_BITS,
  MATCH_LENGTH_COUNTS,
  OFFSET_COUNTS,
} from './sequence-tables';

// @ts-ignore: decorator
@inline const PREDEFINED: u32 = 0;
// @ts-ignore: decorator
@inline const RLE: u32 = 1;
// @ts-ignore: decorator
@inline const DESCRIBED: u32 = 2;

// @ts-ignore: decorator
@inline const LITERAL_LENGTHS: u32 = 36;
// @ts-ignore: decorator
@inline const MATCH_LENGTHS: u32 = 53;
/** Codes with a predefined share; a source is far too short for higher ones. */
// @ts-ignore: decorator
@inline const OFFSETS: u32 = 29;

/** Code and, times 256, extra bits of the least values: of literals from 0, of matches from 3. */
const LITERAL_CODES = memory.data(64 << 1, 16);
const MATCH_CODES = memory.data(128 << 1, 16);

/** Frequencies of the codes of the three kinds. */
const LITERAL_FREQUENCIES = memory.data(64 << 2, 16);
const MATCH_FREQUENCIES = memory.data(64 << 2, 16);
const OFFSET_FREQUENCIES = memory.data(64 << 2, 16);

/** The section's header while it grows: each of the three descriptions has less than 80 bytes. */
const HEADER = memory.data(256, 16);

/** Tables to encode with: states and entries, predefined ones and those of a block. */
const USUAL_LITERAL_STATES = memory.data(64 << 1, 16);
const USUAL_LITERAL_ENTRIES = memory.data(36 << 3, 16);
const USUAL_MATCH_STATES = memory.data(64 << 1, 16);
const USUAL_MATCH_ENTRIES = memory.data(53 << 3, 16);
const USUAL_OFFSET_STATES = memory.data(32 << 1, 16);
const USUAL_OFFSET_ENTRIES = memory.data(29 << 3, 16);
const LITERAL_STATES = memory.data(512 << 1, 16);
const LITERAL_ENTRIES = memory.data(36 << 3, 16);
const MATCH_STATES = memory.data(512 << 1, 16);
const MATCH_ENTRIES = memory.data(53 << 3, 16);
const OFFSET_STATES = memory.data(256 << 1, 16);
const OFFSET_ENTRIES = memory.data(29 << 3, 16);

/** Runs when the module starts, after `fillCosts`. */
export function fillSequenceCodes(): void {
  fillCodes(LITERAL_CODES, 64, 16, LITERAL_LENGTH_BITS);
  fillCodes(MATCH_CODES, 128, 32, MATCH_LENGTH_BITS);
  const literals = LITERAL_LENGTH_COUNTS;
  buildEncodeTable(literals, LITERAL_LENGTHS, 6, USUAL_LITERAL_STATES, USUAL_LITERAL_ENTRIES);
  const matches = MATCH_LENGTH_COUNTS;
  buildEncodeTable(matches, MATCH_LENGTHS, 6, USUAL_MATCH_STATES, USUAL_MATCH_ENTRIES);
  buildEncodeTable(OFFSET_COUNTS, OFFSETS, 5, USUAL_OFFSET_STATES, USUAL_OFFSET_ENTRIES);
}

function fillCodes(codes: usize, values: u32, plain: u32, bitsList: usize): void {
  let value: u32 = 0;
  for (let code: u32 = 0; value < values; code++) {
    const bits = code < plain ? 0 : <u32>load<u8>(bitsList + code - plain);
    for (let end = value + (1 << bits); value < end; value++) {
      store<u16>(codes + (<usize>value << 1), code | (bits << 8));
    }
  }
}

// @ts-ignore: decorator
@inline
function codeOf(codes: usize, values: u32, value: u32, above: u32): u32 {
  if (value < values) return load<u16>(codes + (<usize>value << 1));
  const top = highBit(value);
  return (top + above) | (top << 8);
}

/**
 * Replaces each sequence by its extra bits, and stores its codes at `codes`: of the match length in
 * bits 0-7, of the literal length in 8-15, of the offset in 16-23; the extra bits' number in 24-31.
 */
function encodeValues(sequences: usize, sequencesEnd: usize, codes: usize): void {
  memory.fill(LITERAL_FREQUENCIES, 0, 64 << 2);
  memory.fill(MATCH_FREQUENCIES, 0, 64 << 2);
  memory.fill(OFFSET_FREQUENCIES, 0, 64 << 2);
  for (; sequences < sequencesEnd; sequences += 8) {
    const sequence = load<u64>(sequences);
    const run = <u32>sequence & LENGTH_MASK;
    const length = <u32>(sequence >> LENGTH_SHIFT) & LENGTH_MASK;
    const offset = <u32>(sequence >> OFFSET_SHIFT);
    const literal = codeOf(LITERAL_CODES, 64, run, 19);
    const match = codeOf(MATCH_CODES, 128, length, 36);
    const offsetCode = highBit(offset);
    increase(LITERAL_FREQUENCIES, literal & 255);
    increase(MATCH_FREQUENCIES, match & 255);
    increase(OFFSET_FREQUENCIES, offsetCode);
    // Bases are multiples of the power of two of their extra bits.
    const literalBits = literal >> 8;
    const matchBits = match >> 8;
    let bits = <u64>(offset ^ (1 << offsetCode));
    bits = (bits << matchBits) | (length & ((1 << matchBits) - 1));
    bits = (bits << literalBits) | (run & ((1 << literalBits) - 1));
    store<u64>(sequences, bits);
    const total = literalBits + matchBits + offsetCode;
    store<u32>(codes, (match & 255) | ((literal & 255) << 8) | (offsetCode << 16) | (total << 24));
    codes += 4;
  }
}

/** Results of `chooseTable`, besides the mode. */
let tableLog: u32 = 0;
let entries: usize = 0;
let descriptionEnd: usize = 0;

/** Chooses the shortest form for the codes of one kind, and writes its description; its mode. */
function chooseTable(
  out: usize,
  frequencies: usize,
  total: u32,
  symbols: u32,
  maxLog: u32,
  usualShares: usize,
  usualLog: u32,
  usualEntries: usize,
  states: usize,
  ownEntries: usize,
): u32 {
  while (word(frequencies, symbols - 1) == 0) symbols--;
  const usual = costOf(frequencies, symbols, usualShares, usualLog);
  tableLog = usualLog;
  entries = usualEntries;
  descriptionEnd = out;
  if (word(frequencies, symbols - 1) == total) {
    if (usual <= 8 << 8) return PREDEFINED;
    store<u8>(out, symbols - 1);
    descriptionEnd = out + 1;
    tableLog = 0;
    entries = ownEntries;
    // The one state, which is never left.
    store<u16>(states, 1);
    const entry = ownEntries + (<usize>(symbols - 1) << 3);
    store<u32>(entry, -1);
    store<u32>(entry, states - 2, 4);
    return RLE;
  }
  const log = chooseLog(total, symbols, maxLog);
  normalize(frequencies, symbols, total, log);
  const end = writeCounts(out, symbols, log);
  if (usual <= costOf(frequencies, symbols, COUNTS, log) + (<u32>(end - out) << 11)) {
    return PREDEFINED;
  }
  buildEncodeTable(COUNTS, symbols, log, states, ownEntries);
  descriptionEnd = end;
  tableLog = log;
  entries = ownEntries;
  return DESCRIBED;
}

function writeNumber(out: usize, count: u32): usize {
  if (count < 128) {
    store<u8>(out, count);
    return out + 1;
  }
  if (count < 0x7f00) {
    store<u8>(out, 128 + (count >> 8));
    store<u8>(out, count, 1);
    return out + 2;
  }
  store<u8>(out, 255);
  store<u16>(out, count - 0x7f00, 1);
  return out + 3;
}

/** Copies what is in `HEADER` up to `headerEnd`; where it ends, or 0 if it does not fit. */
function copyHeader(out: usize, outEnd: usize, headerEnd: usize): usize {
  const length = headerEnd - HEADER;
  if (length > outEnd - out) return 0;
  memory.copy(out, HEADER, length);
  return out + length;
}

/**
 * Writes the section of the parser's sequences, in whole words: up to 24 bytes behind `outEnd` change.
 * @param codes memory for a u32 for each
 * @returns where it ends, or 0 if it does not fit
 */
export function writeSequences(
  out: usize,
  outEnd: usize,
  sequences: usize,
  sequencesEnd: usize,
  codes: usize,
): usize {
  const count = <u32>((sequencesEnd - sequences) >> 3);
  const modesAt = writeNumber(HEADER, count);
  if (count == 0) return copyHeader(out, outEnd, modesAt);
  encodeValues(sequences, sequencesEnd, codes);
  const literalMode = chooseTable(
    modesAt + 1,
    LITERAL_FREQUENCIES,
    count,
    LITERAL_LENGTHS,
    9,
    LITERAL_LENGTH_COUNTS,
    6,
    USUAL_LITERAL_ENTRIES,
    LITERAL_STATES,
    LITERAL_ENTRIES,
  );
  const literalLog = tableLog;
  const literals = entries;
  const offsetMode = chooseTable(
    descriptionEnd,
    OFFSET_FREQUENCIES,
    count,
    OFFSETS,
    8,
    OFFSET_COUNTS,
    5,
    USUAL_OFFSET_ENTRIES,
    OFFSET_STATES,
    OFFSET_ENTRIES,
  );
  const offsetLog = tableLog;
  const offsets = entries;
  const matchMode = chooseTable(
    descriptionEnd,
    MATCH_FREQUENCIES,
    count,
    MATCH_LENGTHS,
    9,
    MATCH_LENGTH_COUNTS,
    6,
    USUAL_MATCH_ENTRIES,
    MATCH_STATES,
    MATCH_ENTRIES,
  );
  store<u8>(modesAt, (literalMode << 6) | (offsetMode << 4) | (matchMode << 2));
  const matchLog = tableLog;
  const bitsAt = copyHeader(out, outEnd, descriptionEnd);
  if (bitsAt == 0) return 0;
  return writeBits(
    bitsAt,
    outEnd,
    sequences,
    codes,
    count,
    literals,
    literalLog,
    offsets,
    offsetLog,
    entries,
    matchLog,
  );
}

// @ts-ignore: decorator
@inline
function entryOf(table: usize, code: u32): usize {
  return table + <usize>(code << 3);
}

/** Bits that lead to the state of a symbol from `state`. */
// @ts-ignore: decorator
@inline
function stateBits(entry: usize, state: u32): u32 {
  return (state + load<u32>(entry)) >> 16;
}

// @ts-ignore: decorator
@inline
function nextState(entry: usize, state: u32, bits: u32): u32 {
  return <u32>load<u16>(<usize>load<u32>(entry, 4) + (<usize>(state >> bits) << 1));
}

// @ts-ignore: decorator
@inline
function low(value: u32, bits: u32): u64 {
  return <u64>(value & ((1 << bits) - 1));
}

/** Writes the bits of all sequences, the last one first; where they end, or 0 if they do not fit. */
function writeBits(
  out: usize,
  outEnd: usize,
  sequences: usize,
  codes: usize,
  count: u32,
  literals: usize,
  literalLog: u32,
  offsets: usize,
  offsetLog: u32,
  matches: usize,
  matchLog: u32,
): usize {
  let at = codes + (<usize>(count - 1) << 2);
  let extra = sequences + (<usize>(count - 1) << 3);
  const last = load<u32>(at);
  let literal = firstState(entryOf(literals, (last >> 8) & 255));
  let offset = firstState(entryOf(offsets, (last >> 16) & 255));
  let match = firstState(entryOf(matches, last & 255));
  let bits = load<u64>(extra);
  let held = <u64>(last >> 24);
  store<u64>(out, bits);
  out += <usize>(held >> 3);
  bits >>= held & 56;
  held &= 7;
  while (at > codes) {
    at -= 4;
    extra -= 8;
    if (out > outEnd) return 0;
    const code = load<u32>(at);
    const offsetEntry = entryOf(offsets, (code >> 16) & 255);
    const matchEntry = entryOf(matches, code & 255);
    const literalEntry = entryOf(literals, (code >> 8) & 255);
    const offsetBits = stateBits(offsetEntry, offset);
    const matchBits = stateBits(matchEntry, match);
    const literalBits = stateBits(literalEntry, literal);
    const two = low(offset, offsetBits) | (low(match, matchBits) << offsetBits);
    const three = two | (low(literal, literalBits) << (offsetBits + matchBits));
    bits |= three << held;
    held += <u64>(offsetBits + matchBits + literalBits);
    offset = nextState(offsetEntry, offset, offsetBits);
    match = nextState(matchEntry, match, matchBits);
    literal = nextState(literalEntry, literal, literalBits);
    // 33 bits are held at most, and shifts are modulo 64: with 31 more all of them would stay.
    if (code >> 24 > 30) {
      store<u64>(out, bits);
      out += <usize>(held >> 3);
      bits >>= held & 56;
      held &= 7;
    }
    bits |= load<u64>(extra) << held;
    held += <u64>(code >> 24);
    store<u64>(out, bits);
    out += <usize>(held >> 3);
    bits >>= held & 56;
    held &= 7;
  }
  bits |= low(match, matchLog) << held;
  held += matchLog;
  bits |= low(offset, offsetLog) << held;
  held += offsetLog;
  bits |= low(literal, literalLog) << held;
  held += literalLog;
  bits |= (<u64>1) << held;
  store<u64>(out, bits);
  out += <usize>(held >> 3) + 1;
  return out > outEnd ? 0 : out;
}
