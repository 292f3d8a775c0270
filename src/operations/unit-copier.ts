import type { Image } from '../image/image.ts';
import { Plan } from '../image/plan.ts';
import { Reader } from '../image/reader.ts';
import type { Region } from '../kernel/arena.ts';
import { createKernel, type Kernel } from '../kernel/kernel.ts';
import { readAhead, reserveMemory } from './read-ahead.ts';
import type { OpenRange } from './rebase-plan.ts';

/** Bytes of either disk read at once, and written at once at most. */
const PIECE_BYTES = 1024 * 1024;
/** Bytes of zeros written at once. */
const ZERO_BYTES = 2 ** 30;

/** What becomes of a unit: the new backing file has the same, or the overlay gets zeros, or bytes. */
const SAME = 0;
const ZEROS = 1;
const DATA = 2;

/** What is copied from where. */
export interface CopyParts {
  /** The overlay, open for writing. */
  image: Image;
  /** Its new backing file; absent: none. */
  backing: Image | undefined;
  /** Bytes of a cluster or subcluster of the overlay. */
  unit: number;
  /** Zeros of the overlay need space (version 2). */
  storesZeros: boolean;
}

/** What is copied at once: a part of a range. */
interface Piece extends OpenRange {
  /** Zeros that only cost an entry hide the new backing file: nothing is read. */
  hides: boolean;
}

/** The two disks of a piece. */
interface Disks {
  old: Region;
  new: Region;
}

/**
 * Copies into an overlay what it leaves to its backing file and what another one has not the same, unit
 * by unit (cluster or subcluster); units next to each other go out in one write.
 */
export class UnitCopier {
  readonly #image: Image;
  readonly #backing: Image | undefined;
  readonly #unit: number;
  readonly #storesZeros: boolean;
  readonly #kernel: Kernel;
  /** Reads files below the overlay, which nobody writes, while the overlay is written. */
  readonly #below: Reader;
  readonly #plan = new Plan();
  readonly #disks: readonly [Disks, Disks];
  readonly #kinds: Uint8Array;

  private constructor(parts: CopyParts, below: Reader) {
    const { image, backing, unit, storesZeros } = parts;
    this.#image = image;
    this.#backing = backing;
    this.#unit = unit;
    this.#storesZeros = storesZeros;
    this.#below = below;
    const isShared = backing === undefined || backing.kernel === image.kernel;
    this.#kernel = isShared ? image.kernel : createKernel();
    const bytes = Math.max(PIECE_BYTES, unit);
    const { arena } = this.#kernel;
    const disks = (): Disks => ({ old: arena.allocate(bytes), new: arena.allocate(bytes) });
    this.#disks = [disks(), disks()];
    this.#kinds = new Uint8Array(bytes / unit);
  }

  /** Opens both chains and takes all memory: from here on none grows. */
  static async prepare(parts: CopyParts): Promise<UnitCopier> {
    const { image, backing } = parts;
    await backing?.chain();
    const { layers } = await image.chain();
    const copier = new UnitCopier(parts, new Reader(layers, image.kernel));
    await reserveMemory(backing ? [image, backing] : [image]);
    return copier;
  }

  /** @param ranges of whole units, but for the end of the disk, that the overlay leaves to its backing file */
  async copy(
    ranges: AsyncIterable<OpenRange>,
    step: (done: number) => Promise<void>,
  ): Promise<void> {
    const read = (piece: Piece, disks: Disks): Promise<void> => this.#read(piece, disks);
    for await (const { piece, buffer } of readAhead(this.#pieces(ranges), this.#disks, read)) {
      const { start, end, hides } = piece;
      if (hides) await this.#image.writeZeroes(start, end - start, { unmap: true });
      else await this.#write(piece, buffer);
      await step(end);
    }
  }

  release(): void {
    const { arena } = this.#kernel;
    for (const disks of this.#disks) for (const half of [disks.old, disks.new]) arena.release(half);
    this.#below.release();
  }

  async *#pieces(ranges: AsyncIterable<OpenRange>): AsyncGenerator<Piece> {
    for await (const { start, end, ...reads } of ranges) {
      const hides = !reads.readsOld && !this.#storesZeros;
      const bytes = hides ? ZERO_BYTES : this.#disks[0].old.length;
      // Pieces end where writes are best cut.
      for (let at = start; at < end; ) {
        const to = Math.min(end, (Math.floor(at / bytes) + 1) * bytes);
        yield { start: at, end: to, ...reads, hides };
        at = to;
      }
    }
  }

  async #read(piece: Piece, disks: Disks): Promise<void> {
    if (piece.hides) return;
    const { start, end, readsOld, readsNew } = piece;
    const backing = this.#backing;
    const reads = [
      fill(disks.old, start, end, readsOld ? this.#image.virtualSize : 0, (into) =>
        this.#readBelow(start, into),
      ),
      fill(disks.new, start, end, readsNew && backing ? backing.virtualSize : 0, (into) =>
        backing!.read(start, into),
      ),
    ];
    // If one fails, the other must have ended all the same.
    await Promise.allSettled(reads);
    await Promise.all(reads);
  }

  /** Reads the old disk; its tables are looked at between two writes, the data beside them. */
  async #readBelow(start: number, into: Uint8Array): Promise<void> {
    const end = start + into.length;
    for (let at = start; at < end; ) {
      const reached = await this.#image.map(at, end, this.#plan);
      await this.#below.execute(this.#plan, at, into.subarray(at - start, reached - start));
      at = reached;
    }
  }

  /** Finds what becomes of the units of a piece, and returns how many it has. */
  #classify({ start: from, end, readsOld, readsNew }: Piece, disks: Disks): number {
    const { zero_range, first_difference } = this.#kernel.exports;
    const kinds = this.#kinds;
    const [old, other] = [disks.old.ptr, disks.new.ptr];
    const unit = this.#unit;
    const length = end - from;
    const units = Math.ceil(length / unit);
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
    return units;
  }

  async #write(piece: Piece, disks: Disks): Promise<void> {
    const { start, end } = piece;
    const units = this.#classify(piece, disks);
    const kinds = this.#kinds;
    for (let i = 0; i < units; ) {
      const kind = kinds[i];
      let next = i + 1;
      while (next < units && kinds[next] === kind) next++;
      const from = i * this.#unit;
      const to = Math.min(next * this.#unit, end - start);
      if (kind === DATA) await this.#image.write(start + from, disks.old.bytes.subarray(from, to));
      else if (kind === ZEROS) await this.#image.writeZeroes(start + from, to - from);
      i = next;
    }
  }
}

/** Reads `[start, end)` of a disk, which has zeros from its end on. */
async function fill(
  into: Region,
  start: number,
  end: number,
  size: number,
  read: (into: Uint8Array) => Promise<void>,
): Promise<void> {
  const inside = Math.max(0, Math.min(end, size) - start);
  if (inside > 0) await read(into.bytes.subarray(0, inside));
  into.bytes.fill(0, inside, end - start);
}
