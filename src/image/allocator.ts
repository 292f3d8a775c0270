import { hex, Qcow2Error } from '../errors.ts';
import type { CompressedDescriptor } from '../format/compressed-descriptor.ts';
import { compressedClusters } from '../format/compressed-descriptor.ts';
import type { Geometry } from '../format/geometry.ts';
import { MAX_REFCOUNT_TABLE_BYTES, SECTOR_SIZE } from '../format/limits.ts';
import { writeRefcountTableEntry } from '../format/refcount-entry.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { REFCOUNT_BLOCK, REFCOUNT_TABLE, type TableKind } from './dirty-pages.ts';
import type { HeaderState } from './header-state.ts';
import type { Structure } from './overlap-check.ts';
import { Refcounts } from './refcounts.ts';
import type { TableCache } from './table-cache.ts';
import type { WriteBack } from './write-back.ts';

/** Ranges that may wait to be freed before the tables are written back for it. */
const MAX_WAITING = 4096;

/** Clusters next to each other in the file. */
export interface ClusterRun {
  /** Host offset in bytes. */
  offset: number;
  clusters: number;
}

/**
 * Hands out and takes back the host clusters of an image that is being changed (format sections 6, 16):
 * first fit from a hint, which goes back when a lower cluster becomes free. Counters change in the
 * table cache; `WriteBack` brings them to the file in order. What is freed is still named by tables on
 * the disk: it is lowered, and can be handed out again, once those are durable.
 */
export class ClusterAllocator {
  readonly refcounts: Refcounts;
  readonly #tables: TableCache;
  readonly #storage: number;
  readonly #header: HeaderState;
  readonly #geometry: Geometry;
  readonly #kernel: Kernel;
  readonly #writeBack: WriteBack;
  /** Every cluster below is in use. */
  #hint = 0;
  /** Clusters that lose a reference at the next `releaseFreed`: first and count by turns. */
  #waiting: number[] = [];

  constructor(
    tables: TableCache,
    storage: number,
    header: HeaderState,
    kernel: Kernel,
    writeBack: WriteBack,
  ) {
    this.refcounts = new Refcounts(tables, storage, header, kernel, writeBack.file.storage);
    this.#tables = tables;
    this.#storage = storage;
    this.#header = header;
    this.#geometry = header.metadata.geometry;
    this.#kernel = kernel;
    this.#writeBack = writeBack;
  }

  /**
   * Allocates the first free clusters, next to each other: `most`, or fewer where one in use follows.
   * @throws Qcow2Error TOO_LARGE: the refcount table cannot grow; BAD_ENTRY: they hold metadata
   */
  async allocateRun(most: number): Promise<ClusterRun> {
    for (;;) {
      const { first, count } = await this.refcounts.freeRun(this.#hint, most, true);
      if ((await this.refcounts.blockOffset(this.#blockIndex(first))) === 0) {
        // The block is put at the cluster, and counts itself.
        await this.#addBlocks([this.#blockIndex(first)], first);
        continue;
      }
      await this.#take(first, count);
      this.#hint = first + count;
      return { offset: first * this.#geometry.clusterSize, clusters: count };
    }
  }

  /**
   * Allocates `count` clusters next to each other. Returns the host offset of the first.
   * @throws Qcow2Error as `allocateRun`
   */
  async allocateClusters(count: number): Promise<number> {
    for (let from = this.#hint; ; ) {
      const { first, count: found } = await this.refcounts.freeRun(from, count, false);
      from = first + found;
      if (found < count) continue;
      const missing = await this.#missingBlocks(first, count);
      if (missing.length > 0) {
        // They go right behind, where there is room for both.
        const wanted = count + missing.length;
        const room = await this.refcounts.freeRun(first, wanted, false);
        if (room.count === wanted) await this.#addBlocks(missing, first + count);
        from = room.count === wanted ? first : first + room.count;
        continue;
      }
      await this.#take(first, count);
      // Behind what is found for one cluster nothing is free that was passed over.
      if (first === this.#hint || count === 1) this.#hint = first + count;
      return first * this.#geometry.clusterSize;
    }
  }

  /**
   * Allocates clusters for a table and makes them zeros in the cache.
   * @param structure what the overlap check is to know them as
   */
  async allocateTable(count: number, kind: TableKind, structure: Structure): Promise<number> {
    const { clusterSize } = this.#geometry;
    const offset = await this.allocateClusters(count);
    const end = offset + count * clusterSize;
    this.#writeBack.overlap.claim(structure, offset, end - offset);
    await this.#tables.zero(offset, end - offset, kind);
    await this.#reach(end);
    return offset;
  }

  /**
   * Adds `delta` references to each of `count` clusters from a host offset on; of all or of none.
   * Lowering to zero frees at once: for what no table on the disk names.
   * @returns the runs of clusters that became free
   * @throws Qcow2Error TOO_LARGE: the counters are too narrow; BAD_ENTRY: there are not so many
   */
  async addReference(offset: number, count: number, delta: number): Promise<ClusterRun[]> {
    const { clusterSize } = this.#geometry;
    const first = offset / clusterSize;
    await this.refcounts.add(first, count, delta);
    return delta < 0 ? this.#foundFree(first, count) : [];
  }

  /** Takes one reference from each of `count` clusters, once what is on the disk names them no more. */
  freeClusters(offset: number, count: number): void {
    const first = offset / this.#geometry.clusterSize;
    const waiting = this.#waiting;
    const last = waiting.length - 2;
    if (last >= 0 && waiting[last]! + waiting[last + 1]! === first) waiting[last + 1]! += count;
    else waiting.push(first, count);
  }

  /** The same for the clusters a compressed stream touches. */
  freeCompressed(stream: CompressedDescriptor): void {
    const { first, last } = compressedClusters(stream, this.#geometry);
    this.freeClusters(first * this.#geometry.clusterSize, last - first + 1);
  }

  /** Whether so much waits to be freed that it should be written back for it. */
  get isCrowded(): boolean {
    return this.#waiting.length > 2 * MAX_WAITING;
  }

  /** Whether clusters wait to be freed. */
  get hasFreed(): boolean {
    return this.#waiting.length > 0;
  }

  /**
   * Lowers the counters of what was freed. Called when tables on the disk name it no more.
   * @param discard gets the ranges that became free, in bytes
   * @throws Qcow2Error BAD_ENTRY: more was freed than was counted
   */
  async releaseFreed(discard: (offset: number, length: number) => Promise<void>): Promise<void> {
    const waiting = this.#waiting;
    this.#waiting = [];
    const { clusterSize } = this.#geometry;
    for (let i = 0; i < waiting.length; i += 2) {
      const [first, count] = [waiting[i]!, waiting[i + 1]!];
      await this.refcounts.add(first, count, -1);
      for (const free of await this.#foundFree(first, count))
        await discard(free.offset, free.clusters * clusterSize);
    }
  }

  /** Gives up the refcount block with an index, which counts nothing but, perhaps, itself. */
  async dropBlock(index: number): Promise<void> {
    const { clusterSize } = this.#geometry;
    const offset = await this.refcounts.blockOffset(index);
    const isOwn = this.#blockIndex(offset / clusterSize) === index;
    await this.#setEntry(index, 0);
    this.refcounts.forget();
    this.#writeBack.overlap.release('refcount block', offset, clusterSize);
    this.#tables.dropDirty(offset, clusterSize);
    if (isOwn) this.#hint = Math.min(this.#hint, offset / clusterSize);
    else this.freeClusters(offset, 1);
  }

  /**
   * Makes the file so long that a table in the cache has its place in it: until it is written back, who
   * looks at the length would take it for cut off.
   */
  async #reach(end: number): Promise<void> {
    const { file } = this.#writeBack;
    if (file.size < end) await file.write(end - SECTOR_SIZE, new Uint8Array(SECTOR_SIZE));
  }

  /** Learns which clusters of a range became free. */
  async #foundFree(first: number, count: number): Promise<ClusterRun[]> {
    const { clusterSize } = this.#geometry;
    const found: ClusterRun[] = [];
    await this.refcounts.zeros(first, count, (free, clusters) => {
      this.#hint = Math.min(this.#hint, free);
      found.push({ offset: free * clusterSize, clusters });
    });
    for (const { offset, clusters } of found)
      this.#tables.dropDirty(offset, clusters * clusterSize);
    return found;
  }

  async #take(first: number, count: number): Promise<void> {
    const { clusterSize } = this.#geometry;
    const most = Number.MAX_SAFE_INTEGER - clusterSize;
    if ((first + count) * clusterSize > most) {
      const text = `no room for ${count} clusters behind offset ${hex(first * clusterSize)}: files end at 2^53`;
      throw new Qcow2Error('TOO_LARGE', text, { offset: first * clusterSize });
    }
    await this.#writeBack.requireNoOverlap(
      first * clusterSize,
      count * clusterSize,
      'new clusters',
    );
    await this.refcounts.add(first, count, 1);
  }

  #blockIndex(cluster: number): number {
    return Math.floor(cluster / this.#geometry.refcountBlockEntries);
  }

  /** Blocks that are to count `count` clusters, and themselves right behind, and do not exist. */
  async #missingBlocks(first: number, count: number): Promise<number[]> {
    const missing: number[] = [];
    const last = (): number => this.#blockIndex(first + count + missing.length - 1);
    for (let index = this.#blockIndex(first); index <= last(); index++)
      if ((await this.refcounts.blockOffset(index)) === 0) missing.push(index);
    return missing;
  }

  /**
   * Makes blocks that start at cluster `at`: free clusters that these blocks, or others, count. Instead
   * of that makes the table larger, if it has no room for them: the caller looks for a place again.
   */
  async #addBlocks(indexes: readonly number[], at: number): Promise<void> {
    const { clusterSize } = this.#geometry;
    const last = indexes.at(-1)!;
    if (last >= this.refcounts.tableEntries) return this.#growTable(last + 1);
    const [offset, bytes] = [at * clusterSize, indexes.length * clusterSize];
    await this.#writeBack.requireNoOverlap(offset, bytes, 'refcount blocks');
    await this.#reach(offset + bytes);
    this.#writeBack.overlap.claim('refcount block', offset, bytes);
    try {
      await this.#tables.zero(offset, bytes, REFCOUNT_BLOCK);
    } catch (error) {
      // Nothing names them yet: the clusters are as free as before.
      this.#writeBack.overlap.release('refcount block', offset, bytes);
      this.#tables.dropDirty(offset, bytes);
      throw error;
    }
    await this.#writeBack.undivided(async () => {
      for (const [i, index] of indexes.entries())
        await this.#setEntry(index, (at + i) * clusterSize);
      this.refcounts.forget();
      await this.refcounts.add(at, indexes.length, 1);
    });
  }

  async #setEntry(index: number, blockOffset: number): Promise<void> {
    const at = this.#header.header.refcountTableOffset + index * 8;
    const pointer = await this.#tables.pointer(this.#storage, at);
    writeRefcountTableEntry(new DataView(this.#kernel.arena.u8.buffer), pointer, blockOffset);
    this.#tables.markDirty(at, 8, REFCOUNT_TABLE);
  }

  /**
   * Moves the refcount table to a larger place behind everything it could count so far: when it and the
   * blocks for the new clusters are durable, the header changes.
   */
  async #growTable(needed: number): Promise<void> {
    const { clusterSize, refcountBlockEntries } = this.#geometry;
    const { refcountTableOffset: oldOffset, refcountTableClusters: oldClusters } =
      this.#header.header;
    const entries = this.refcounts.tableEntries;
    const perCluster = clusterSize / 8;
    let clusters = Math.ceil(Math.max(needed, entries * 1.5) / perCluster);
    let blocks = 1;
    for (let before = 0; before !== blocks + clusters; ) {
      before = blocks + clusters;
      blocks = Math.ceil((blocks + clusters) / refcountBlockEntries);
      clusters = Math.max(clusters, Math.ceil((entries + blocks + 1) / perCluster));
    }
    const most = MAX_REFCOUNT_TABLE_BYTES / clusterSize;
    clusters = Math.min(clusters, most);
    if (clusters * perCluster < Math.max(needed, entries + blocks)) {
      const text = `the image needs more than ${MAX_REFCOUNT_TABLE_BYTES} bytes of refcount table; use larger clusters`;
      throw new Qcow2Error('TOO_LARGE', text, { structure: 'refcount table' });
    }
    const at = entries * refcountBlockEntries;
    const [blocksAt, tableAt] = [at * clusterSize, (at + blocks) * clusterSize];
    const bytes = (blocks + clusters) * clusterSize;
    await this.#writeBack.requireNoOverlap(blocksAt, bytes, 'a larger refcount table');
    await this.#writeBack.commitAll();
    await this.#writeBack.undivided(async () => {
      this.#writeBack.overlap.claim('refcount block', blocksAt, blocks * clusterSize);
      this.#writeBack.overlap.claim('refcount table', tableAt, clusters * clusterSize);
      await this.#tables.zero(blocksAt, blocks * clusterSize, REFCOUNT_BLOCK);
      await this.#tables.zero(tableAt, clusters * clusterSize, REFCOUNT_TABLE);
      await this.#copyTable(oldOffset, tableAt, entries * 8);
      await this.#reach(blocksAt + bytes);
      this.#header.stage({ refcountTableOffset: tableAt, refcountTableClusters: clusters });
      this.refcounts.forget();
      for (let i = 0; i < blocks; i++) await this.#setEntry(entries + i, (at + i) * clusterSize);
      await this.refcounts.add(at, blocks + clusters, 1);
      await this.#writeBack.commitAll();
      await this.#writeBack.barrier();
      await this.#header.store();
      await this.#writeBack.barrier();
    });
    this.#writeBack.overlap.release('refcount table', oldOffset, oldClusters * clusterSize);
    this.freeClusters(oldOffset, oldClusters);
  }

  async #copyTable(from: number, to: number, bytes: number): Promise<void> {
    const piece = new Uint8Array(Math.min(bytes, 65536));
    for (let done = 0; done < bytes; ) {
      const here = Math.min(bytes - done, piece.length, 65536 - ((from + done) % 65536));
      const pointer = await this.#tables.pointer(this.#storage, from + done);
      piece.set(this.#kernel.arena.u8.subarray(pointer, pointer + here));
      await this.#tables.put(to + done, piece.subarray(0, here), REFCOUNT_TABLE);
      done += here;
    }
  }
}
