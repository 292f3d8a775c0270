import { Qcow2Error } from '../errors.ts';
import type { Geometry } from '../format/geometry.ts';
import { writeRefcountTableEntry } from '../format/refcount-entry.ts';
import type { Region } from '../kernel/arena.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Storage } from '../storage/storage.ts';
import type { AddedReferences } from './append-allocator.ts';
import type { NewImageLayout } from './new-image.ts';

/**
 * Writes the refcount structures of an image that grows by appending (format section 6). Holds one
 * block at a time; counts arrive roughly in order, so each block is written about once.
 */
export class RefcountWriter {
  readonly #storage: Storage;
  readonly #kernel: Kernel;
  readonly #geometry: Geometry;
  readonly #layout: NewImageLayout;
  readonly #block: Region;
  /** Index of the block in memory, -1 for none. */
  #index = -1;
  /** Blocks below this index are on disk, and in the table as far as it reaches. */
  #written = 0;
  readonly #tableMayMove: boolean;

  /** @param tableMayMove blocks the table has no room for are no error: `moveTable` comes */
  constructor(
    storage: Storage,
    layout: NewImageLayout,
    kernel: Kernel,
    { tableMayMove = false } = {},
  ) {
    this.#tableMayMove = tableMayMove;
    this.#storage = storage;
    this.#kernel = kernel;
    this.#layout = layout;
    this.#geometry = layout.geometry;
    this.#block = kernel.arena.allocate(layout.geometry.clusterSize);
  }

  /** Counts the head of the image once. */
  async head(): Promise<void> {
    await this.#fill(0, this.#layout.headClusters, 1);
  }

  /** Adds what a chunk allocated. */
  async add({ first, counts, open, more }: AddedReferences): Promise<void> {
    if (more > 0) await this.#fill(open, 1, more);
    for (let i = 0; i < counts.length; ) {
      let end = i + 1;
      while (end < counts.length && counts[end] === counts[i]) end++;
      await this.#fill(first + i, end - i, counts[i]!);
      i = end;
    }
  }

  /** Writes the block in memory. */
  async flush(): Promise<void> {
    if (this.#index < 0) return;
    const { refcountTableOffset, refcountTableClusters } = this.#layout.header;
    const room = (refcountTableClusters * this.#geometry.clusterSize) / 8;
    if (this.#index >= room && !this.#tableMayMove) {
      const text = `refcount table: no entry for block ${this.#index} in ${refcountTableClusters} clusters; the image holds more clusters than it was laid out for`;
      throw new Qcow2Error('TOO_LARGE', text, { structure: 'refcount table' });
    }
    await this.#storage.write!(this.#offset(this.#index), this.#block.bytes);
    for (; this.#written <= this.#index; this.#written++) {
      if (this.#written >= room) continue;
      const entry = new Uint8Array(8);
      writeRefcountTableEntry(new DataView(entry.buffer), 0, this.#offset(this.#written));
      await this.#storage.write!(refcountTableOffset + this.#written * 8, entry);
    }
  }

  /** Uncounts a cluster of the head that turned out not to be needed. */
  async release(cluster: number): Promise<void> {
    await this.#fill(cluster, 1, -1);
  }

  /** Writes the blocks, and a table of all of them to another place. */
  async moveTable(offset: number): Promise<void> {
    await this.flush();
    const table = new DataView(new ArrayBuffer(this.#written * 8));
    for (let i = 0; i < this.#written; i++) writeRefcountTableEntry(table, i * 8, this.#offset(i));
    await this.#storage.write!(offset, new Uint8Array(table.buffer));
  }

  async #fill(cluster: number, count: number, references: number): Promise<void> {
    const perBlock = this.#geometry.refcountBlockEntries;
    for (let done = 0; done < count; ) {
      const index = Math.floor((cluster + done) / perBlock);
      const within = (cluster + done) % perBlock;
      const here = Math.min(count - done, perBlock - within);
      if (index !== this.#index) await this.#load(index);
      const { exports } = this.#kernel;
      const order = this.#geometry.refcountOrder;
      const failed = exports.refcount_add(this.#block.ptr, order, within, here, references);
      if (failed >= 0) {
        const text = `refcount of cluster ${cluster + done + failed} exceeds ${this.#geometry.refcountBits} bits; choose a larger refcount_bits`;
        throw new Qcow2Error('TOO_LARGE', text, { structure: 'refcount block' });
      }
      done += here;
    }
  }

  async #load(index: number): Promise<void> {
    await this.flush();
    const bytes = this.#block.bytes;
    const isNew = index >= this.#written;
    bytes.fill(0, isNew ? 0 : await this.#storage.read(this.#offset(index), bytes));
    this.#index = index;
  }

  /** Host offset of block `index`: in the head, or the first cluster it covers. */
  #offset(index: number): number {
    const { clusterSize, refcountBlockEntries } = this.#geometry;
    const { headBlocks, header } = this.#layout;
    const cluster =
      index < headBlocks ? 1 + header.refcountTableClusters + index : index * refcountBlockEntries;
    return cluster * clusterSize;
  }
}
