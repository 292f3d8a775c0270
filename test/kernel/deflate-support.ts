import { DEFLATE_SCRATCH_BYTES, DEFLATE_SLACK } from '../../src/kernel/abi.ts';
import type { TestKernel } from './backends.ts';

const GUARD = 64;
const MAX_SOURCE = 2 ** 21;

/** Runs a kernel's `deflate` between guard bytes, with rubbish behind the source. */
export class Deflater {
  readonly #kernel: TestKernel;
  readonly #source;
  readonly #target;
  readonly #scratch;

  constructor(kernel: TestKernel, longest = MAX_SOURCE) {
    this.#kernel = kernel;
    this.#source = kernel.arena.allocate(longest + DEFLATE_SLACK);
    this.#target = kernel.arena.allocate(2 * GUARD + longest + (longest >> 3) + 64);
    this.#scratch = kernel.arena.allocate(DEFLATE_SCRATCH_BYTES);
  }

  /** The stream, or null if it does not fit. */
  run(plain: Uint8Array, level: number, capacity = roomFor(plain.length)): Buffer | null {
    // Neither the rubbish nor what an earlier call left may change the stream.
    const behind = (plain.length * 7 + level) & 255;
    this.#source.bytes.set(plain);
    this.#source.bytes.fill(behind, plain.length, plain.length + DEFLATE_SLACK);
    const { bytes } = this.#target;
    bytes.fill(0xc3, 0, capacity + 2 * GUARD);
    const length = this.#kernel.exports.deflate(
      this.#source.ptr,
      plain.length,
      this.#target.ptr + GUARD,
      capacity,
      level,
      this.#scratch.ptr,
    );
    const after = GUARD + capacity;
    for (let i = 0; i < GUARD; i++) {
      if (bytes[i] !== 0xc3 || bytes[after + i] !== 0xc3) throw new Error('guard bytes changed');
    }
    if (length > capacity || length < -1) throw new Error(`length ${length} of ${capacity}`);
    return length < 0 ? null : Buffer.from(bytes.subarray(GUARD, GUARD + length));
  }
}

/** Enough for any stream of `length` bytes. */
export function roomFor(length: number): number {
  return length + 5 * (Math.ceil(length / 8192) + 1);
}

/** What a stream is made of, by a decoder of its own that shares nothing with the kernels. */
export interface Anatomy {
  plain: Buffer;
  farthest: number;
  /** Blocks of type stored, fixed and dynamic. */
  blocks: [number, number, number];
  /** Bytes of the stream that were read. */
  length: number;
}

/** Reads bits and codewords of a stream. */
class Reader {
  readonly #stream: Uint8Array;
  at = 0;

  constructor(stream: Uint8Array) {
    this.#stream = stream;
  }

  bits(count: number): number {
    let value = 0;
    for (let i = 0; i < count; i++, this.at++) {
      const byte = this.#stream[this.at >> 3];
      if (byte === undefined) throw new Error('stream ends early');
      value += ((byte >> (this.at & 7)) & 1) * 2 ** i;
    }
    return value;
  }

  symbol(code: Map<string, number>): number {
    let word = '';
    while (word.length < 16) {
      word += this.bits(1);
      const symbol = code.get(word);
      if (symbol !== undefined) return symbol;
    }
    throw new Error(`no codeword ${word}`);
  }
}

/** Codewords as strings of bits; throws unless the code is complete. */
function codeOf(lengths: readonly number[]): Map<string, number> {
  const code = new Map<string, number>();
  let next = 0;
  let kraft = 0;
  for (let length = 1; length <= 15; length++) {
    next *= 2;
    lengths.forEach((each, symbol) => {
      if (each !== length) return;
      code.set((next++).toString(2).padStart(length, '0'), symbol);
      kraft += 2 ** -length;
    });
  }
  if (kraft !== 1) throw new Error(`code is not complete: ${kraft}`);
  return code;
}

const ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

function dynamicCodes(reader: Reader): [Map<string, number>, Map<string, number>] {
  const litlens = reader.bits(5) + 257;
  const distances = reader.bits(5) + 1;
  const precodes = reader.bits(4) + 4;
  const precode = new Array<number>(19).fill(0);
  for (const symbol of ORDER.slice(0, precodes)) precode[symbol] = reader.bits(3);
  const code = codeOf(precode);
  const lengths: number[] = [];
  while (lengths.length < litlens + distances) {
    const symbol = reader.symbol(code);
    if (symbol < 16) lengths.push(symbol);
    else {
      const value = symbol === 16 ? (lengths.at(-1) as number) : 0;
      const count = [3 + reader.bits(symbol === 16 ? 2 : symbol === 17 ? 3 : 7)][0] as number;
      const run = symbol === 18 ? count + 8 : count;
      for (let i = 0; i < run; i++) lengths.push(value);
    }
  }
  if (lengths.length !== litlens + distances) throw new Error('code lengths run over');
  return [codeOf(lengths.slice(0, litlens)), codeOf(lengths.slice(litlens))];
}

/** Base and extra bits of symbol `i` of a code that starts with `plain` symbols without extra bits. */
function range(i: number, plain: number, perSize: number, first: number): [number, number] {
  let base = first;
  for (let k = 0; k < i; k++) base += 2 ** Math.max(0, Math.floor((k - plain) / perSize) + 1);
  return [base, i < plain ? 0 : Math.floor((i - plain) / perSize) + 1];
}

const LENGTHS = Array.from({ length: 29 }, (_, i): [number, number] =>
  i === 28 ? [258, 0] : range(i, 8, 4, 3),
);
const DISTANCES = Array.from({ length: 30 }, (_, i) => range(i, 4, 2, 1));
const FIXED: [Map<string, number>, Map<string, number>] = [
  codeOf(Array.from({ length: 288 }, (_, i) => (i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8))),
  codeOf(new Array<number>(32).fill(5)),
];

/** Decodes a stream slowly and strictly. Throws at anything a decoder might object to. */
export function dissect(stream: Uint8Array): Anatomy {
  const reader = new Reader(stream);
  const plain: number[] = [];
  const blocks: Anatomy['blocks'] = [0, 0, 0];
  let farthest = 0;
  for (let isLast = 0; isLast === 0; ) {
    isLast = reader.bits(1);
    const type = reader.bits(2) as 0 | 1 | 2;
    blocks[type]++;
    if (type === 0) {
      if (reader.bits((8 - (reader.at & 7)) & 7) !== 0) throw new Error('padding is not zero');
      const length = reader.bits(16);
      if (reader.bits(16) !== 0xffff - length) throw new Error('stored lengths differ');
      for (let i = 0; i < length; i++) plain.push(reader.bits(8));
      continue;
    }
    const [litlens, distances] = type === 1 ? FIXED : dynamicCodes(reader);
    while (true) {
      const symbol = reader.symbol(litlens);
      if (symbol === 256) break;
      if (symbol < 256) {
        plain.push(symbol);
        continue;
      }
      const [lengthBase, lengthExtra] = LENGTHS[symbol - 257] as [number, number];
      const length = lengthBase + reader.bits(lengthExtra);
      const [base, extra] = DISTANCES[reader.symbol(distances)] as [number, number];
      const distance = base + reader.bits(extra);
      if (distance > plain.length) throw new Error('distance leads before the output');
      farthest = Math.max(farthest, distance);
      for (let i = 0; i < length; i++) plain.push(plain[plain.length - distance] as number);
    }
  }
  return { plain: Buffer.from(plain), farthest, blocks, length: Math.ceil(reader.at / 8) };
}
