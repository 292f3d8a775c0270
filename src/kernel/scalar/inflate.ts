import { INFLATE_INVALID, INFLATE_OK, INFLATE_SHORT, INFLATE_TRUNCATED } from '../abi.ts';

/** Ends decoding from any depth, with a status. */
class Stop {
  readonly status: number;
  constructor(status: number) {
    this.status = status;
  }
}

const MAX_LENGTH = 15;
const PRECODE_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/** Bases of the 29 length (30 distance) symbols, given the extra bits of each. */
function bases(start: number, extraBits: readonly number[]): number[] {
  const result: number[] = [];
  let base = start;
  for (const extra of extraBits) {
    result.push(base);
    base += 2 ** extra;
  }
  return result;
}

const LENGTH_EXTRA = Array.from({ length: 28 }, (_, i) => (i < 8 ? 0 : (i >> 2) - 1));
const LENGTH_BASES = [...bases(3, LENGTH_EXTRA), 258];
LENGTH_EXTRA.push(0);
const DISTANCE_EXTRA = Array.from({ length: 30 }, (_, i) => (i < 4 ? 0 : (i >> 1) - 1));
const DISTANCE_BASES = bases(1, DISTANCE_EXTRA);

/** A canonical Huffman code (RFC 1951, 3.2.2): symbols by codeword, and codewords of each length. */
class Code {
  readonly counts = new Uint16Array(MAX_LENGTH + 1);
  readonly symbols: Uint16Array;
  /** One codeword of one bit, or none: the only incomplete codes that are allowed. */
  readonly isIncomplete: boolean;

  constructor(lengths: Uint8Array, mustBeComplete: boolean) {
    this.symbols = new Uint16Array(lengths.length);
    for (const length of lengths) this.counts[length] = (this.counts[length] as number) + 1;
    const used = lengths.length - (this.counts[0] as number);
    this.counts[0] = 0;
    let left = 1;
    let next = 0;
    for (let length = 1; length <= MAX_LENGTH; length++) {
      left = left * 2 - (this.counts[length] as number);
      if (left < 0) throw new Stop(INFLATE_INVALID);
      for (let symbol = 0; symbol < lengths.length; symbol++) {
        if (lengths[symbol] === length) this.symbols[next++] = symbol;
      }
    }
    this.isIncomplete = left > 0;
    if (this.isIncomplete && (mustBeComplete || used > 1 || used !== this.counts[1])) {
      throw new Stop(INFLATE_INVALID);
    }
  }
}

function fixedCodes(): [Code, Code] {
  const lengths = new Uint8Array(288).fill(8);
  lengths.fill(9, 144, 256).fill(7, 256, 280);
  return [new Code(lengths, true), new Code(new Uint8Array(32).fill(5), true)];
}

let fixed: [Code, Code] | undefined;

/** Decoder of one stream, bit by bit: simple rather than fast. */
class Inflater {
  readonly #u8: Uint8Array;
  readonly #inputEnd: number;
  readonly #outputStart: number;
  readonly #outputEnd: number;
  #input: number;
  #output: number;
  /** Bits read but not used, least significant first. */
  #buffer = 0;
  #available = 0;

  constructor(u8: Uint8Array, src: number, srcLength: number, out: number, outLength: number) {
    this.#u8 = u8;
    this.#input = src;
    this.#inputEnd = src + srcLength;
    this.#output = out;
    this.#outputStart = out;
    this.#outputEnd = out + outLength;
  }

  /** Decodes all blocks; ends by throwing a `Stop`. */
  run(): never {
    this.#checkFull();
    for (let isLast = 0; isLast === 0; ) {
      const header = this.#bits(3);
      isLast = header & 1;
      const type = header >> 1;
      if (type === 0) this.#stored();
      else if (type === 1) {
        fixed ??= fixedCodes();
        this.#block(fixed[0], fixed[1]);
      } else if (type === 2) this.#dynamic();
      else throw new Stop(INFLATE_INVALID);
    }
    throw new Stop(INFLATE_SHORT);
  }

  #bits(count: number): number {
    while (this.#available < count) {
      if (this.#input === this.#inputEnd) throw new Stop(INFLATE_TRUNCATED);
      this.#buffer |= (this.#u8[this.#input++] as number) << this.#available;
      this.#available += 8;
    }
    const value = this.#buffer & (2 ** count - 1);
    this.#buffer >>>= count;
    this.#available -= count;
    return value;
  }

  #put(byte: number): void {
    this.#u8[this.#output++] = byte;
    this.#checkFull();
  }

  #checkFull(): void {
    if (this.#output === this.#outputEnd) throw new Stop(INFLATE_OK);
  }

  /** Codewords of one length are consecutive numbers, so counting finds the symbol. */
  #symbol(code: Code): number {
    let codeword = 0;
    let first = 0;
    let index = 0;
    for (let length = 1; length <= MAX_LENGTH; length++) {
      codeword = codeword * 2 + this.#bits(1);
      first *= 2;
      const count = code.counts[length] as number;
      if (codeword - first < count) return code.symbols[index + codeword - first] as number;
      if (code.isIncomplete) break;
      index += count;
      first += count;
    }
    throw new Stop(INFLATE_INVALID);
  }

  #stored(): void {
    this.#bits(this.#available & 7);
    const length = this.#bits(16);
    if ((length ^ this.#bits(16)) !== 0xffff) throw new Stop(INFLATE_INVALID);
    for (let i = 0; i < length; i++) this.#put(this.#bits(8));
  }

  #dynamic(): void {
    const litlens = this.#bits(5) + 257;
    const distances = this.#bits(5) + 1;
    const precodes = this.#bits(4) + 4;
    if (litlens > 286 || distances > 30) throw new Stop(INFLATE_INVALID);
    const precodeLengths = new Uint8Array(19);
    for (const symbol of PRECODE_ORDER.slice(0, precodes)) precodeLengths[symbol] = this.#bits(3);
    const lengths = this.#codeLengths(new Code(precodeLengths, true), litlens + distances);
    if (lengths[256] === 0) throw new Stop(INFLATE_INVALID);
    const litlen = new Code(lengths.subarray(0, litlens), false);
    this.#block(litlen, new Code(lengths.subarray(litlens), false));
  }

  #codeLengths(precode: Code, count: number): Uint8Array {
    const lengths = new Uint8Array(count);
    for (let done = 0; done < count; ) {
      const symbol = this.#symbol(precode);
      let repeat = 1;
      if (symbol === 16) repeat = 3 + this.#bits(2);
      else if (symbol === 17) repeat = 3 + this.#bits(3);
      else if (symbol === 18) repeat = 11 + this.#bits(7);
      if (repeat > count - done || (symbol === 16 && done === 0)) throw new Stop(INFLATE_INVALID);
      let length = symbol;
      if (symbol === 16) length = lengths[done - 1] as number;
      else if (symbol > 16) length = 0;
      lengths.fill(length, done, done + repeat);
      done += repeat;
    }
    return lengths;
  }

  #block(litlen: Code, distances: Code): void {
    while (true) {
      const symbol = this.#symbol(litlen);
      if (symbol === 256) return;
      if (symbol < 256) {
        this.#put(symbol);
        continue;
      }
      if (symbol > 285) throw new Stop(INFLATE_INVALID);
      const length =
        (LENGTH_BASES[symbol - 257] as number) + this.#bits(LENGTH_EXTRA[symbol - 257] as number);
      const code = this.#symbol(distances);
      if (code > 29) throw new Stop(INFLATE_INVALID);
      const distance =
        (DISTANCE_BASES[code] as number) + this.#bits(DISTANCE_EXTRA[code] as number);
      if (distance > this.#output - this.#outputStart) throw new Stop(INFLATE_INVALID);
      for (let i = 0; i < length; i++) this.#put(this.#u8[this.#output - distance] as number);
    }
  }
}

/** Twin of `inflate`. */
export function inflate(
  u8: Uint8Array,
  src: number,
  srcLength: number,
  out: number,
  outLength: number,
): number {
  try {
    return new Inflater(u8, src, srcLength, out, outLength).run();
  } catch (stop) {
    if (stop instanceof Stop) return stop.status;
    throw stop;
  }
}
