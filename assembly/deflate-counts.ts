// Frequencies of the symbols, and where one block should end and the next begin.
import { LITERALS_ONLY } from './deflate-parse';

// @ts-ignore: decorator
@inline export const LITLENS: u32 = 286;
// @ts-ignore: decorator
@inline export const DISTANCES: u32 = 30;
/** Estimates, times 256: bits a symbol takes in a header, and a block besides. */
// @ts-ignore: decorator
@inline const SYMBOL_BITS: u32 = 4 << 8;
// @ts-ignore: decorator
@inline const HEADER_BITS: i32 = 64 << 8;

// Frequencies of both codes, of the block so far and of the piece behind it.
// @ts-ignore: decorator
@inline const COUNTS: u32 = 288 + 32;
// @ts-ignore: decorator
@inline const COUNT_BYTES: usize = <usize>COUNTS << 2;
export const LITLEN_COUNTS = memory.data(320 << 2, 16);
export const DISTANCE_COUNTS = LITLEN_COUNTS + (288 << 2);
const PIECE_LITLENS = memory.data(320 << 2, 16);
const PIECE_DISTANCES = PIECE_LITLENS + (288 << 2);
/** Symbol - 257 of lengths 3 to 258, and base length - 3 and extra bits of each symbol. */
export const LENGTH_SYMBOLS = memory.data(256, 16);
export const LENGTH_BASES = memory.data(32, 16);
export const LENGTH_EXTRA = memory.data(32, 16);
/** Fraction, times 256, of the logarithms of 1 to 2. */
const LOGARITHMS = memory.data(256, 16);

/** Fills the tables of length symbols; runs when the module starts. */
export function fillLengthSymbols(): void {
  let length: u32 = 0;
  for (let symbol: u32 = 0; symbol < 28; symbol++) {
    const extra: u32 = symbol < 8 ? 0 : (symbol >> 2) - 1;
    store<u8>(LENGTH_BASES + symbol, length);
    store<u8>(LENGTH_EXTRA + symbol, extra);
    memory.fill(LENGTH_SYMBOLS + length, <u8>symbol, min<u32>(1 << extra, 256 - length));
    length += 1 << extra;
  }
  // Length 258 has a symbol of its own.
  store<u8>(LENGTH_SYMBOLS + 255, 28);
  store<u8>(LENGTH_BASES + 28, 255);
  store<u8>(LENGTH_EXTRA + 28, 0);
}

/** Fills the table of logarithms, bit by bit: squaring doubles a logarithm. */
export function fillLogarithms(): void {
  for (let i: u32 = 0; i < 256; i++) {
    // 1 + (i + 0.5) / 256 with 15 bits behind the point.
    let x: u32 = (1 << 15) + (i << 7) + 64;
    let fraction: u32 = 0;
    for (let bit = 0; bit < 8; bit++) {
      x = (x * x) >> 15;
      fraction <<= 1;
      if (x >= 1 << 16) {
        x >>= 1;
        fraction++;
      }
    }
    store<u8>(LOGARITHMS + i, fraction);
  }
}

// @ts-ignore: decorator
@inline
export function word(table: usize, index: u32): u32 {
  return load<u32>(table + (<usize>index << 2));
}

// @ts-ignore: decorator
@inline
export function increase(table: usize, index: u32, by: u32 = 1): void {
  const at = table + (<usize>index << 2);
  store<u32>(at, load<u32>(at) + by);
}

/** Symbol of a distance - 1; of those from 4 on the two leading bits count. */
// @ts-ignore: decorator
@inline
export function distanceSymbol(distance: u32): u32 {
  const top = 31 - clz<u32>(distance | 1);
  return distance < 2 ? distance : (top << 1) | ((distance >> (top - 1)) & 1);
}

// @ts-ignore: decorator
@inline
export function distanceExtra(symbol: u32): u32 {
  return symbol < 4 ? 0 : (symbol >> 1) - 1;
}

/** Counts the symbols of the piece that `records` cut from `from` on. */
export function countSymbols(from: usize, records: usize, recordsEnd: usize): void {
  memory.fill(PIECE_LITLENS, 0, COUNT_BYTES);
  for (; records < recordsEnd; records += 4) {
    const record = load<u32>(records);
    const run = record & LITERALS_ONLY;
    const end = from + (run != LITERALS_ONLY ? run : record >> 12);
    for (; from < end; from++) increase(PIECE_LITLENS, load<u8>(from));
    if (run == LITERALS_ONLY) continue;
    const length = (record >> 12) & 255;
    increase(PIECE_LITLENS, 257 + load<u8>(LENGTH_SYMBOLS + length));
    increase(PIECE_DISTANCES, distanceSymbol(record >> 20));
    from += length + 3;
  }
}

/** Logarithm of `x` to base 2, times 256. */
// @ts-ignore: decorator
@inline
function logarithm(x: u32): u32 {
  const top = 31 - clz<u32>(x);
  return (top << 8) + load<u8>(LOGARITHMS + ((x << (31 - top)) >> 23 & 255));
}

/**
 * Bits (times 256) that codewords of their own, for the block so far and for the piece, save over
 * common ones. Symbols that only one of the two has cost the same either way.
 */
function savedBits(block: usize, piece: usize, symbols: u32): i32 {
  let blockTotal: u32 = 0;
  let pieceTotal: u32 = 0;
  let loss: u32 = 0;
  for (let i: u32 = 0; i < symbols; i++) {
    const a = word(block, i);
    const b = word(piece, i);
    blockTotal += a;
    pieceTotal += b;
    if (a == 0 || b == 0) continue;
    loss += (a + b) * logarithm(a + b) - a * logarithm(a) - b * logarithm(b) + SYMBOL_BITS;
  }
  if (blockTotal == 0 || pieceTotal == 0) return 0;
  const total = blockTotal + pieceTotal;
  const gain = total * logarithm(total) - blockTotal * logarithm(blockTotal) -
    pieceTotal * logarithm(pieceTotal);
  return <i32>gain - <i32>loss;
}

/** Whether the piece just counted is better a block of its own than a part of the block so far. */
export function isPieceApart(): bool {
  return savedBits(LITLEN_COUNTS, PIECE_LITLENS, LITLENS) +
    savedBits(DISTANCE_COUNTS, PIECE_DISTANCES, DISTANCES) > HEADER_BITS;
}

/** Makes the piece just counted the first of a block. */
export function startBlock(): void {
  memory.copy(LITLEN_COUNTS, PIECE_LITLENS, COUNT_BYTES);
}

/** Adds the piece just counted to the block. */
export function joinPiece(): void {
  for (let i: u32 = 0; i < COUNTS; i++) increase(LITLEN_COUNTS, i, word(PIECE_LITLENS, i));
}

/** Longest distance at which a match of 3 bytes is shorter than literals like those of the piece. */
export function farthestShortMatch(): u32 {
  let used: u32 = 0;
  for (let i: u32 = 0; i < 256; i++) used += u32(word(PIECE_LITLENS, i) != 0);
  return used < 128 ? 512 : 4096;
}
