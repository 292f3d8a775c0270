import { Qcow2Error } from '../errors.ts';
import type { Chain } from '../image/backing-chain.ts';
import type { Image } from '../image/image.ts';
import type { Layer } from '../image/layer.ts';
import { hasPlace, isUnallocated, Plan } from '../image/plan.ts';
import { Qcow2Layer } from '../image/qcow2-layer.ts';
import { RUN_COMPRESSED, RUN_DATA } from '../kernel/abi.ts';
import type { Extent, MaybePromise, Storage } from '../storage/storage.ts';
import { isSparselyStored } from './sparse-file.ts';

/** The range is data of a file. */
export const STATUS_DATA = 1;
/** The range reads as zeros, which is known without reading it. */
export const STATUS_ZERO = 2;
/** The range has a place of its own in a file, used or not. */
export const STATUS_PLACE = 4;
/** A file of the chain answers for the range, also where that file has ended. */
export const STATUS_ALLOCATED = 8;

/** Guest bytes mapped at once; the plan may end it earlier. */
const WINDOW_BYTES = 2 ** 40;
const SECTOR_BYTES = 512;
/** QEMU looks at slices of L2 tables of at most so many bytes, and a run ends with its slice. */
const SLICE_BYTES = 65536;
/** The most bytes of a qcow2 image QEMU tells the status of at once. */
const MAX_QUERY_BYTES = 2 ** 31 - 1;

/** What `StatusRuns` is to find out. */
export interface StatusOptions {
  /** Also tell where data clusters are holes of their file, as QEMU does (one more system call a run). */
  holes: boolean;
}

/**
 * Walks the disk of an image in runs of one block status, front to back, the way QEMU sees it. The
 * fields describe the current run; guest data is not read.
 */
export class StatusRuns {
  /** Guest range of the run, in bytes. Both 0 before the first `next`. */
  start = 0;
  end = 0;
  /** `STATUS_*` bits. */
  flags = 0;
  /** Where the uncompressed data of the run is: host offset of its first byte. Only with `storage`. */
  host = 0;
  storage: Storage | undefined;
  /** Whether the image itself answers for the run, and not what lies below. */
  isOwn = false;
  readonly #image: Image;
  readonly #chain: Chain;
  readonly #sparse: readonly boolean[];
  readonly #plan = new Plan();
  #index = 0;
  /** Guest bytes mapped so far, and how many to map next. */
  #mapped = 0;
  #window = WINDOW_BYTES;
  /** Extents of the file under the data run at hand, the next of them, and the run's end in the file. */
  #extents: readonly Extent[] = [];
  #extent = 0;
  #hostEnd = 0;

  private constructor(image: Image, chain: Chain, sparse: readonly boolean[]) {
    this.#image = image;
    this.#chain = chain;
    this.#sparse = sparse;
  }

  /** @throws Qcow2Error of opening the chain */
  static async open(image: Image, options: StatusOptions): Promise<StatusRuns> {
    const chain = await image.chain();
    const sparse: boolean[] = [];
    for (const { layer } of chain.layers)
      sparse.push(
        options.holes &&
          !!layer.dataStorage.extents &&
          (await isSparselyStored(layer, image.kernel)),
      );
    return new StatusRuns(image, chain, sparse);
  }

  /**
   * Goes on to the run behind; false at the end of the disk. When an entry is invalid, all runs before
   * it come first.
   * @throws Qcow2Error BAD_ENTRY, TRUNCATED, IO
   */
  next(): MaybePromise<boolean> {
    if (this.host < this.#hostEnd) return this.#nextExtent();
    if (this.#index < this.#plan.count) return this.#takeRun();
    if (this.#mapped >= this.#image.virtualSize) return false;
    return this.#mapMore();
  }

  async #mapMore(): Promise<boolean> {
    const size = this.#image.virtualSize;
    while (true) {
      const stop = Math.min(size, this.#mapped + this.#window);
      try {
        this.#mapped = await this.#image.map(this.#mapped, stop, this.#plan);
        this.#window = Math.min(WINDOW_BYTES, this.#window * 2);
        break;
      } catch (error) {
        // What comes before the entry at fault is still good: find it in smaller steps.
        this.#plan.clear();
        if (stop - this.#mapped <= SECTOR_BYTES || !(error instanceof Qcow2Error)) throw error;
        const half = Math.ceil((stop - this.#mapped) / (2 * SECTOR_BYTES));
        this.#window = half * SECTOR_BYTES;
      }
    }
    this.#index = 0;
    return this.next();
  }

  #takeRun(): MaybePromise<boolean> {
    const plan = this.#plan;
    const i = this.#index++;
    const kind = plan.kind[i]!;
    const layer = plan.layer[i]!;
    this.start = plan.guest[i]!;
    this.end = this.start + plan.length[i]!;
    this.flags = flagsOf(kind, layer < this.#chain.layers.length - 1);
    this.storage = undefined;
    this.isOwn = layer === 0 && !isUnallocated(kind);
    if (kind !== RUN_DATA) return true;
    this.storage = this.#chain.layers[layer]!.layer.dataStorage;
    this.host = plan.host[i]!;
    if (!this.#sparse[layer]) return true;
    this.#hostEnd = this.host + plan.length[i]!;
    this.#extents = [];
    this.#extent = 0;
    this.end = this.start;
    return this.#nextExtent();
  }

  /** Goes on to the next extent under the data run at hand. */
  #nextExtent(): MaybePromise<boolean> {
    const at = this.host + (this.end - this.start);
    while (this.#extent < this.#extents.length) {
      const { offset, length, data } = this.#extents[this.#extent]!;
      // What a storage leaves out may be data.
      if (at < offset) return this.#takeExtent(at, offset, true);
      this.#extent++;
      if (at < offset + length) return this.#takeExtent(at, offset + length, data);
    }
    const storage = this.storage!;
    // Behind the file's end there is nothing, which reads as zeros.
    if (at >= storage.size) return this.#takeExtent(at, this.#hostEnd, false);
    const take = (extents: readonly Extent[]): MaybePromise<boolean> => {
      this.#extents = extents;
      this.#extent = 0;
      const last = extents.at(-1);
      if (last && last.offset + last.length > at) return this.#nextExtent();
      return this.#takeExtent(at, this.#hostEnd, true);
    };
    const found = storage.extents!(at, Math.min(this.#hostEnd, storage.size) - at);
    return Array.isArray(found) ? take(found) : found.then(take);
  }

  #takeExtent(from: number, to: number, isData: boolean): true {
    const end = Math.min(to, this.#hostEnd);
    this.start = this.end;
    this.end = this.start + (end - from);
    this.host = from;
    this.flags = STATUS_DATA | STATUS_PLACE | STATUS_ALLOCATED | (isData ? 0 : STATUS_ZERO);
    if (end === this.#hostEnd) this.#hostEnd = 0;
    return true;
  }

  /**
   * With the last run at hand: the guest offset from which on QEMU, too, sees a single run. There
   * compressed clusters and slices of L2 tables are runs of their own.
   */
  lastRun(): number {
    const { layers } = this.#chain;
    const size = this.#image.virtualSize;
    let last = this.start;
    if (this.flags === (STATUS_DATA | STATUS_ALLOCATED)) {
      const { clusterSize } = layers[this.#plan.layer[this.#index - 1]!]!.layer;
      last = Math.max(last, Math.floor((size - 1) / clusterSize) * clusterSize);
    }
    for (const { layer } of layers) {
      if (layer.virtualSize < size) return Math.max(last, layer.virtualSize);
      const slice = sliceCoverage(layer);
      last = Math.max(last, Math.floor((size - 1) / slice) * slice);
    }
    return last;
  }

  /** The most guest bytes from `offset` on that one query of QEMU tells about. */
  queryBytes(offset: number): number {
    let most = Number.POSITIVE_INFINITY;
    for (const { layer } of this.#chain.layers) {
      if (offset >= layer.virtualSize || !(layer instanceof Qcow2Layer)) break;
      const slice = sliceCoverage(layer);
      most = Math.min(most, MAX_QUERY_BYTES, slice - (offset % slice));
    }
    return most;
  }
}

/** Guest bytes a slice of an L2 table maps; Infinity for raw. */
function sliceCoverage(layer: Layer): number {
  if (!(layer instanceof Qcow2Layer)) return Number.MAX_SAFE_INTEGER;
  const { clusterSize, l2EntrySize } = layer.geometry;
  return (Math.min(clusterSize, SLICE_BYTES) / l2EntrySize) * clusterSize;
}

function flagsOf(kind: number, isBelowAnother: boolean): number {
  if (kind === RUN_DATA) return STATUS_DATA | STATUS_PLACE | STATUS_ALLOCATED;
  if (kind === RUN_COMPRESSED) return STATUS_DATA | STATUS_ALLOCATED;
  const place = hasPlace(kind) ? STATUS_PLACE : 0;
  // Unallocated above the last layer: the layer below has ended, and stands for the zeros there.
  const allocated = isUnallocated(kind) && !isBelowAnother ? 0 : STATUS_ALLOCATED;
  return STATUS_ZERO | allocated | place;
}
