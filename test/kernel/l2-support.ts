import type { Region } from '../../src/kernel/arena.ts';
import type { TestKernel } from './backends.ts';

export const COPIED = 1n << 63n;
export const COMPRESSED = 1n << 62n;
export const MIB = 2 ** 20;

/** kind, first, units, aux, host */
export type Run = [number, number, number, number, number];

export interface DecodeOptions {
  first?: number;
  clusterBits?: number;
  flags?: number;
  attributes?: number;
  guestBase?: number;
  hostSize?: number;
  capacity?: number;
}

/** Calls one of the two decoders on tables given as words. */
export class L2Decoder {
  readonly #kernel: TestKernel;
  readonly #table: Region;
  readonly #out: Region;

  constructor(kernel: TestKernel) {
    this.#kernel = kernel;
    this.#table = kernel.arena.allocate(65536);
    this.#out = kernel.arena.allocate(4096 * 24);
  }

  #load(words: readonly bigint[]): void {
    const view = new DataView(this.#table.bytes.buffer, this.#table.ptr);
    words.forEach((word, i) => {
      view.setBigUint64(i * 8, word);
    });
  }

  #records(count: number, capacity: number): Run[] {
    const { bytes, ptr } = this.#out;
    const view = new DataView(bytes.buffer, ptr);
    const runs: Run[] = [];
    for (let at = 0; at < count * 24; at += 24) {
      const word = (i: number): number => view.getUint32(at + i * 4, true);
      runs.push([word(0), word(1), word(2), word(3), view.getFloat64(at + 16, true)]);
    }
    if (count > capacity) throw new Error('more records than capacity');
    if (bytes.subarray(capacity * 24).some((byte) => byte !== 0xee)) {
      throw new Error('records were written behind the capacity');
    }
    return runs;
  }

  #call(words: readonly bigint[], wordsPerEntry: number, options: DecodeOptions): Run[] {
    this.#load(words);
    this.#out.bytes.fill(0xee);
    const { first = 0, capacity = 4000, clusterBits = 16 } = options;
    const { l2_decode, l2_decode_extended } = this.#kernel.exports;
    const decode = wordsPerEntry === 1 ? l2_decode : l2_decode_extended;
    const count = decode(
      this.#table.ptr,
      first,
      words.length / wordsPerEntry - first,
      clusterBits,
      options.flags ?? 0,
      options.attributes ?? 0,
      options.guestBase ?? 0,
      options.hostSize ?? 2 ** 50,
      this.#out.ptr,
      capacity,
    );
    return this.#records(count, capacity);
  }

  decode(words: readonly bigint[], options: DecodeOptions = {}): Run[] {
    return this.#call(words, 1, options);
  }

  /** Two words an entry. */
  decodeExtended(words: readonly bigint[], options: DecodeOptions = {}): Run[] {
    return this.#call(words, 2, options);
  }
}
