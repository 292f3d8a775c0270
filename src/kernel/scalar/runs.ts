import {
  RUN_BYTES,
  RUN_COMPRESSED,
  RUN_INVALID,
  RUN_KIND_BITS,
  RUN_UNALLOCATED,
  RUN_ZERO_PLAIN,
} from '../abi.ts';
import type { ScalarMemory } from './memory.ts';

/** Writes run records, joining those that continue each other. */
export class RunWriter {
  readonly #view: DataView;
  readonly #out: number;
  readonly #capacity: number;
  readonly #unitBytes: number;
  /** Kind and attributes of the last run; -1 if nothing can join it. */
  #meta = -1;
  /** Host offset at which the last run goes on. */
  #next = 0;
  count = 0;

  /**
   * @param capacity in records; the end takes the room of one more
   * @param unitBytes bytes of an entry's cluster or of a subcluster
   */
  constructor(memory: ScalarMemory, out: number, capacity: number, unitBytes: number) {
    this.#view = memory.view;
    this.#out = out;
    this.#capacity = capacity;
    this.#unitBytes = unitBytes;
  }

  get free(): number {
    return this.#capacity - this.count;
  }

  /**
   * Adds `units` from unit `first` on, where the last ones ended. Returns false if a new record is
   * needed and there is no room.
   */
  append(kind: number, first: number, units: number, aux: number, host: number): boolean {
    const meta = kind + aux * 2 ** RUN_KIND_BITS;
    const hasPlace = kind !== RUN_UNALLOCATED && kind !== RUN_ZERO_PLAIN;
    if (meta !== this.#meta || (hasPlace && host !== this.#next)) {
      if (this.free <= 0) return false;
      const at = this.#out + this.count * RUN_BYTES;
      this.#view.setUint32(at, meta, true);
      this.#view.setUint32(at + 4, first, true);
      this.#view.setFloat64(at + 8, host, true);
      this.count++;
    }
    this.#meta = kind === RUN_COMPRESSED || kind === RUN_INVALID ? -1 : meta;
    this.#next = host + units * this.#unitBytes;
    return true;
  }

  /** Writes the unit behind the last run; returns the number of records. */
  finish(end: number): number {
    this.#view.setUint32(this.#out + this.count * RUN_BYTES + 4, end, true);
    return this.count;
  }
}
