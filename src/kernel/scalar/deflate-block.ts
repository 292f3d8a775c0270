import { assignCodewords, buildLengths } from './deflate-code.ts';
import type { Step } from './deflate-parse.ts';

const LITLENS = 286;
const DISTANCES = 30;
const PRECODE_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const LONGEST_STORED = 65535;
/** Estimates, times 256: bits a symbol takes in a header, and a block besides. */
const SYMBOL_BITS = 4 * 256;
const HEADER_BITS = 64 * 256;

const LENGTH_EXTRA = [...Array.from({ length: 28 }, (_, i) => (i < 8 ? 0 : (i >> 2) - 1)), 0];
/** Symbol - 257 of each length - 3, and the least length - 3 of each symbol. */
const LENGTH_SYMBOLS = LENGTH_EXTRA.flatMap((extra, i) => new Array<number>(2 ** extra).fill(i));
LENGTH_SYMBOLS[255] = 28;
const LENGTH_BASES = LENGTH_EXTRA.map((_, i) => LENGTH_SYMBOLS.indexOf(i));

/** Symbol of a distance - 1. */
function distanceSymbol(distance: number): number {
  const top = 31 - Math.clz32(distance | 1);
  return distance < 2 ? distance : top * 2 + ((distance >> (top - 1)) & 1);
}

function distanceExtra(symbol: number): number {
  return symbol < 4 ? 0 : (symbol >> 1) - 1;
}

/** Fraction, times 256, of the logarithm of 1 + (i + 0.5) / 256: squaring doubles a logarithm. */
const LOGARITHMS = Array.from({ length: 256 }, (_, i) => {
  let x = 2 ** 15 + i * 128 + 64;
  let fraction = 0;
  for (let bit = 0; bit < 8; bit++) {
    x = Math.floor((x * x) / 2 ** 15);
    fraction *= 2;
    if (x < 2 ** 16) continue;
    x >>= 1;
    fraction++;
  }
  return fraction;
});

/** `x` times its logarithm to base 2, times 256. */
function weighted(x: number): number {
  const top = 31 - Math.clz32(x);
  return x * (top * 256 + (LOGARITHMS[((x << (31 - top)) >>> 23) & 255] as number));
}

/** Frequencies of the symbols of a piece or block. */
export class Counts {
  readonly litlen = new Array<number>(LITLENS).fill(0);
  readonly distance = new Array<number>(DISTANCES).fill(0);

  /** Counts `steps`, which cut the bytes from `from` on. */
  static of(u8: Uint8Array, from: number, steps: readonly Step[]): Counts {
    const counts = new Counts();
    let at = from;
    for (const step of steps) {
      for (let left = step.run; left > 0; left--) increase(counts.litlen, u8[at++] as number);
      if (step.length === 0) continue;
      increase(counts.litlen, 257 + (LENGTH_SYMBOLS[step.length - 3] as number));
      increase(counts.distance, distanceSymbol(step.distance - 1));
      at += step.length;
    }
    return counts;
  }

  /** Adds the counts of the piece behind. */
  join(piece: Counts): void {
    for (const [i, count] of piece.litlen.entries()) increase(this.litlen, i, count);
    for (const [i, count] of piece.distance.entries()) increase(this.distance, i, count);
  }

  /** Longest distance at which a match of 3 bytes is shorter than literals like these. */
  farthestShortMatch(): number {
    return this.litlen.slice(0, 256).filter((count) => count > 0).length < 128 ? 512 : 4096;
  }

  /** Whether `piece` is better a block of its own than a part of this one. */
  isApart(piece: Counts): boolean {
    const saved = savedBits(this.litlen, piece.litlen) + savedBits(this.distance, piece.distance);
    return saved > HEADER_BITS;
  }
}

function increase(counts: number[], index: number, by = 1): void {
  counts[index] = (counts[index] as number) + by;
}

/** Bits (times 256) that codes of their own save over common ones. */
function savedBits(block: readonly number[], piece: readonly number[]): number {
  const sum = (counts: readonly number[]): number => counts.reduce((a, b) => a + b, 0);
  const [blockTotal, pieceTotal] = [sum(block), sum(piece)];
  if (blockTotal === 0 || pieceTotal === 0) return 0;
  let saved = weighted(blockTotal + pieceTotal) - weighted(blockTotal) - weighted(pieceTotal);
  block.forEach((a, i) => {
    const b = piece[i] as number;
    if (a === 0 || b === 0) return;
    saved -= weighted(a + b) - weighted(a) - weighted(b) + SYMBOL_BITS;
  });
  return saved;
}

/** A run of code lengths: precode symbol and the value of its extra bits. */
type Packed = readonly [symbol: number, extra: number];

const precodeExtra = (symbol: number): number =>
  symbol < 16 ? 0 : symbol === 16 ? 2 : symbol === 17 ? 3 : 7;

/** Packs code lengths in runs (RFC 1951, 3.2.7). */
function packLengths(lengths: readonly number[]): Packed[] {
  const packed: Packed[] = [];
  for (let at = 0; at < lengths.length; ) {
    const length = lengths[at] as number;
    let run = 0;
    while (lengths[at] === length) {
      at++;
      run++;
    }
    if (length > 0) {
      packed.push([length, 0]);
      run--;
    }
    while (run >= (length > 0 ? 3 : 11)) {
      const part = Math.min(run, length > 0 ? 6 : 138);
      packed.push(length > 0 ? [16, part - 3] : [18, part - 11]);
      run -= part;
    }
    if (length === 0 && run >= 3) {
      packed.push([17, run - 3]);
      run = 0;
    }
    for (; run > 0; run--) packed.push([length, 0]);
  }
  return packed;
}

/** Code lengths of a block, and what its header says of them. */
class Plan {
  readonly litlen: number[];
  readonly distance: number[];
  readonly precode: number[];
  readonly precodes: number;
  readonly packed: Packed[];
  /** Bits of the block behind its type, without extra bits of lengths and distances. */
  readonly bits: number;

  constructor({ litlen, distance }: Counts) {
    const used = (lengths: number[]): number => lengths.findLastIndex((length) => length > 0) + 1;
    const litlens = buildLengths(litlen, 14);
    const distances = buildLengths(distance, 15);
    this.litlen = litlens.slice(0, Math.max(257, used(litlens)));
    this.distance = distances.slice(0, used(distances));
    this.packed = packLengths([...this.litlen, ...this.distance]);
    const counts = new Array<number>(19).fill(0);
    for (const [symbol] of this.packed) increase(counts, symbol);
    this.precode = buildLengths(counts, 7);
    this.precodes = used(PRECODE_ORDER.map((symbol) => this.precode[symbol] as number));
    this.bits = 14 + 3 * this.precodes + total(litlen, litlens) + total(distance, distances);
    for (const [symbol] of this.packed) {
      this.bits += (this.precode[symbol] as number) + precodeExtra(symbol);
    }
  }
}

/** Bits of all codewords together. */
function total(counts: readonly number[], lengths: readonly number[]): number {
  return counts.reduce((sum, count, i) => sum + count * (lengths[i] as number), 0);
}

const FIXED_LITLEN = Array.from({ length: 288 }, (_, i) =>
  i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8,
);
const FIXED_DISTANCE = new Array<number>(32).fill(5);

/** Writes a stream of at most `capacity` bytes. */
export class BlockWriter {
  readonly #u8: Uint8Array;
  readonly #outEnd: number;
  #out: number;
  /** Up to 7 bits that do not fill a byte. */
  #buffer = 0;
  #held = 0;

  constructor(u8: Uint8Array, out: number, capacity: number) {
    this.#u8 = u8;
    this.#out = out;
    this.#outEnd = out + capacity;
  }

  /** Ends the stream at a whole byte; the address behind it. */
  finish(): number {
    if (this.#held > 0) this.#u8[this.#out++] = this.#buffer;
    return this.#out;
  }

  #put(value: number, bits: number): void {
    this.#buffer |= value << this.#held;
    this.#held += bits;
    for (; this.#held >= 8; this.#held -= 8) {
      this.#u8[this.#out++] = this.#buffer;
      this.#buffer >>>= 8;
    }
  }

  #storedBytes(length: number): number {
    return length + Math.max(1, Math.ceil(length / LONGEST_STORED)) * 5 + (this.#held > 5 ? 1 : 0);
  }

  /** Writes `from .. to` as it is. False if that does not fit. */
  stored(from: number, to: number, isLast: boolean): boolean {
    if (this.#storedBytes(to - from) > this.#outEnd - this.#out) return false;
    let at = from;
    do {
      const length = Math.min(to - at, LONGEST_STORED);
      this.#put(isLast && at + length === to ? 1 : 0, 3);
      if (this.#held > 0) this.#put(0, 8 - this.#held);
      this.#put(length, 16);
      this.#put(length ^ 0xffff, 16);
      this.#u8.copyWithin(this.#out, at, at + length);
      this.#out += length;
      at += length;
    } while (at < to);
    return true;
  }

  /** Writes the block that `steps` cut from `from .. to`. False if it does not fit. */
  block(
    from: number,
    to: number,
    steps: readonly Step[],
    counts: Counts,
    isLast: boolean,
  ): boolean {
    increase(counts.litlen, 256);
    const extra =
      total(counts.litlen.slice(257), LENGTH_EXTRA) +
      counts.distance.reduce((sum, count, i) => sum + count * distanceExtra(i), 0);
    const plan = new Plan(counts);
    const dynamic = plan.bits + extra;
    const fixed =
      total(counts.litlen, FIXED_LITLEN) + total(counts.distance, FIXED_DISTANCE) + extra;
    const bytes = (this.#held + 3 + Math.min(dynamic, fixed) + 7) >> 3;
    if (this.#storedBytes(to - from) <= bytes) return this.stored(from, to, isLast);
    if (bytes > this.#outEnd - this.#out) return false;
    const isFixed = fixed <= dynamic;
    this.#put((isLast ? 1 : 0) | (isFixed ? 2 : 4), 3);
    if (isFixed) this.#symbols(from, steps, FIXED_LITLEN, FIXED_DISTANCE);
    else {
      this.#header(plan);
      this.#symbols(from, steps, plan.litlen, plan.distance);
    }
    return true;
  }

  #header({ litlen, distance, precode, precodes, packed }: Plan): void {
    this.#put(litlen.length - 257, 5);
    this.#put(distance.length - 1, 5);
    this.#put(precodes - 4, 4);
    for (const symbol of PRECODE_ORDER.slice(0, precodes)) this.#put(precode[symbol] as number, 3);
    const codewords = assignCodewords(precode);
    for (const [symbol, extra] of packed) {
      this.#put(codewords[symbol] as number, precode[symbol] as number);
      this.#put(extra, precodeExtra(symbol));
    }
  }

  #symbols(
    from: number,
    steps: readonly Step[],
    litlenLengths: readonly number[],
    distanceLengths: readonly number[],
  ): void {
    const litlens = assignCodewords(litlenLengths);
    const distances = assignCodewords(distanceLengths);
    const litlen = (symbol: number): void =>
      this.#put(litlens[symbol] as number, litlenLengths[symbol] as number);
    let at = from;
    for (const step of steps) {
      for (let left = step.run; left > 0; left--) litlen(this.#u8[at++] as number);
      if (step.length === 0) continue;
      const length = LENGTH_SYMBOLS[step.length - 3] as number;
      litlen(257 + length);
      this.#put(step.length - 3 - (LENGTH_BASES[length] as number), LENGTH_EXTRA[length] as number);
      const distance = distanceSymbol(step.distance - 1);
      this.#put(distances[distance] as number, distanceLengths[distance] as number);
      const extra = distanceExtra(distance);
      this.#put((step.distance - 1) & (2 ** extra - 1), extra);
      at += step.length;
    }
    litlen(256);
  }
}
