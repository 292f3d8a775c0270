import type { Image } from '../image/image.ts';
import type { Region } from '../kernel/arena.ts';
import { createKernel, type Kernel } from '../kernel/kernel.ts';
import type { OpenRange } from './rebase-plan.ts';

/** Bytes of either disk held at a time, and written at once at most. */
const PIECE_BYTES = 1024 * 1024;

/** What becomes of a unit: the new backing file has the same, or the overlay gets zeros, or bytes. */
const SAME = 0;
const ZEROS = 1;
const DATA = 2;

/**
 * Copies into an overlay what it leaves to its backing file and what another one has not the same, unit
 * by unit (cluster or subcluster); units next to each other go out in one write.
 */
export class UnitCopier {
  readonly #image: Image;
  readonly #backing: Image | undefined;
  readonly #unit: number;
  readonly #kernel: Kernel;
  readonly #old: Region;
  readonly #new: Region;
  readonly #kinds: Uint8Array;

  /** Both chains must be open: from here on no memory grows. */
  constructor(image: Image, backing: Image | undefined, unit: number) {
    this.#image = image;
    this.#backing = backing;
    this.#unit = unit;
    const isShared = backing === undefined || backing.kernel === image.kernel;
    this.#kernel = isShared ? image.kernel : createKernel();
    const bytes = Math.max(PIECE_BYTES, unit);
    this.#old = this.#kernel.arena.allocate(bytes);
    this.#new = this.#kernel.arena.allocate(bytes);
    this.#kinds = new Uint8Array(bytes / unit);
  }

  /** @param range of whole units, but for the end of the disk */
  async copy(range: OpenRange, step: (done: number) => Promise<void>): Promise<void> {
    const bytes = this.#old.length;
    for (let at = range.start; at < range.end; ) {
      // Pieces end where writes are best cut.
      const end = Math.min(range.end, (Math.floor(at / bytes) + 1) * bytes);
      await Promise.all([
        this.#read(this.#image, range.readsOld, this.#old, at, end),
        this.#read(this.#backing, range.readsNew, this.#new, at, end),
      ]);
      const units = Math.ceil((end - at) / this.#unit);
      this.#classify(range, units, end - at);
      await this.#write(at, end, units);
      await step(end);
      at = end;
    }
  }

  release(): void {
    this.#kernel.arena.release(this.#old);
    this.#kernel.arena.release(this.#new);
  }

  /** Reads a disk, which has zeros where it has ended or is known to be zeros. */
  async #read(
    image: Image | undefined,
    isWanted: boolean,
    into: Region,
    start: number,
    end: number,
  ): Promise<void> {
    const size = isWanted && image !== undefined ? image.virtualSize : 0;
    const inside = Math.max(0, Math.min(end, size) - start);
    if (inside > 0) await image!.read(start, into.bytes.subarray(0, inside));
    into.bytes.fill(0, inside, end - start);
  }

  #classify({ readsOld, readsNew }: OpenRange, units: number, length: number): void {
    const { zero_range, first_difference } = this.#kernel.exports;
    const kinds = this.#kinds;
    const [old, other] = [this.#old.ptr, this.#new.ptr];
    const unit = this.#unit;
    kinds.fill(SAME, 0, units);
    for (let i = 0; i < units; i++) {
      const at = i * unit;
      const bytes = Math.min(unit, length - at);
      if (!readsNew) {
        if (zero_range(old + at, bytes) === 0) kinds[i] = DATA;
      } else {
        // Straight to the next difference.
        const found = first_difference(old + at, other + at, length - at);
        if (found < 0) break;
        i += Math.floor(found / unit);
        const start = i * unit;
        const isZero = !readsOld || zero_range(old + start, Math.min(unit, length - start)) === 1;
        kinds[i] = isZero ? ZEROS : DATA;
      }
    }
  }

  async #write(start: number, end: number, units: number): Promise<void> {
    const kinds = this.#kinds;
    for (let i = 0; i < units; ) {
      const kind = kinds[i];
      let next = i + 1;
      while (next < units && kinds[next] === kind) next++;
      const from = i * this.#unit;
      const to = Math.min(next * this.#unit, end - start);
      if (kind === DATA) await this.#image.write(start + from, this.#old.bytes.subarray(from, to));
      else if (kind === ZEROS) await this.#image.writeZeroes(start + from, to - from);
      i = next;
    }
  }
}
