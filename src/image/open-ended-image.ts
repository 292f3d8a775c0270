import { Qcow2Error } from '../errors.ts';
import { l1Needed, maxVirtualSize } from '../format/geometry.ts';
import { SECTOR_SIZE } from '../format/limits.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Storage } from '../storage/storage.ts';
import { ALLOCATOR_SLOTS, AppendAllocator } from './append-allocator.ts';
import { layOutImage, type NewImageLayout, type NewImageOptions } from './new-image.ts';
import { writeHeader } from './new-image-file.ts';
import { NewTables } from './new-tables.ts';
import { RefcountWriter } from './refcount-writer.ts';
import type { ChunkRecord } from './target.ts';

/**
 * A new image whose length is known when its last byte is there. L1 and refcount table have a cluster
 * each in the head, as in the image of a known length that needs no more: the bytes are the same then.
 * A table that grows larger comes behind the data, and its cluster in the head stays unused.
 */
export class OpenEndedImageFile {
  readonly layout: NewImageLayout;
  /** Shared with every thread that allocates. */
  readonly allocatorState: Float64Array;
  /** The most bytes the disk can have. */
  readonly maxSize: number;
  readonly #storage: Storage;
  readonly #refcounts: RefcountWriter;
  readonly #tables: NewTables;

  /**
   * @param shared other threads allocate, too
   * @throws Qcow2Error INVALID_ARGUMENT
   */
  constructor(
    storage: Storage,
    options: Omit<NewImageOptions, 'size'>,
    kernel: Kernel,
    shared: boolean,
  ) {
    const bytes = ALLOCATOR_SLOTS * Float64Array.BYTES_PER_ELEMENT;
    this.layout = layOutImage({ ...options, size: SECTOR_SIZE }, 0);
    const { geometry, headClusters } = this.layout;
    this.allocatorState = new Float64Array(
      shared ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes),
    );
    AppendAllocator.initialise(this.allocatorState, headClusters);
    this.maxSize = maxVirtualSize(geometry);
    this.#storage = storage;
    this.#refcounts = new RefcountWriter(storage, this.layout, kernel, { tableMayMove: true });
    this.#tables = new NewTables(storage, undefined, geometry);
  }

  /** Enters what a chunk has allocated into tables and refcounts. */
  async record({ references, tables }: ChunkRecord): Promise<void> {
    if (references) await this.#refcounts.add(references);
    for (const table of tables) await this.#tables.enter(table);
  }

  /**
   * Writes what is left, and the header last.
   * @param size of the disk in bytes, whole sectors, not 0
   * @throws Qcow2Error TOO_LARGE: a table cannot be placed, since its clusters are small
   */
  async finish(size: number): Promise<void> {
    const { geometry, header, headClusters } = this.layout;
    const { clusterSize } = geometry;
    await this.#tables.flush();
    await this.#refcounts.head();
    const l1Size = l1Needed(size, geometry);
    const l1TableOffset = await this.#place('L1 table', header.l1TableOffset, l1Size * 8);
    await this.#storage.write!(l1TableOffset, this.#tables.l1Table(l1Size));
    const table = await this.#placeRefcountTable();
    await this.#refcounts.flush();
    const isEmpty = AppendAllocator.clusters(this.allocatorState) === headClusters;
    const end = isEmpty
      ? l1TableOffset + l1Size * 8
      : AppendAllocator.end(this.allocatorState, clusterSize);
    await this.#storage.truncate!(end);
    const known = { ...header, ...table, size, l1Size, l1TableOffset };
    await writeHeader(this.#storage, { ...this.layout, header: known });
  }

  /** The refcount table in the head, or one behind everything that it counts. */
  async #placeRefcountTable() {
    const { geometry, header } = this.layout;
    const { clusterSize, refcountBlockEntries: perBlock } = geometry;
    const { refcountTableOffset, refcountTableClusters } = header;
    const used = AppendAllocator.clusters(this.allocatorState);
    if (Math.ceil(used / perBlock) * 8 <= refcountTableClusters * clusterSize)
      return { refcountTableOffset, refcountTableClusters };
    // It may skip the rest of a block's clusters, and counts itself.
    let clusters = 1;
    const fits = (): boolean =>
      clusters * clusterSize >= Math.ceil((used + perBlock + clusters) / perBlock) * 8;
    while (!fits()) clusters++;
    const length = clusters * clusterSize;
    const offset = await this.#place('refcount table', refcountTableOffset, length);
    await this.#refcounts.moveTable(offset);
    return { refcountTableOffset: offset, refcountTableClusters: clusters };
  }

  /** The place in the head, if that suffices, or a new one behind the data, all in a row. */
  async #place(structure: string, inHead: number, length: number): Promise<number> {
    const { geometry } = this.layout;
    const { clusterSize, refcountBlockEntries: perBlock } = geometry;
    if (length <= clusterSize) return inHead;
    const clusters = Math.ceil(length / clusterSize);
    if (clusters >= perBlock) {
      const text = `${structure}: ${length} bytes of it find no place behind data of unknown length with clusters of ${clusterSize} bytes; choose larger clusters`;
      throw new Qcow2Error('TOO_LARGE', text, { structure, value: length });
    }
    const next = AppendAllocator.clusters(this.allocatorState);
    // Refcount blocks are at the first cluster they cover, and would be in the way.
    if ((next % perBlock) + clusters > perBlock)
      AppendAllocator.skipTo(this.allocatorState, Math.ceil(next / perBlock) * perBlock);
    const allocator = new AppendAllocator(this.allocatorState, geometry);
    allocator.begin();
    const offset = allocator.cluster();
    for (let i = 1; i < clusters; i++) allocator.cluster();
    await this.#refcounts.add(allocator.added());
    await this.#refcounts.release(inHead / clusterSize);
    return offset;
  }
}
