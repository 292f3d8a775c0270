// Match finder of the compressor: two hash tables, of 8 bytes and of 4 or 5, with one position each.
//
// Positions count from the start of the source, so a cleared entry is the first byte: a candidate
// like any other, since all are compared byte by byte. Positions are u16 where they fit.
import { LENGTH_SHIFT, OFFSET_SHIFT } from './encode-layout';

/** Bytes that a hash is made of; behind `end - SEARCH_BYTES` there are only literals. */
// @ts-ignore: decorator
@inline const SEARCH_BYTES: usize = 8;
/** Bytes without a match after which the stride between searches grows by one. */
// @ts-ignore: decorator
@inline const PATIENCE: usize = 256;
// @ts-ignore: decorator
@inline const MAX_STRIDE: usize = 32;
/** The low half has 21 bits, so that the high half of its products is exact in doubles. */
// @ts-ignore: decorator
@inline const MULTIPLIER: u64 = 0x9e37_79b1_001b_873d;

/** The last two distances, kept from block to block. */
export let distance0: usize = 1;
export let distance1: usize = 4;
/** Results of `parse`: behind the last sequence and the last literal. */
export let sequencesEnd: usize = 0;
export let literalsEnd: usize = 0;

/** Sets the distances (RFC 8878, 3.1.1.5), those that a frame begins with or a block did. */
export function setDistances(first: usize, second: usize): void {
  distance0 = first;
  distance1 = second;
}

// @ts-ignore: decorator
@inline
function longSlot<T>(table: usize, bytes: u64, shift: u64): usize {
  return table + (<usize>((bytes * MULTIPLIER) >> shift) << alignof<T>());
}

// @ts-ignore: decorator
@inline
function shortSlot<T>(table: usize, bytes: u64, skip: u64, shift: u64): usize {
  return table + (<usize>(((bytes << skip) * MULTIPLIER) >> shift) << alignof<T>());
}

/** Number of equal bytes at `a` and `b`, which lies behind it and ends at `end`. */
// @ts-ignore: decorator
@inline
function equalBytes(a: usize, b: usize, end: usize): usize {
  const start = b;
  while (b < end) {
    const difference = load<u64>(a) ^ load<u64>(b);
    if (difference != 0) {
      b += <usize>(ctz<u64>(difference) >> 3);
      break;
    }
    a += 8;
    b += 8;
  }
  return min(b, end) - start;
}

/** Number of equal bytes in front of `a` and `b`, of at most 8 and `max`; how many is hard to predict. */
// @ts-ignore: decorator
@inline
function equalBefore(a: usize, b: usize, max: usize): usize {
  return min(<usize>(clz<u64>(load<u64>(a - 8) ^ load<u64>(b - 8)) >> 3), max);
}

/** Copies literals in whole words: up to 31 bytes more than asked for. */
// @ts-ignore: decorator
@inline
function copyLiterals(out: usize, from: usize, length: usize): void {
  const end = out + length;
  if (ASC_FEATURE_SIMD) {
    v128.store(out, v128.load(from));
    if (length <= 16) return;
    do {
      v128.store(out, v128.load(from, 16), 16);
      v128.store(out, v128.load(from, 32), 32);
      out += 32;
      from += 32;
    } while (out + 16 < end);
  } else {
    do {
      store<u64>(out, load<u64>(from));
      store<u64>(out, load<u64>(from, 8), 8);
      out += 16;
      from += 16;
    } while (out < end);
  }
}

// @ts-ignore: decorator
@inline
function sequence(literals: usize, length: usize, offsetValue: usize): u64 {
  return <u64>literals | (<u64>(length - 3) << LENGTH_SHIFT) | (<u64>offsetValue << OFFSET_SHIFT);
}

/**
 * Cuts a block into sequences and literals.
 * @param T width of the tables' positions
 * @param skip bits of 8 bytes that the short table's hash leaves out: 24 or 32
 * @param src start of the source, which matches reach back to
 * @param at start of the block
 * @param end end of the block, with 40 readable bytes behind it
 */
// @ts-ignore: decorator
@inline
export function parse<T>(
  longTable: usize,
  shortTable: usize,
  longShift: u64,
  shortShift: u64,
  skip: u64,
  src: usize,
  at: usize,
  end: usize,
  literals: usize,
  sequences: usize,
): void {
  let anchor = at;
  let d0 = distance0;
  let d1 = distance1;
  // The first byte of a source is every table's candidate, and has none.
  if (at == src) at++;
  const last = end - SEARCH_BYTES;
  while (at <= last) {
    let length: usize = 0;
    let offsetValue: usize = 0;
    let stride: usize = 1;
    let patience = at + PATIENCE;
    let bytes = load<u64>(at);
    let slot = longSlot<T>(longTable, bytes, longShift);
    let candidate = src + <usize>load<T>(slot);
    let searched = at;
    do {
      searched = at;
      const slotShort = shortSlot<T>(shortTable, bytes, skip, shortShift);
      const candidateShort = src + <usize>load<T>(slotShort);
      store<T>(slot, <T>(at - src));
      store<T>(slotShort, <T>(at - src));
      if (load<u32>(at + 1 - d0) == <u32>(bytes >> 8)) {
        at++;
        length = 4 + equalBytes(at + 4 - d0, at + 4, end);
        offsetValue = 1;
        break;
      }
      const next = at + stride;
      const nextBytes = load<u64>(next);
      const nextSlot = longSlot<T>(longTable, nextBytes, longShift);
      if (load<u64>(candidate) == bytes) {
        length = 8 + equalBytes(candidate + 8, at + 8, end);
      } else {
        const nextCandidate = src + <usize>load<T>(nextSlot);
        if (load<u32>(candidateShort) != <u32>bytes) {
          if (next >= patience && stride < MAX_STRIDE) {
            stride++;
            patience += PATIENCE;
          }
          at = next;
          bytes = nextBytes;
          slot = nextSlot;
          candidate = nextCandidate;
          continue;
        }
        if (load<u64>(nextCandidate) == nextBytes && next <= last) {
          at = next;
          candidate = nextCandidate;
          length = 8 + equalBytes(candidate + 8, at + 8, end);
          store<T>(nextSlot, <T>(at - src));
        } else {
          candidate = candidateShort;
          length = 4 + equalBytes(candidate + 4, at + 4, end);
        }
      }
      d1 = d0;
      d0 = at - candidate;
      const before = equalBefore(candidate, at, min(at - anchor, candidate - src));
      at -= before;
      length += before;
      offsetValue = d0 + 3;
      break;
    } while (at <= last);
    if (length == 0) break;
    const run = at - anchor;
    store<u64>(sequences, sequence(run, length, offsetValue));
    sequences += 8;
    copyLiterals(literals, anchor, run);
    literals += run;
    at += length;
    anchor = at;
    if (at > last) break;
    // Positions inside the match, where further matches are likely to begin.
    const inside = load<u64>(searched + 2);
    store<T>(longSlot<T>(longTable, inside, longShift), <T>(searched + 2 - src));
    store<T>(shortSlot<T>(shortTable, inside, skip, shortShift), <T>(searched + 2 - src));
    store<T>(longSlot<T>(longTable, load<u64>(at - 2), longShift), <T>(at - 2 - src));
    store<T>(shortSlot<T>(shortTable, load<u64>(at - 1), skip, shortShift), <T>(at - 1 - src));
    // Without literals the first offset value is the distance before the last.
    while (load<u32>(at) == load<u32>(at - d1)) {
      length = 4 + equalBytes(at + 4 - d1, at + 4, end);
      const d = d1;
      d1 = d0;
      d0 = d;
      const here = load<u64>(at);
      store<T>(longSlot<T>(longTable, here, longShift), <T>(at - src));
      store<T>(shortSlot<T>(shortTable, here, skip, shortShift), <T>(at - src));
      store<u64>(sequences, sequence(0, length, 1));
      sequences += 8;
      at += length;
      anchor = at;
      if (at > last) break;
    }
  }
  copyLiterals(literals, anchor, end - anchor);
  distance0 = d0;
  distance1 = d1;
  sequencesEnd = sequences;
  literalsEnd = literals + (end - anchor);
}
