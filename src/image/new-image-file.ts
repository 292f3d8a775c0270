import { writeL1 } from '../format/l1-entry.ts';
import { SECTOR_SIZE } from '../format/limits.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Storage } from '../storage/storage.ts';
import { ALLOCATOR_SLOTS, AppendAllocator } from './append-allocator.ts';
import { headerCluster, type NewImageLayout } from './new-image.ts';
import { RefcountWriter } from './refcount-writer.ts';
import type { ChunkRecord } from './target.ts';

/**
 * The tables of an image that is being written: one thread keeps them, while chunks are written by
 * any. The file is not an image before `finish`: its header comes last.
 */
export class NewImageFile {
  readonly layout: NewImageLayout;
  /** Shared with every thread that allocates. */
  readonly allocatorState: Float64Array;
  readonly #storage: Storage;
  readonly #refcounts: RefcountWriter;

  constructor(storage: Storage, layout: NewImageLayout, kernel: Kernel, shared: boolean) {
    const bytes = ALLOCATOR_SLOTS * Float64Array.BYTES_PER_ELEMENT;
    this.layout = layout;
    this.allocatorState = new Float64Array(
      shared ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes),
    );
    AppendAllocator.initialise(this.allocatorState, layout.headClusters);
    this.#storage = storage;
    this.#refcounts = new RefcountWriter(storage, layout, kernel);
  }

  /** Enters what a chunk has allocated into L1 table and refcounts. */
  async record({ references, tables }: ChunkRecord): Promise<void> {
    if (references) await this.#refcounts.add(references);
    const entry = new Uint8Array(8);
    for (let i = 0; i < tables.length; i += 2) {
      writeL1(new DataView(entry.buffer), 0, tables[i + 1]!, true);
      await this.#storage.write!(this.layout.header.l1TableOffset + tables[i]! * 8, entry);
    }
  }

  /**
   * Writes what is left, and the header last: of its cluster the first sector, which makes an image of
   * the file, comes when extensions and names are there, for a write may be cut short between sectors.
   */
  async finish(): Promise<void> {
    const { clusterSize } = this.layout.geometry;
    await this.#refcounts.head();
    await this.#refcounts.flush();
    const { l1TableOffset, l1Size, refcountTableOffset } = this.layout.header;
    const headEnd =
      l1Size > 0 ? l1TableOffset + l1Size * 8 : this.layout.headClusters * clusterSize;
    const clusters = AppendAllocator.clusters(this.allocatorState);
    const end =
      clusters === this.layout.headClusters
        ? headEnd
        : AppendAllocator.end(this.allocatorState, clusterSize);
    await this.#storage.truncate!(Math.max(end, refcountTableOffset));
    const header = headerCluster(this.layout);
    if (header.length > SECTOR_SIZE)
      await this.#storage.write!(SECTOR_SIZE, header.subarray(SECTOR_SIZE));
    await this.#storage.write!(0, header.subarray(0, SECTOR_SIZE));
  }
}
