import type { Geometry } from '../format/geometry.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { l2Tables } from './cluster-tree.ts';
import { L2_TABLE } from './dirty-pages.ts';
import { ALL_SUBCLUSTERS, L2Slice } from './l2-slice.ts';
import type { Step } from './preallocation.ts';
import type { SyncedFile } from './synced-file.ts';
import { PAGE_BYTES } from './table-cache.ts';
import type { WritableQcow2 } from './writable-qcow2.ts';

/**
 * Says without the zero flag, which version 2 lacks, what L2 entries say with it (format sections 7, 16):
 * by no entry at all, or where that would show a backing file by a cluster of stored zeros. Tables are
 * changed where they are, also those that trees share: the disks read the same.
 */
export class ZeroExpander {
  readonly #disk: WritableQcow2;
  readonly #geometry: Geometry;
  readonly #slice: L2Slice;
  readonly #hasBacking: boolean;

  /** @param hasBacking whether a backing file answers for what has no entry */
  constructor(disk: WritableQcow2, hasBacking: boolean, kernel: Kernel) {
    const { geometry } = disk.header.metadata;
    this.#disk = disk;
    this.#geometry = geometry;
    this.#hasBacking = hasBacking;
    this.#slice = new L2Slice(kernel.arena, { geometry, version: 3, dataFile: false });
  }

  /** Whether an L1 table leads to compressed clusters. */
  async hasCompressed(l1: Uint8Array, step: Step): Promise<boolean> {
    for (const { l2Offset } of l2Tables(l1, this.#disk)) {
      await step();
      for (let index = 0; index < this.#geometry.l2Entries; index += this.#perPage) {
        await this.#show(l2Offset, index);
        for (let i = 0; i < this.#perPage; i++) if (this.#slice.isCompressed(i)) return true;
      }
    }
    return false;
  }

  /**
   * Expands what an L1 table leads to. Copied flags may be wrong afterwards where clusters are shared.
   * @param diskSize of the disk the table is of, in bytes: behind it no backing file shows
   * @throws Qcow2Error BAD_ENTRY, TRUNCATED, those of the allocator, IO
   */
  async expand(l1: Uint8Array, diskSize: number, step: Step): Promise<void> {
    const { allocator } = this.#disk;
    const { l2Coverage, clusterSize, l2Entries } = this.#geometry;
    for (const { index: l1Index, l2Offset } of l2Tables(l1, this.#disk)) {
      await step();
      const shared = await allocator.refcounts.get(l2Offset / clusterSize);
      for (let index = 0; index < l2Entries; ) {
        const guest = l1Index * l2Coverage + index * clusterSize;
        const hidden = this.#hasBacking ? Math.ceil((diskSize - guest) / clusterSize) : 0;
        index += await this.#expandPage(l2Offset, index, hidden, shared);
      }
      if (allocator.isCrowded) await this.#disk.flush();
    }
  }

  /**
   * Expands a run of zeros in a page, or finds none; returns how many entries are done with.
   * @param hidden entries from the first on that must not show a backing file
   * @param times how many trees have the table
   */
  async #expandPage(
    l2Offset: number,
    index: number,
    hidden: number,
    times: number,
  ): Promise<number> {
    const { allocator, writeBack } = this.#disk;
    const left = this.#perPage - (index % this.#perPage);
    const slice = await this.#show(l2Offset, index);
    let first = 0;
    while (first < left && !this.#isZero(first)) first++;
    if (first === left) return left;
    let end = first;
    const stop = first < hidden ? Math.min(left, hidden) : left;
    while (end < stop && this.#isZero(end)) end++;
    await writeBack.beforeChange();
    let host = -1;
    if (first < hidden) {
      const run = await allocator.allocateRun(end - first);
      end = first + run.clusters;
      host = run.offset;
      if (times > 1) await allocator.addReference(host, run.clusters, times - 1);
      await storeZeros(writeBack.file, host, run.clusters * this.#geometry.clusterSize);
    }
    await this.#show(l2Offset, index);
    for (let i = first; i < end; i++) {
      const old = slice.host(i);
      if (old >= 0) for (let n = 0; n < times; n++) allocator.freeClusters(old, 1);
      if (host < 0) slice.setPlain(i, 0);
      else {
        const at = host + (i - first) * this.#geometry.clusterSize;
        slice.setHost(i, at, times === 1, ALL_SUBCLUSTERS, 0);
      }
    }
    this.#disk.tables.markDirty(l2Offset + (index + first) * 8, (end - first) * 8, L2_TABLE);
    return end;
  }

  #isZero(i: number): boolean {
    return !this.#slice.isCompressed(i) && this.#slice.zeros(i) !== 0;
  }

  async #show(l2Offset: number, index: number): Promise<L2Slice> {
    const { tables, tableStorage } = this.#disk;
    const at = l2Offset + index * this.#geometry.l2EntrySize;
    return this.#slice.at(await tables.pointer(tableStorage, at));
  }

  get #perPage(): number {
    const { clusterSize, l2EntrySize } = this.#geometry;
    return Math.min(clusterSize, PAGE_BYTES) / l2EntrySize;
  }
}

const ZEROS = new Uint8Array(1 << 16);

/** Makes clusters of an image zeros, behind its end too. */
async function storeZeros(file: SyncedFile, offset: number, length: number): Promise<void> {
  const end = offset + length;
  const inside = Math.min(file.size, end) - offset;
  if (inside > 0) await file.zero(offset, inside);
  if (file.size >= end) return;
  if (file.storage.truncate !== undefined) return file.truncate(end);
  for (let at = Math.max(offset, file.size); at < end; at += ZEROS.length)
    await file.write(at, ZEROS.subarray(0, end - at));
}
