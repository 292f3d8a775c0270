import { ZSTD_INVALID } from '../abi.ts';
import { BackwardBits, type ByteReader, ZstdStop } from './zstd-bits.ts';
import { FseState, readFseTable } from './zstd-fse.ts';

const MAX_LENGTH = 11;
const MAX_WEIGHT_LOG = 6;
const MAX_WEIGHTS = 255;

/** A Huffman code of literals (RFC 8878, 4.2). */
export class HuffmanCode {
  /** Length of the longest codeword, which is the number of bits that index the next two. */
  readonly #length: number;
  readonly #symbols: Uint8Array;
  readonly #lengths: Uint8Array;

  /** Reads a tree description and steps over it. */
  constructor(bytes: ByteReader) {
    const weights = readWeights(bytes);
    this.#length = completeWeights(weights);
    this.#symbols = new Uint8Array(2 ** this.#length);
    this.#lengths = new Uint8Array(2 ** this.#length);
    let place = 0;
    for (let weight = 1; weight <= this.#length; weight++) {
      weights.forEach((other, symbol) => {
        if (other !== weight) return;
        const end = place + 2 ** (weight - 1);
        this.#symbols.fill(symbol, place, end);
        this.#lengths.fill(this.#length + 1 - weight, place, end);
        place = end;
      });
    }
  }

  /** Decodes a stream, all that `bytes` has left, into `output`. */
  decode(bytes: ByteReader, output: Uint8Array): void {
    const bits = new BackwardBits(bytes);
    for (let i = 0; i < output.length; i++) {
      const window = bits.tryRead(this.#length);
      output[i] = this.#symbols[window] as number;
      bits.left += this.#length - (this.#lengths[window] as number);
      if (bits.left < 0) throw new ZstdStop(ZSTD_INVALID);
    }
    if (bits.left !== 0) throw new ZstdStop(ZSTD_INVALID);
  }

  /** Decodes four streams behind their jump table (RFC 8878, 3.1.1.3.1.6). */
  decodeFour(bytes: ByteReader, output: Uint8Array): void {
    if (output.length < 6) throw new ZstdStop(ZSTD_INVALID);
    const lengths = [bytes.number(2), bytes.number(2), bytes.number(2)];
    const quarter = (output.length + 3) >> 2;
    lengths.forEach((length, i) => {
      this.decode(bytes.part(length), output.subarray(i * quarter, (i + 1) * quarter));
    });
    this.decode(bytes, output.subarray(3 * quarter));
  }
}

function readWeights(bytes: ByteReader): number[] {
  const header = bytes.number(1);
  if (header < 128) return unpackWeights(bytes.part(header));
  const weights: number[] = [];
  while (weights.length < header - 127) {
    const pair = bytes.number(1);
    weights.push(pair >> 4, pair & 15);
  }
  return weights.slice(0, header - 127);
}

/** Two states take turns until one cannot be followed; the other then has one symbol left. */
function unpackWeights(bytes: ByteReader): number[] {
  const table = readFseTable(bytes, MAX_LENGTH, MAX_WEIGHT_LOG);
  const bits = new BackwardBits(bytes);
  let state = new FseState(table, bits);
  let other = new FseState(table, bits);
  const weights: number[] = [];
  while (bits.left >= 0) {
    if (weights.length + 2 > MAX_WEIGHTS) throw new ZstdStop(ZSTD_INVALID);
    weights.push(state.symbol);
    state.advance();
    [state, other] = [other, state];
  }
  weights.push(state.symbol);
  return weights;
}

/** Appends the weight that is not told; returns the length of the longest codeword. */
function completeWeights(weights: number[]): number {
  let total = 0;
  for (const weight of weights) {
    if (weight > MAX_LENGTH) throw new ZstdStop(ZSTD_INVALID);
    if (weight > 0) total += 2 ** (weight - 1);
  }
  const length = 32 - Math.clz32(total);
  const last = Math.log2(2 ** length - total) + 1;
  const isCode = total > 0 && length <= MAX_LENGTH && Number.isInteger(last);
  weights.push(last);
  const longest = weights.filter((weight) => weight === 1).length;
  if (!isCode || longest < 2) throw new ZstdStop(ZSTD_INVALID);
  return length;
}
