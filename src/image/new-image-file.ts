import type { BitmapsPointer } from '../format/bitmap-directory.ts';
import { SECTOR_SIZE } from '../format/limits.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Storage } from '../storage/storage.ts';
import { ALLOCATOR_SLOTS, AppendAllocator } from './append-allocator.ts';
import { headerCluster, type NewImageLayout, withBitmaps } from './new-image.ts';
import { NewTables } from './new-tables.ts';
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
  readonly #tables: NewTables;

  constructor(storage: Storage, layout: NewImageLayout, kernel: Kernel, shared: boolean) {
    const bytes = ALLOCATOR_SLOTS * Float64Array.BYTES_PER_ELEMENT;
    this.layout = layout;
    this.allocatorState = new Float64Array(
      shared ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes),
    );
    AppendAllocator.initialise(this.allocatorState, layout.headClusters);
    this.#storage = storage;
    this.#refcounts = new RefcountWriter(storage, layout, kernel);
    this.#tables = new NewTables(storage, layout.header.l1TableOffset, layout.geometry);
  }

  /** Enters what a chunk has allocated into tables and refcounts. */
  async record({ references, tables }: ChunkRecord): Promise<void> {
    if (references) await this.#refcounts.add(references);
    for (const table of tables) await this.#tables.enter(table);
  }

  /** Writes the L2 tables gathered so far, for those who read them in the file. */
  async writeTables(): Promise<void> {
    await this.#tables.flush();
  }

  /**
   * Writes what is left, and the header last.
   * @param bitmaps what the bitmaps extension says, if bitmaps were written
   */
  async finish(bitmaps?: Omit<BitmapsPointer, 'reserved'>): Promise<void> {
    const { clusterSize } = this.layout.geometry;
    await this.writeTables();
    await this.#refcounts.head();
    await this.#refcounts.flush();
    const { l1TableOffset, l1Size, refcountTableOffset } = this.layout.header;
    const wholeHead = this.layout.headClusters * clusterSize;
    const headEnd = l1Size > 0 && !bitmaps ? l1TableOffset + l1Size * 8 : wholeHead;
    const clusters = AppendAllocator.clusters(this.allocatorState);
    const end =
      clusters === this.layout.headClusters
        ? headEnd
        : AppendAllocator.end(this.allocatorState, clusterSize);
    await this.#storage.truncate!(Math.max(end, refcountTableOffset));
    await writeHeader(this.#storage, bitmaps ? withBitmaps(this.layout, bitmaps) : this.layout);
  }
}

/**
 * Writes the header of an image that is complete but for it: of its cluster the first sector, which
 * makes an image of the file, comes when extensions and names are there, for a write may be cut short
 * between sectors.
 */
export async function writeHeader(storage: Storage, layout: NewImageLayout): Promise<void> {
  const header = headerCluster(layout);
  if (header.length > SECTOR_SIZE) await storage.write!(SECTOR_SIZE, header.subarray(SECTOR_SIZE));
  await storage.write!(0, header.subarray(0, SECTOR_SIZE));
}
