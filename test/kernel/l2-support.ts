import { RUN_BYTES, RUN_KIND_BITS } from '../../src/kernel/abi.ts';
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

const UNTOUCHED = new Uint8Array(4096 * RUN_BYTES).fill(0xee);

/** Calls one of the two decoders on tables given as words. */
export class L2Decoder {
  readonly #kernel: TestKernel;
  readonly #table: Region;
  readonly #out: Region;

  constructor(kernel: TestKernel) {
    this.#kernel = kernel;
    this.#table = kernel.arena.allocate(65536);
    this.#out = kernel.arena.allocate(UNTOUCHED.length);
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
    for (let at = 0; at < count * RUN_BYTES; at += RUN_BYTES) {
      const [meta, first] = [view.getUint32(at, true), view.getUint32(at + 4, true)];
      const units = view.getUint32(at + RUN_BYTES + 4, true) - first;
      const [kind, aux] = [meta % 2 ** RUN_KIND_BITS, meta >>> RUN_KIND_BITS];
      runs.push([kind, first, units, aux, view.getFloat64(at + 8, true)]);
    }
    if (count > capacity) throw new Error('more records than capacity');
    const behind = (capacity + 1) * RUN_BYTES;
    if (Buffer.compare(bytes.subarray(behind), UNTOUCHED.subarray(behind)) !== 0) {
      throw new Error('records were written behind the room for them');
    }
    return runs;
  }

  #call(words: readonly bigint[], wordsPerEntry: number, options: DecodeOptions): Run[] {
    this.#load(words);
    this.#out.bytes.set(UNTOUCHED);
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
