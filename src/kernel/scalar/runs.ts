import { RUN_BYTES, RUN_COMPRESSED, RUN_INVALID, RUN_UNALLOCATED, RUN_ZERO_PLAIN } from '../abi.ts';
import type { ScalarMemory } from './memory.ts';

/** Writes run records, joining those that continue each other. */
export class RunWriter {
  readonly #view: DataView;
  readonly #out: number;
  readonly #capacity: number;
  readonly #unitBytes: number;
  count = 0;

  /** @param unitBytes bytes of an entry's cluster or of a subcluster */
  constructor(memory: ScalarMemory, out: number, capacity: number, unitBytes: number) {
    this.#view = memory.view;
    this.#out = out;
    this.#capacity = capacity;
    this.#unitBytes = unitBytes;
  }

  get free(): number {
    return this.#capacity - this.count;
  }

  /** Returns false if a new record is needed and there is no room. */
  append(kind: number, first: number, units: number, aux: number, host: number): boolean {
    const view = this.#view;
    const last = this.#out + (this.count - 1) * RUN_BYTES;
    if (this.count > 0 && this.#joins(last, kind, aux, host)) {
      view.setUint32(last + 8, view.getUint32(last + 8, true) + units, true);
      return true;
    }
    if (this.free <= 0) return false;
    const next = last + RUN_BYTES;
    view.setUint32(next, kind, true);
    view.setUint32(next + 4, first, true);
    view.setUint32(next + 8, units, true);
    view.setUint32(next + 12, aux, true);
    view.setFloat64(next + 16, host, true);
    this.count++;
    return true;
  }

  #joins(last: number, kind: number, aux: number, host: number): boolean {
    const view = this.#view;
    if (kind === RUN_COMPRESSED || kind === RUN_INVALID) return false;
    if (view.getUint32(last, true) !== kind || view.getUint32(last + 12, true) !== aux)
      return false;
    if (kind === RUN_UNALLOCATED || kind === RUN_ZERO_PLAIN) return true;
    const length = view.getUint32(last + 8, true) * this.#unitBytes;
    return view.getFloat64(last + 16, true) + length === host;
  }
}
