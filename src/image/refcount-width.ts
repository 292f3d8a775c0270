import { hex, Qcow2Error } from '../errors.ts';
import { viewOf, writeNumber64 } from '../format/fields.ts';
import { type Geometry, geometryOf, maxRefcount } from '../format/geometry.ts';
import { MAX_REFCOUNT_TABLE_BYTES } from '../format/limits.ts';
import { getRefcount, setRefcount } from '../format/refcount-entry.ts';
import type { Step } from './preallocation.ts';
import { requireReadToEnd } from './whole-read.ts';
import type { WritableQcow2 } from './writable-qcow2.ts';

/** A refcount table and the blocks it names: what they take in the file, by host offset in bytes. */
export interface RefcountStructure {
  table: { offset: number; clusters: number };
  blocks: number[];
}

/**
 * A second set of refcount structures with counters of another width (format sections 6, 16), in
 * clusters that the present one counts as taken. The header says nothing of it yet.
 */
export class RefcountRebuild {
  readonly #disk: WritableQcow2;
  readonly #step: Step;
  readonly #old: Geometry;
  readonly #new: Geometry;

  /** @param order log2 of the new width in bits */
  constructor(disk: WritableQcow2, order: number, step: Step) {
    const { header, geometry } = disk.header.metadata;
    this.#disk = disk;
    this.#step = step;
    this.#old = geometry;
    this.#new = geometryOf({ ...header, refcountOrder: order });
  }

  /**
   * Where the present structures lie.
   * @throws Qcow2Error BAD_ENTRY, TRUNCATED
   */
  async present(): Promise<RefcountStructure> {
    const { refcounts } = this.#disk.allocator;
    const { refcountTableOffset: offset, refcountTableClusters: clusters } =
      this.#disk.header.header;
    const blocks: number[] = [];
    for (let index = 0; index < refcounts.tableEntries; index++) {
      const block = await refcounts.blockOffset(index);
      if (block !== 0) blocks.push(block);
    }
    return { table: { offset, clusters }, blocks };
  }

  /**
   * Checks that every counter fits; tells which of the new blocks will have some.
   * @throws Qcow2Error TOO_LARGE
   */
  async #needed(): Promise<Set<number>> {
    const needed = new Set<number>();
    const most = maxRefcount(this.#new.refcountOrder);
    const perBlock = this.#new.refcountBlockEntries;
    await this.#eachCounter((cluster, count) => {
      if (BigInt(count) > most) {
        const { clusterSize } = this.#old;
        const offset = cluster * clusterSize;
        const text = `Cannot decrease refcount entry width to ${this.#new.refcountBits} bits: Cluster at offset ${hex(offset)} has a refcount of ${count}`;
        throw new Qcow2Error('TOO_LARGE', text, { structure: 'refcount block', offset });
      }
      needed.add(Math.floor(cluster / perBlock));
    });
    return needed;
  }

  /** Checks that every counter fits the new width. */
  async requireFit(): Promise<void> {
    await this.#needed();
  }

  /**
   * Takes clusters for the new structures and writes them: all counters as they are, those of both
   * structures among them. Durable when this settles, and counted.
   * @throws Qcow2Error TOO_LARGE: a counter or the table does not fit; those of the allocator
   */
  async write(): Promise<RefcountStructure['table']> {
    const { clusterSize } = this.#old;
    const { allocator, writeBack } = this.#disk;
    const blocks = new Map<number, number>();
    let table = { offset: 0, clusters: 0 };
    // What is taken must be counted too, which may take more.
    for (;;) {
      const needed = await this.#needed();
      const missing = [...needed].filter((index) => !blocks.has(index));
      const entries = Math.max(...needed) + 1;
      const clusters = Math.ceil((entries * 8) / clusterSize);
      if (missing.length === 0 && clusters <= table.clusters) break;
      if (clusters * clusterSize > MAX_REFCOUNT_TABLE_BYTES) throw tooLarge(this.#new);
      for (const index of missing) blocks.set(index, await allocator.allocateClusters(1));
      if (clusters > table.clusters) {
        if (table.clusters > 0) await this.#disk.releaseClusters(table.offset, table.clusters);
        table = { offset: await allocator.allocateClusters(clusters), clusters };
      }
      await writeBack.commitAll();
    }
    await this.#writeBlocks(blocks);
    await this.#writeTable(table, blocks);
    await writeBack.barrier();
    return table;
  }

  async #writeBlocks(blocks: ReadonlyMap<number, number>): Promise<void> {
    const { clusterSize } = this.#old;
    const { refcountBlockEntries: perBlock, refcountOrder: order } = this.#new;
    const block = new Uint8Array(clusterSize);
    let current = -1;
    const flush = async (): Promise<void> => {
      if (current >= 0) await this.#put(blocks.get(current)!, block);
    };
    await this.#eachCounter((cluster, count) => {
      const index = Math.floor(cluster / perBlock);
      const set = (): void => setRefcount(block, cluster % perBlock, order, count);
      if (index === current) return set();
      return flush().then(() => {
        block.fill(0);
        current = index;
        set();
      });
    });
    await flush();
  }

  async #writeTable(
    { offset, clusters }: RefcountStructure['table'],
    blocks: ReadonlyMap<number, number>,
  ): Promise<void> {
    const table = new Uint8Array(clusters * this.#old.clusterSize);
    for (const [index, block] of blocks) writeNumber64(viewOf(table), index * 8, block);
    await this.#put(offset, table);
  }

  async #put(offset: number, bytes: Uint8Array): Promise<void> {
    const { writeBack } = this.#disk;
    await writeBack.requireNoOverlap(offset, bytes.length, 'refcount structures of another width');
    await writeBack.file.write(offset, bytes);
  }

  /** Goes through the counters that are not zero, as they are in the file, in order of clusters. */
  async #eachCounter(
    visit: (cluster: number, count: number) => void | Promise<void>,
  ): Promise<void> {
    const { refcounts } = this.#disk.allocator;
    const { storage } = this.#disk.writeBack.file;
    const { clusterSize, refcountOrder: order, refcountBlockEntries: perBlock } = this.#old;
    const block = new Uint8Array(clusterSize);
    for (let index = 0; index < refcounts.tableEntries; index++) {
      const offset = await refcounts.blockOffset(index);
      if (offset === 0) continue;
      await this.#step();
      const n = await storage.read(offset, block);
      requireReadToEnd(storage, offset + n, offset + clusterSize);
      block.fill(0, n);
      for (let i = 0; i < perBlock; i++) {
        const count = getRefcount(block, i, order);
        if (count === 0) continue;
        const visiting = visit(index * perBlock + i, count);
        if (visiting !== undefined) await visiting;
      }
    }
  }
}

function tooLarge({ refcountBits }: Geometry): Qcow2Error {
  const text = `with counters of ${refcountBits} bits the refcount table would have more than ${MAX_REFCOUNT_TABLE_BYTES} bytes; choose a smaller refcount_bits`;
  return new Qcow2Error('TOO_LARGE', text, { structure: 'refcount table' });
}
