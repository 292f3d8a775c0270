import { Qcow2Error } from '../errors.ts';
import type { Geometry } from '../format/geometry.ts';
import type { Region } from '../kernel/arena.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { AddedReferences } from './append-allocator.ts';
import type { NewImageLayout } from './new-image.ts';

/**
 * Counts the clusters of an image that is written strictly front to back (format section 6). One
 * refcount block is in memory: the last one of the head first, then those that follow.
 */
export class SequentialRefcounts {
  /** Index of the block in memory. */
  index = 0;
  readonly #kernel: Kernel;
  readonly #geometry: Geometry;
  readonly #layout: NewImageLayout;
  readonly #block: Region;
  #whole: (index: number, block: Uint8Array) => void = () => {};

  constructor(layout: NewImageLayout, kernel: Kernel) {
    this.#layout = layout;
    this.#geometry = layout.geometry;
    this.#kernel = kernel;
    this.#block = kernel.arena.allocate(layout.geometry.clusterSize);
  }

  /** The block in memory; valid until the next `add`. */
  get block(): Uint8Array {
    return this.#block.bytes;
  }

  /**
   * Starts anew, with the head counted.
   * @param whole called with each block when counting has gone beyond it
   */
  begin(whole: (index: number, block: Uint8Array) => void): void {
    const { headBlocks, headClusters } = this.#layout;
    const first = (headBlocks - 1) * this.#geometry.refcountBlockEntries;
    this.#whole = whole;
    this.index = headBlocks - 1;
    this.#block.bytes.fill(0);
    this.#fill(first, headClusters - first, 1);
  }

  /** Adds what was allocated; clusters come in ascending order. */
  add({ first, counts, open, more }: AddedReferences): void {
    if (more > 0) this.#fill(open, 1, more);
    for (let i = 0; i < counts.length; ) {
      let end = i + 1;
      while (end < counts.length && counts[end] === counts[i]) end++;
      this.#fill(first + i, end - i, counts[i]!);
      i = end;
    }
  }

  /** A block of the head before the last: all it counts is in use. */
  fullBlock(): Uint8Array {
    const { refcountOrder, refcountBlockEntries } = this.#geometry;
    this.#block.bytes.fill(0);
    this.#kernel.exports.refcount_fill(this.#block.ptr, refcountOrder, 0, refcountBlockEntries, 1);
    return this.#block.bytes;
  }

  #fill(cluster: number, count: number, references: number): void {
    const { refcountBlockEntries: perBlock, refcountOrder, refcountBits } = this.#geometry;
    for (let done = 0; done < count; ) {
      const index = Math.floor((cluster + done) / perBlock);
      const within = (cluster + done) % perBlock;
      const here = Math.min(count - done, perBlock - within);
      if (index !== this.index) {
        this.#whole(this.index, this.#block.bytes);
        this.#block.bytes.fill(0);
        this.index = index;
      }
      const { exports } = this.#kernel;
      const failed = exports.refcount_add(this.#block.ptr, refcountOrder, within, here, references);
      if (failed >= 0) {
        const text = `refcount of cluster ${cluster + done + failed} exceeds ${refcountBits} bits; choose a larger refcount_bits`;
        throw new Qcow2Error('TOO_LARGE', text, { structure: 'refcount block' });
      }
      done += here;
    }
  }
}
