import { RUN_BYTES, RUN_KIND_BITS } from './abi.ts';
import type { Arena, Region } from './arena.ts';

/** Records a reader has room for unless told otherwise. */
const DEFAULT_CAPACITY = 1024;
const RUN_WORDS = RUN_BYTES / 4;
const RUN_DOUBLES = RUN_BYTES / 8;
const KIND_MASK = 2 ** RUN_KIND_BITS - 1;

/**
 * A region for the run records of `l2_decode` and `l2_decode_extended`, and its reader: straight
 * from the memory, no call makes an object. Pass `pointer` and `capacity` to the kernel, and set
 * `count` to what it returns.
 */
export class RunReader {
  readonly #arena: Arena;
  readonly #word: number;
  readonly #double: number;
  /** The records; release it when the reader is no longer used. */
  readonly region: Region;
  readonly capacity: number;
  /** Records that are valid. */
  count = 0;

  /** @param capacity in records; at least 64 for `l2_decode_extended` */
  constructor(arena: Arena, capacity: number = DEFAULT_CAPACITY) {
    // One more, for the end of the last run.
    this.region = arena.allocate((capacity + 1) * RUN_BYTES);
    this.capacity = capacity;
    this.#arena = arena;
    this.#word = this.region.ptr / 4;
    this.#double = this.region.ptr / 8;
  }

  /** Address of the first record. */
  get pointer(): number {
    return this.region.ptr;
  }

  /** Address of record `i`. */
  at(i: number): number {
    return this.region.ptr + i * RUN_BYTES;
  }

  /** `RUN_*` kind of record `i`. */
  kind(i: number): number {
    return (this.#arena.u32[this.#word + i * RUN_WORDS] as number) & KIND_MASK;
  }

  /** Index of the run's first entry (extended: subcluster) in its table. */
  first(i: number): number {
    return this.#arena.u32[this.#word + i * RUN_WORDS + 1] as number;
  }

  /** Length of the run in entries (extended: subclusters). */
  units(i: number): number {
    return this.first(i + 1) - this.first(i);
  }

  /** Attributes, greatest length of a compressed stream, or `INVALID_*` code. */
  aux(i: number): number {
    return (this.#arena.u32[this.#word + i * RUN_WORDS] as number) >>> RUN_KIND_BITS;
  }

  /** Host offset in bytes of the run's start; 0 for kinds without one. */
  host(i: number): number {
    return this.#arena.f64[this.#double + i * RUN_DOUBLES + 1] as number;
  }
}
