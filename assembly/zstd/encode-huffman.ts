// Huffman codes of literals for the compressor (RFC 8878, 4.2): their description and streams.
import { buildLengths } from '../deflate-code';
import {
  buildEncodeTable,
  chooseLog,
  firstState,
  normalize,
  writeCounts,
} from './encode-fse';
import { highBit, increase, setWord, word } from './encode-layout';
import { COUNTS } from './fse';

// @ts-ignore: decorator
@inline const MAX_LENGTH: u32 = 11;
// @ts-ignore: decorator
@inline const MAX_WEIGHT_LOG: u32 = 6;
/** Most weights that fit a description of four bits each. */
// @ts-ignore: decorator
@inline const MAX_PLAIN_WEIGHTS: u32 = 128;

/** Frequencies of the literals in use; four of them, since one alone waits for its own stores. */
export const FREQUENCIES = memory.data(4 * 256 << 2, 16);
const LENGTHS = memory.data(256, 16);
const WEIGHTS = memory.data(256, 16);
/** Codewords as `length << 24 | bits`. */
const CODES = memory.data(256 << 2, 16);
/** The description: 255 weights of at most 6 bits, their distribution, and what stores add. */
export const TREE = memory.data(256, 16);
const LENGTH_COUNTS = memory.data(16 << 2, 16);
const NEXT = memory.data(16 << 2, 16);
const WEIGHT_FREQUENCIES = memory.data(16 << 2, 16);
const WEIGHT_STATES = memory.data(64 << 1, 16);
const WEIGHT_ENTRIES = memory.data(16 << 3, 16);

/** Results of `count`: symbols up to the highest in use, and the frequency of the most frequent. */
export let symbols: u32 = 0;
export let mostFrequent: u32 = 0;
/** Bits of the longest codeword. */
let longest: u32 = 0;

// @ts-ignore: decorator
@inline
function countByte(part: usize, bytes: u64): void {
  increase(FREQUENCIES + (part << 10), <u32>bytes & 255);
}

/** Counts the bytes `from .. to`. */
export function count(from: usize, to: usize): void {
  memory.fill(FREQUENCIES, 0, 4 * 256 << 2);
  for (; from + 8 <= to; from += 8) {
    const bytes = load<u64>(from);
    countByte(0, bytes);
    countByte(1, bytes >> 8);
    countByte(2, bytes >> 16);
    countByte(3, bytes >> 24);
    countByte(0, bytes >> 32);
    countByte(1, bytes >> 40);
    countByte(2, bytes >> 48);
    countByte(3, bytes >> 56);
  }
  for (; from < to; from++) countByte(0, load<u8>(from));
  symbols = 0;
  mostFrequent = 0;
  for (let symbol: u32 = 0; symbol < 256; symbol++) {
    const at = FREQUENCIES + (<usize>symbol << 2);
    const frequency = load<u32>(at) + load<u32>(at, 1 << 10) + load<u32>(at, 2 << 10) +
      load<u32>(at, 3 << 10);
    store<u32>(at, frequency);
    if (frequency != 0) symbols = symbol + 1;
    mostFrequent = max(mostFrequent, frequency);
  }
}

/** Builds the code of the `total` bytes counted; the bits they take. */
export function buildCode(total: u32): u32 {
  // Longer codewords would cost more in the description than they save.
  const worth = highBit(total - 1) - 1;
  const limit = min(max(worth, highBit(symbols) + 1), MAX_LENGTH);
  buildLengths(FREQUENCIES, symbols, limit, LENGTHS);
  memory.fill(LENGTH_COUNTS, 0, 16 << 2);
  let bits: u32 = 0;
  for (let symbol: u32 = 0; symbol < symbols; symbol++) {
    const length = <u32>load<u8>(LENGTHS + symbol);
    bits += length * word(FREQUENCIES, symbol);
    increase(LENGTH_COUNTS, length);
  }
  longest = limit;
  while (word(LENGTH_COUNTS, longest) == 0) longest--;
  // The longest codewords are the lowest.
  let next: u32 = 0;
  for (let length = longest; length > 0; length--) {
    setWord(NEXT, length, next);
    next = (next + word(LENGTH_COUNTS, length)) >> 1;
  }
  for (let symbol: u32 = 0; symbol < symbols; symbol++) {
    const length = <u32>load<u8>(LENGTHS + symbol);
    const code = word(NEXT, length);
    setWord(NEXT, length, code + 1);
    setWord(CODES, symbol, (length << 24) | code);
    store<u8>(WEIGHTS + symbol, length == 0 ? 0 : longest + 1 - length);
  }
  return bits;
}

/** Describes the code in `TREE`; the bytes this takes, or 0 if there is no description. */
export function describeTree(): usize {
  // The weight of the last symbol follows from the others.
  const weights = symbols - 1;
  const packed = packWeights(TREE + 1, weights);
  const plain = (weights + 1) >> 1;
  if (packed != 0 && packed < 128 && (packed < plain || weights > MAX_PLAIN_WEIGHTS)) {
    store<u8>(TREE, packed);
    return 1 + packed;
  }
  if (weights > MAX_PLAIN_WEIGHTS) return 0;
  store<u8>(TREE, 127 + weights);
  store<u8>(WEIGHTS + weights, 0);
  for (let i: u32 = 0; i < plain; i++) {
    const pair = load<u16>(WEIGHTS + (i << 1));
    store<u8>(TREE + 1 + i, (pair << 4) | (pair >> 8));
  }
  return 1 + plain;
}

/** Writes the weights by finite state entropy; the bytes they take, or 0 if all are equal. */
function packWeights(out: usize, weights: u32): u32 {
  memory.fill(WEIGHT_FREQUENCIES, 0, 16 << 2);
  for (let i: u32 = 0; i < weights; i++) increase(WEIGHT_FREQUENCIES, load<u8>(WEIGHTS + i));
  let used: u32 = 0;
  let kinds: u32 = 0;
  for (let weight: u32 = 0; weight <= MAX_LENGTH; weight++) {
    if (word(WEIGHT_FREQUENCIES, weight) == 0) continue;
    used++;
    kinds = weight + 1;
  }
  if (used < 2) return 0;
  const log = chooseLog(weights, kinds, MAX_WEIGHT_LOG);
  normalize(WEIGHT_FREQUENCIES, kinds, weights, log);
  const start = out;
  out = writeCounts(out, kinds, log);
  buildEncodeTable(COUNTS, kinds, log, WEIGHT_STATES, WEIGHT_ENTRIES);
  return <u32>(writeWeights(out, weights, log) - start);
}

// @ts-ignore: decorator
@inline
function weightEntry(i: u32): usize {
  return WEIGHT_ENTRIES + (<usize>load<u8>(WEIGHTS + i) << 3);
}

/** Writes the weights, of which there are two or more, from the last on: two states take turns. */
function writeWeights(out: usize, weights: u32, log: u32): usize {
  let bits: u64 = 0;
  let held: u64 = 0;
  let at = weights - 2;
  let state = firstState(weightEntry(at));
  let other = firstState(weightEntry(at + 1));
  while (at > 0) {
    // The weight in front of both belongs to the state of the second.
    const entry = weightEntry(--at);
    const count = (other + load<u32>(entry)) >> 16;
    bits |= <u64>(other & ((1 << count) - 1)) << held;
    held += count;
    const next = <u32>load<u16>(<usize>load<u32>(entry, 4) + (<usize>(other >> count) << 1));
    other = state;
    state = next;
    store<u64>(out, bits);
    out += <usize>(held >> 3);
    bits >>= held & 56;
    held &= 7;
  }
  const mask: u32 = (1 << log) - 1;
  bits |= <u64>(other & mask) << held;
  held += log;
  bits |= <u64>(state & mask) << held;
  held += log;
  bits |= (<u64>1) << held;
  store<u64>(out, bits);
  return out + <usize>(held >> 3) + 1;
}

// @ts-ignore: decorator
@inline
function codeword(at: usize): u32 {
  return word(CODES, load<u8>(at));
}

/** Writes the codewords of `from .. to` as a stream that is read backwards; where it ends. */
export function writeStream(out: usize, from: usize, to: usize): usize {
  let bits: u64 = 0;
  let held: u64 = 0;
  while (<u32>(to - from) & 3) {
    const code = codeword(--to);
    bits |= <u64>(code & 0xffff) << held;
    held += <u64>(code >> 24);
  }
  store<u64>(out, bits);
  out += <usize>(held >> 3);
  bits >>= held & 56;
  held &= 7;
  while (to > from) {
    to -= 4;
    const d = codeword(to + 3);
    const c = codeword(to + 2);
    const b = codeword(to + 1);
    const a = codeword(to);
    // Four codewords have at most 44 bits, and join pair by pair; only the last step waits.
    const behind = <u64>(d & 0xffff) | (<u64>(c & 0xffff) << (d >> 24));
    const before = <u64>(b & 0xffff) | (<u64>(a & 0xffff) << (b >> 24));
    bits |= (behind | (before << ((c + d) >> 24))) << held;
    held += <u64>((a + b + c + d) >> 24);
    store<u64>(out, bits);
    out += <usize>(held >> 3);
    bits >>= held & 56;
    held &= 7;
  }
  bits |= (<u64>1) << held;
  store<u64>(out, bits);
  return out + <usize>(held >> 3) + 1;
}
