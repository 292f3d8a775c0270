// Huffman codes of literals (RFC 8878, 4.2): their description and decode table.
//
// A table entry (u32), found by the next 11 bits of a stream, is one symbol or two:
//   bits 0-5    length of the codewords together
//   bits 8-15   first symbol
//   bits 16-23  second symbol, or 0
//   bits 24-27  length of the first codeword
//   bits 30-31  symbols
import {
  accuracyLog,
  BASE_SHIFT,
  buildTable,
  COUNTS,
  baseValue,
  nextState,
  readCounts,
  stateBits,
  symbolCount,
} from './fse';
import { bitsAt, firstBit, leading, HUFFMAN_TABLE, scratch, SECOND_TABLE, SINGLE_TABLE } from './layout';

/** Longest codeword in bits, which are also those that index the table. */
// @ts-ignore: decorator
@inline export const MAX_LENGTH: u32 = 11;
// @ts-ignore: decorator
@inline const MAX_WEIGHT_LOG: u32 = 6;
// @ts-ignore: decorator
@inline const TABLE_SIZE: u32 = 1 << MAX_LENGTH;

const WEIGHTS = memory.data(256 + 8);
const WEIGHT_TABLE = memory.data(64 << 3, 16);
const WEIGHT_ENTRIES = memory.data(12 << 3, 16);
/** Symbols of each weight, and where they begin in the sorted list. */
const WEIGHT_COUNTS = memory.data(16 << 2, 16);
const WEIGHT_STARTS = memory.data(16 << 2, 16);
const SORTED = memory.data(256);

/** Runs when the module starts. */
export function fillWeightEntries(): void {
  for (let weight: u32 = 0; weight <= MAX_LENGTH; weight++) {
    store<u64>(WEIGHT_ENTRIES + (weight << 3), weight << BASE_SHIFT);
  }
}

/**
 * Reads a tree description and builds the decode table.
 * @returns its length in bytes, or 0 if it is none
 */
export function readTree(src: usize, end: usize): usize {
  if (src >= end) return 0;
  const header = <usize>load<u8>(src);
  src++;
  let weights: u32;
  let length: usize;
  if (header >= 128) {
    weights = <u32>header - 127;
    length = (<usize>weights + 1) >> 1;
    if (length > end - src) return 0;
    for (let i: usize = 0; i < length; i++) {
      const pair = <u32>load<u8>(src + i);
      store<u8>(WEIGHTS + (i << 1), pair >> 4);
      store<u8>(WEIGHTS + (i << 1) + 1, pair & 15);
    }
  } else {
    length = header;
    if (length > end - src) return 0;
    weights = readPackedWeights(src, src + length);
  }
  if (weights == 0) return 0;
  const highest = completeWeights(weights);
  if (highest == 0) return 0;
  buildSingles(weights + 1, highest);
  buildPairs(highest);
  return length + 1;
}

/** Decodes at most 255 weights; returns how many, or 0. */
function readPackedWeights(src: usize, end: usize): u32 {
  const header = readCounts(src, end, MAX_LENGTH, MAX_WEIGHT_LOG);
  if (header == 0) return 0;
  const log = accuracyLog;
  buildTable(COUNTS, symbolCount, log, WEIGHT_ENTRIES, WEIGHT_TABLE);
  const start = src + header;
  let position = firstBit(start, end);
  if (position < 0) return 0;
  let bits = bitsAt(start, position);
  let even = WEIGHT_TABLE + (<usize>leading(bits, log) << 3);
  bits <<= log;
  let odd = WEIGHT_TABLE + (<usize>leading(bits, log) << 3);
  position -= <i32>(log << 1);
  if (position < -1) return 0;
  // Two states take turns, until one cannot be followed; the other then has one symbol left.
  let count: u32 = 0;
  while (count < 254) {
    const entry = load<u64>(even);
    store<u8>(WEIGHTS + count, <u8>baseValue(entry));
    count++;
    const next = nextState(even, bitsAt(start, position));
    position -= <i32>stateBits(entry) & 15;
    even = odd;
    odd = next;
    if (position < -1) {
      store<u8>(WEIGHTS + count, <u8>baseValue(load<u64>(even)));
      return count + 1;
    }
  }
  return 0;
}

// @ts-ignore: decorator
@inline
function weightCount(weight: u32): u32 {
  return load<u32>(WEIGHT_COUNTS + (weight << 2));
}

/**
 * Appends the weight of the last symbol, which makes the code complete, and counts the weights.
 * @returns the length of the longest codeword, or 0 if there is no such code
 */
function completeWeights(weights: u32): u32 {
  memory.fill(WEIGHT_COUNTS, 0, 16 << 2);
  let total: u32 = 0;
  for (let i: u32 = 0; i < weights; i++) {
    const weight = <u32>load<u8>(WEIGHTS + i);
    if (weight > MAX_LENGTH) return 0;
    total += ((<u32>1) << weight) >> 1;
    store<u32>(WEIGHT_COUNTS + (weight << 2), weightCount(weight) + 1);
  }
  if (total == 0) return 0;
  const log: u32 = 32 - clz<u32>(total);
  if (log > MAX_LENGTH) return 0;
  const rest = (<u32>1 << log) - total;
  if ((rest & (rest - 1)) != 0) return 0;
  const last: u32 = 32 - clz<u32>(rest);
  store<u8>(WEIGHTS + weights, last);
  store<u32>(WEIGHT_COUNTS + (last << 2), weightCount(last) + 1);
  // Without codewords of the greatest length the lengths would be wrong; compressors never do it.
  return weightCount(1) >= 2 ? log : 0;
}

/** Sorts the symbols and fills the table of single symbols: symbol << 8 | length of the codeword. */
function buildSingles(symbols: u32, highest: u32): void {
  let start: u32 = 0;
  for (let weight: u32 = 1; weight <= highest; weight++) {
    store<u32>(WEIGHT_STARTS + (weight << 2), start);
    start += weightCount(weight);
  }
  for (let symbol: u32 = 0; symbol < symbols; symbol++) {
    const weight = <u32>load<u8>(WEIGHTS + symbol);
    if (weight == 0) continue;
    const at = WEIGHT_STARTS + (weight << 2);
    const place = load<u32>(at);
    store<u8>(SORTED + place, <u8>symbol);
    store<u32>(at, place + 1);
  }
  let out = scratch(SINGLE_TABLE);
  let sorted: usize = SORTED;
  for (let weight: u32 = 1; weight <= highest; weight++) {
    const length = highest + 1 - weight;
    const bytes = (<usize>1 << (MAX_LENGTH - length)) << 1;
    const end = sorted + weightCount(weight);
    for (; sorted < end; sorted++) {
      const pattern = <u64>(((<u32>load<u8>(sorted)) << 8) | length) * 0x0001_0001_0001_0001;
      // Ascending: what is written too much is written over.
      for (let i: usize = 0; i < bytes; i += 8) store<u64>(out + i, pattern);
      out += bytes;
    }
  }
}

/** Entries that follow a first symbol whose codeword has `length` bits; its own place stays 0. */
function buildSeconds(length: u32): void {
  const room = MAX_LENGTH - length;
  const singles = scratch(SINGLE_TABLE);
  const seconds = scratch(SECOND_TABLE);
  const size: usize = 1 << room;
  for (let i: usize = 0; i < size; i++) {
    const single = <u32>load<u16>(singles + (i << (length + 1)));
    const second = single & 0xff;
    const entry =
      second <= room
        ? (2 << 30) | ((single & 0xff00) << 8) | (length + second)
        : (1 << 30) | length;
    store<u32>(seconds + (i << 2), entry | (length << 24));
  }
}

function buildPairs(highest: u32): void {
  let out = scratch(HUFFMAN_TABLE);
  const seconds = scratch(SECOND_TABLE);
  let sorted: usize = SORTED;
  for (let weight: u32 = 1; weight <= highest; weight++) {
    const symbols = weightCount(weight);
    if (symbols == 0) continue;
    const length = highest + 1 - weight;
    buildSeconds(length);
    const bytes = (<usize>1 << (MAX_LENGTH - length)) << 2;
    const end = sorted + symbols;
    for (; sorted < end; sorted++) {
      const first = <u32>load<u8>(sorted) << 8;
      const pattern = (<u64>first << 32) | <u64>first;
      // Ascending: of one entry alone the second is written over, by the next or behind the table.
      for (let i: usize = 0; i < bytes; i += 8) {
        store<u64>(out + i, load<u64>(seconds + i) | pattern);
      }
      out += bytes;
    }
  }
}

// A stream in the loops below is the address of a word and that word, shifted so that the next bit
// is the highest; a one follows the last valid bit, so that the zeros behind it count the bits used.

// @ts-ignore: decorator
@inline
function entryAt(table: usize, bits: u64): u32 {
  return load<u32>(table + (<usize>(bits >> (64 - MAX_LENGTH)) << 2));
}

/** The word at `at` for a stream that begins there with its highest byte; it ends in a mark. */
// @ts-ignore: decorator
@inline
function openStream(at: usize): u64 {
  return (load<u64>(at) | 1) << ((clz<u32>(load<u8>(at, 7)) - 23) & 63);
}

/** Bytes of the word that are used up. */
// @ts-ignore: decorator
@inline
function usedBytes(bits: u64): usize {
  return <usize>(ctz<u64>(bits) >> 3);
}

/** The word that `at` points to after the used bytes were left. */
// @ts-ignore: decorator
@inline
function refilled(at: usize, bits: u64): u64 {
  return (load<u64>(at) | 1) << (ctz<u64>(bits) & 7);
}

/** Where `decodeFive` stopped writing. */
let written: usize = 0;

/** Writes the symbols of five entries, at most ten, and a byte more; returns the bits left. */
// @ts-ignore: decorator
@inline
function decodeFive(table: usize, bits: u64, out: usize): u64 {
  let entry = entryAt(table, bits);
  bits <<= <u64>entry;
  store<u16>(out, <u16>(entry >> 8));
  out += entry >> 30;
  entry = entryAt(table, bits);
  bits <<= <u64>entry;
  store<u16>(out, <u16>(entry >> 8));
  out += entry >> 30;
  entry = entryAt(table, bits);
  bits <<= <u64>entry;
  store<u16>(out, <u16>(entry >> 8));
  out += entry >> 30;
  entry = entryAt(table, bits);
  bits <<= <u64>entry;
  store<u16>(out, <u16>(entry >> 8));
  out += entry >> 30;
  entry = entryAt(table, bits);
  store<u16>(out, <u16>(entry >> 8));
  written = out + (entry >> 30);
  return bits << <u64>entry;
}

/** Decodes the rest of one stream, which must be used up exactly. */
function decodeRest(start: usize, at: usize, bits: u64, out: usize, outEnd: usize): bool {
  const table = scratch(HUFFMAN_TABLE);
  const earliest = start - 8;
  while (out + 10 <= outEnd && at > earliest) {
    bits = decodeFive(table, bits, out);
    out = written;
    at -= usedBytes(bits);
    bits = refilled(at, bits);
  }
  while (out < outEnd && at > earliest) {
    const entry = entryAt(table, bits);
    if (out + 2 <= outEnd) {
      bits <<= <u64>entry;
      store<u16>(out, <u16>(entry >> 8));
      out += entry >> 30;
    } else {
      bits <<= <u64>((entry >> 24) & 15);
      store<u8>(out++, <u8>(entry >> 8));
    }
    at -= usedBytes(bits);
    bits = refilled(at, bits);
  }
  // The bits left of the word must be those in front of the stream.
  return out == outEnd && <i32>((at + 8 - start) << 3) == <i32>ctz<u64>(bits);
}

/** Decodes one stream into `length` symbols. */
export function decodeOne(src: usize, end: usize, out: usize, length: usize): bool {
  if (firstBit(src, end) < -1) return false;
  return decodeRest(src, end - 8, openStream(end - 8), out, out + length);
}

/** How often 7 bytes can be taken of a stream at `at`, before it is in front of its first byte. */
// @ts-ignore: decorator
@inline
function turnsLeft(at: usize, start: usize): i32 {
  return (<i32>(at - start) + 8) / 7;
}

/** Decodes four streams behind their jump table into `length` symbols. */
export function decodeFour(src: usize, end: usize, out: usize, length: usize): bool {
  if (length < 6 || end - src < 10) return false;
  const start0 = src + 6;
  const start1 = start0 + load<u16>(src);
  const start2 = start1 + load<u16>(src, 2);
  const start3 = start2 + load<u16>(src, 4);
  if (start3 >= end) return false;
  if (firstBit(start0, start1) < -1 || firstBit(start1, start2) < -1) return false;
  if (firstBit(start2, start3) < -1 || firstBit(start3, end) < -1) return false;

  const quarter = (length + 3) >> 2;
  const end0 = out + quarter;
  const end1 = end0 + quarter;
  const end2 = end1 + quarter;
  const end3 = out + length;
  let out0 = out;
  let out1 = end0;
  let out2 = end1;
  let out3 = end2;
  let at0 = start1 - 8;
  let at1 = start2 - 8;
  let at2 = start3 - 8;
  let at3 = end - 8;
  let bits0 = openStream(at0);
  let bits1 = openStream(at1);
  let bits2 = openStream(at2);
  let bits3 = openStream(at3);
  const table = scratch(HUFFMAN_TABLE);
  while (true) {
    const room = min(min(end0 - out0, end1 - out1), min(end2 - out2, end3 - out3));
    const input0 = min(turnsLeft(at0, start0), turnsLeft(at1, start1));
    const input2 = min(turnsLeft(at2, start2), turnsLeft(at3, start3));
    let turns = min(<i32>(room / 10), min(input0, input2));
    if (turns <= 0) break;
    do {
      bits0 = decodeFive(table, bits0, out0);
      out0 = written;
      bits1 = decodeFive(table, bits1, out1);
      out1 = written;
      bits2 = decodeFive(table, bits2, out2);
      out2 = written;
      bits3 = decodeFive(table, bits3, out3);
      out3 = written;
      at0 -= usedBytes(bits0);
      bits0 = refilled(at0, bits0);
      at1 -= usedBytes(bits1);
      bits1 = refilled(at1, bits1);
      at2 -= usedBytes(bits2);
      bits2 = refilled(at2, bits2);
      at3 -= usedBytes(bits3);
      bits3 = refilled(at3, bits3);
    } while (--turns);
  }
  return (
    decodeRest(start0, at0, bits0, out0, end0) &&
    decodeRest(start1, at1, bits1, out1, end1) &&
    decodeRest(start2, at2, bits2, out2, end2) &&
    decodeRest(start3, at3, bits3, out3, end3)
  );
}
