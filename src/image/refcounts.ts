import { hex, Qcow2Error } from '../errors.ts';
import type { Geometry } from '../format/geometry.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { MaybePromise, Storage } from '../storage/storage.ts';
import { REFCOUNT_BLOCK } from './dirty-pages.ts';
import type { HeaderState } from './header-state.ts';
import { PAGE_BYTES, type TableCache } from './table-cache.ts';

/** A run of free clusters. */
export interface FreeRun {
  first: number;
  count: number;
}

/**
 * The reference counters of an image's host clusters (format section 6), through the table cache. A
 * block is worked on in parts: what of it lies in one page of the cache.
 */
export class Refcounts {
  readonly #tables: TableCache;
  readonly #storage: number;
  readonly #kernel: Kernel;
  readonly #geometry: Geometry;
  readonly #header: HeaderState;
  readonly #file: Storage;
  /** Counters of a part, and parts of a block. */
  readonly #partEntries: number;
  readonly #partBytes: number;
  /** The block looked up last. */
  #index = -1;
  #offset = 0;

  /** @param storage number of the image file `file` in the table cache */
  constructor(
    tables: TableCache,
    storage: number,
    header: HeaderState,
    kernel: Kernel,
    file: Storage,
  ) {
    const { geometry } = header.metadata;
    this.#tables = tables;
    this.#storage = storage;
    this.#kernel = kernel;
    this.#geometry = geometry;
    this.#header = header;
    this.#file = file;
    this.#partBytes = Math.min(geometry.clusterSize, PAGE_BYTES);
    this.#partEntries = (this.#partBytes * 8) / geometry.refcountBits;
  }

  /** Entries of the refcount table. */
  get tableEntries(): number {
    return (this.#header.header.refcountTableClusters * this.#geometry.clusterSize) / 8;
  }

  /**
   * Host offset of a refcount block; 0 if there is none.
   * @throws Qcow2Error BAD_ENTRY for an offset that cannot be followed; TRUNCATED past the file's end
   */
  blockOffset(index: number): MaybePromise<number> {
    if (index === this.#index) return this.#offset;
    if (index >= this.tableEntries) return 0;
    const at = this.#header.header.refcountTableOffset + index * 8;
    const read = (pointer: number): number => {
      const bytes = this.#kernel.arena.u8;
      let offset = 0;
      for (let i = 0; i < 8; i++) offset = offset * 256 + bytes[pointer + i]!;
      // Bits 0 to 8 are reserved, and check tells of them.
      offset -= offset % 512;
      if (offset % this.#geometry.clusterSize !== 0 || offset > Number.MAX_SAFE_INTEGER) {
        const text = `refcount table entry ${index} at offset ${hex(at)}: block offset ${hex(offset)} is not a cluster's; repair the image (check -r all)`;
        throw new Qcow2Error('BAD_ENTRY', text, { structure: 'refcount table', offset: at });
      }
      // Its counters would pass for zeros, and clusters in use for free ones.
      if (offset >= this.#file.size) {
        const text = `refcount table entry ${index} at offset ${hex(at)}: block offset ${hex(offset)} is past the end of the file (${hex(this.#file.size)}); the file is truncated`;
        throw new Qcow2Error('TRUNCATED', text, { structure: 'refcount table', offset: at });
      }
      this.#index = index;
      this.#offset = offset;
      return offset;
    };
    const pointer = this.#tables.pointer(this.#storage, at);
    return typeof pointer === 'number' ? read(pointer) : pointer.then(read);
  }

  /** Must be called when the refcount table changes. */
  forget(): void {
    this.#index = -1;
  }

  /**
   * The counter of a cluster; 0 where there is no block.
   * @throws Qcow2Error TOO_LARGE above 2^53 - 1
   */
  async get(cluster: number): Promise<number> {
    const pointer = await this.#part(cluster);
    if (pointer === 0) return 0;
    const { refcountBits } = this.#geometry;
    const index = cluster % this.#partEntries;
    const bytes = this.#kernel.arena.u8;
    if (refcountBits < 8)
      return (
        (bytes[pointer + ((index * refcountBits) >> 3)]! >> ((index * refcountBits) & 7)) &
        (2 ** refcountBits - 1)
      );
    let value = 0;
    const width = refcountBits / 8;
    for (let i = 0; i < width; i++) value = value * 256 + bytes[pointer + index * width + i]!;
    if (value <= Number.MAX_SAFE_INTEGER) return value;
    const text = `reference counter of cluster ${cluster} is ${value}; counters above 2^53-1 are not supported`;
    throw new Qcow2Error('TOO_LARGE', text, { structure: 'refcount block', value });
  }

  /**
   * Adds `delta` to the counters of `count` clusters: of all, or of none.
   * @throws Qcow2Error TOO_LARGE if a counter is too narrow, BAD_ENTRY if one would go below zero or
   *   has no block
   */
  async add(first: number, count: number, delta: number): Promise<void> {
    for (let done = 0; done < count; ) {
      const here = await this.#addInPart(first + done, count - done, delta);
      if (here < 0) {
        const failed = first + done - here - 1;
        if (done > 0) await this.add(first, done, -delta);
        throw this.#cannotCount(failed, delta);
      }
      done += here;
    }
  }

  /**
   * The first free clusters at or behind `from`: up to `wanted`. Clusters without a block are free; no
   * run is shorter than `wanted` unless a cluster in use ends it, or a missing block where
   * `inBlocks` asks for runs that are counted already.
   */
  async freeRun(from: number, wanted: number, inBlocks: boolean): Promise<FreeRun> {
    const { exports } = this.#kernel;
    const { refcountOrder: order } = this.#geometry;
    let first = -1;
    for (let at = from; ; ) {
      const found = this.#part(at);
      const pointer = typeof found === 'number' ? found : await found;
      const index = at % this.#partEntries;
      const left = this.#partEntries - index;
      if (pointer === 0) {
        if (inBlocks && first >= 0) return { first, count: at - first };
        if (first < 0) first = at;
        if (inBlocks || at + left - first >= wanted) return { first, count: wanted };
        at += left;
        continue;
      }
      let start = index;
      if (first < 0) {
        start = exports.refcount_scan(pointer, order, index, left, 1);
        if (start < 0) {
          at += left;
          continue;
        }
        first = at - index + start;
      }
      // No further than is wanted: what follows is mostly free, to the end of the block.
      const stop = Math.min(this.#partEntries, first + wanted - (at - index));
      const end = exports.refcount_scan(pointer, order, start, stop - start, 0);
      at += (end < 0 ? stop : end) - index;
      if (end >= 0 || at - first >= wanted) return { first, count: Math.min(at - first, wanted) };
    }
  }

  /**
   * Calls `report` with each run of clusters in a range whose counter is zero.
   * @param report must not use the table cache
   */
  async zeros(
    first: number,
    count: number,
    report: (first: number, count: number) => void,
  ): Promise<void> {
    const { exports } = this.#kernel;
    const { refcountOrder: order } = this.#geometry;
    for (let at = first; at < first + count; ) {
      const pointer = await this.#part(at);
      const index = at % this.#partEntries;
      const end = Math.min(this.#partEntries, index + first + count - at);
      for (let i = index; pointer !== 0 && i < end; ) {
        const start = exports.refcount_scan(pointer, order, i, end - i, 1);
        if (start < 0) break;
        const next = exports.refcount_scan(pointer, order, start, end - start, 0);
        i = next < 0 ? end : next;
        report(at - index + start, i - start);
      }
      at += end - index;
    }
  }

  /**
   * Tells of each of the first `count` clusters in a list whether its counter is exactly 1.
   * @param into gets 1 or 0 for each
   */
  async areOne(clusters: Float64Array, count: number, into: Uint8Array): Promise<void> {
    const { refcountBits } = this.#geometry;
    let part = -1;
    let pointer = 0;
    for (let i = 0; i < count; i++) {
      const cluster = clusters[i]!;
      const its = Math.floor(cluster / this.#partEntries);
      if (its !== part) {
        const found = this.#part(cluster);
        pointer = typeof found === 'number' ? found : await found;
        part = its;
      }
      into[i] =
        pointer !== 0 && this.#isOne(pointer, cluster % this.#partEntries, refcountBits) ? 1 : 0;
    }
  }

  #isOne(pointer: number, index: number, bits: number): boolean {
    const bytes = this.#kernel.arena.u8;
    if (bits < 8) {
      const at = index * bits;
      return ((bytes[pointer + (at >> 3)]! >> (at & 7)) & (2 ** bits - 1)) === 1;
    }
    const width = bits / 8;
    const last = pointer + (index + 1) * width - 1;
    if (bytes[last] !== 1) return false;
    for (let at = last - width + 1; at < last; at++) if (bytes[at] !== 0) return false;
    return true;
  }

  /** Counters changed; how many, or -1 - the number of clusters in front of the one that cannot. */
  async #addInPart(cluster: number, most: number, delta: number): Promise<number> {
    const { exports } = this.#kernel;
    const { refcountBits, refcountOrder } = this.#geometry;
    const found = this.#part(cluster);
    const pointer = typeof found === 'number' ? found : await found;
    if (pointer === 0) return -1;
    const index = cluster % this.#partEntries;
    const count = Math.min(most, this.#partEntries - index);
    const failed = exports.refcount_add(pointer, refcountOrder, index, count, delta);
    if (failed >= 0) return -1 - (failed - index);
    const bits = index * refcountBits;
    const from = Math.floor(bits / 8);
    const to = Math.ceil((bits + count * refcountBits) / 8);
    const at = this.#offset + (Math.floor(cluster / this.#partEntries) % this.#parts) * PAGE_BYTES;
    this.#tables.markDirty(at + from, to - from, REFCOUNT_BLOCK);
    return count;
  }

  get #parts(): number {
    return this.#geometry.clusterSize / this.#partBytes;
  }

  /** Pointer to the part that has a cluster's counter; 0 if there is no block. */
  #part(cluster: number): MaybePromise<number> {
    const part = Math.floor(cluster / this.#partEntries);
    const within = (part % this.#parts) * PAGE_BYTES;
    const pointer = (offset: number): MaybePromise<number> =>
      offset === 0 ? 0 : this.#tables.pointer(this.#storage, offset + within);
    const offset = this.blockOffset(Math.floor(part / this.#parts));
    return typeof offset === 'number' ? pointer(offset) : offset.then(pointer);
  }

  #cannotCount(cluster: number, delta: number): Qcow2Error {
    const { clusterSize, refcountBits } = this.#geometry;
    const where = { structure: 'refcount block', offset: cluster * clusterSize };
    const what = `reference counter of the cluster at offset ${hex(where.offset)}`;
    if (delta > 0) {
      const text = `${what}: cannot be raised by ${delta}; ${refcountBits} bits hold no more, choose a larger refcount_bits`;
      return new Qcow2Error('TOO_LARGE', text, where);
    }
    const text = `${what}: is too low to be lowered by ${-delta}; repair the image (check -r all)`;
    return new Qcow2Error('BAD_ENTRY', text, where);
  }
}
