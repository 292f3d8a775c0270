import { BITMAP_AUTO, BITMAP_IN_USE, bitmapEntryBytes } from '../format/bitmap-directory.ts';
import {
  bitmapClusterCoverage,
  decodeBitmapTableEntry,
  markDirty,
  validateBitmapTableSize,
} from '../format/bitmap-table.ts';
import { AUTOCLEAR_BITMAPS } from '../format/feature-bits.ts';
import { viewOf, writeNumber64 } from '../format/fields.ts';
import type { Geometry } from '../format/geometry.ts';
import { findExtension } from '../format/header-extensions.ts';
import type { ClusterAllocator } from './allocator.ts';
import { type Recorded, setInUse } from './bitmap-mark.ts';
import { BitmapResizer } from './bitmap-resizer.ts';
import type { HeaderState } from './header-state.ts';
import { readBitmaps } from './metadata.ts';
import type { WriteBack } from './write-back.ts';

/**
 * Keeps the enabled persistent bitmaps of an image up to date (format section 13). While the image is
 * being written they are marked in use, so that a writer that dies leaves none that looks right; `store`
 * adds what was recorded and takes the mark away. Memory follows the clusters of bitmap data touched.
 */
export class BitmapRecorder {
  readonly #bitmaps: readonly Recorded[];
  /** Every bitmap of the image. */
  readonly resizable: BitmapResizer;
  readonly #geometry: Geometry;
  readonly #writeBack: WriteBack;

  private constructor(
    bitmaps: readonly Recorded[],
    resizable: BitmapResizer,
    geometry: Geometry,
    writeBack: WriteBack,
  ) {
    this.#bitmaps = bitmaps;
    this.resizable = resizable;
    this.#geometry = geometry;
    this.#writeBack = writeBack;
  }

  /**
   * Finds the enabled bitmaps and marks them in use, durably. One that was in use before cannot be
   * trusted, and is left as it is.
   * @throws Qcow2Error MALFORMED and others of a directory that cannot be read
   */
  static async begin(header: HeaderState, writeBack: WriteBack): Promise<BitmapRecorder> {
    const { metadata } = header;
    const { geometry, extensions, virtualSize } = metadata;
    let offset = findExtension(extensions, 'bitmaps')?.pointer.bitmapDirectoryOffset ?? 0;
    const all: Recorded[] = [];
    for (const entry of await readBitmaps(writeBack.file.storage, metadata)) {
      validateBitmapTableSize(entry, virtualSize, geometry);
      all.push({ entry, offset, chunks: new Map() });
      offset += bitmapEntryBytes(entry);
    }
    const enabled = all.filter(
      ({ entry: { flags } }) => (flags & (BITMAP_AUTO | BITMAP_IN_USE)) === BITMAP_AUTO,
    );
    const resizable = new BitmapResizer(all, geometry, writeBack);
    const recorder = new BitmapRecorder(enabled, resizable, geometry, writeBack);
    await recorder.#setFlags(BITMAP_IN_USE);
    return recorder;
  }

  /** Records that a guest range is about to change. */
  record(start: number, length: number): void {
    if (length <= 0) return;
    for (const { entry, chunks } of this.#bitmaps) {
      const coverage = bitmapClusterCoverage(entry.granularityBits, this.#geometry);
      const last = Math.floor((start + length - 1) / coverage);
      for (let index = Math.floor(start / coverage); index <= last; index++) {
        let bits = chunks.get(index);
        if (bits === undefined) {
          bits = new Uint8Array(this.#geometry.clusterSize);
          chunks.set(index, bits);
        }
        markDirty(bits, entry.granularityBits, { offset: start, length }, index * coverage);
      }
    }
  }

  /**
   * Adds what was recorded to the bitmaps and marks them usable. What has extra data nobody here
   * understands stays marked in use: it cannot be kept right.
   */
  async store(allocator: ClusterAllocator): Promise<void> {
    if (this.#bitmaps.length === 0) return;
    const entries: [at: number, hostOffset: number][] = [];
    for (const bitmap of this.#bitmaps) {
      for (const [index, bits] of bitmap.chunks)
        await this.#storeChunk(
          allocator,
          bitmap.entry.bitmapTableOffset + index * 8,
          bits,
          entries,
        );
      bitmap.chunks.clear();
    }
    // Data and its counters are durable before a table names it, and the tables before the mark goes.
    await this.#writeBack.commitAll();
    await this.#writeBack.barrier();
    for (const [at, hostOffset] of entries) {
      const word = new Uint8Array(8);
      writeNumber64(viewOf(word), 0, hostOffset);
      await this.#writeBack.file.write(at, word);
    }
    await this.#writeBack.barrier();
    await this.#setFlags(0);
  }

  /** Merges the bits of one cluster of a bitmap's data; a table entry it needs goes to `entries`. */
  async #storeChunk(
    allocator: ClusterAllocator,
    tableAt: number,
    bits: Uint8Array,
    entries: [number, number][],
  ): Promise<void> {
    const { file } = this.#writeBack;
    const word = new Uint8Array(8);
    await file.storage.read(tableAt, word);
    const entry = decodeBitmapTableEntry(viewOf(word).getBigUint64(0), this.#geometry);
    if (entry.kind === 'ones') return;
    if (entry.kind === 'zeros') {
      const hostOffset = await allocator.allocateClusters(1);
      await file.write(hostOffset, bits);
      entries.push([tableAt, hostOffset]);
      return;
    }
    const stored = new Uint8Array(this.#geometry.clusterSize);
    await file.storage.read(entry.hostOffset, stored);
    for (let i = 0; i < stored.length; i++) stored[i]! |= bits[i]!;
    await this.#writeBack.requireNoOverlap(entry.hostOffset, stored.length, 'bitmap data');
    await file.write(entry.hostOffset, stored);
  }

  #setFlags(inUse: number): Promise<void> {
    return setInUse(this.#bitmaps, inUse, this.#writeBack);
  }
}

/** Whether the header says that the bitmaps are in sync. */
export function hasBitmaps(header: HeaderState): boolean {
  const { header: fields, extensions } = header.metadata;
  const inSync = (fields.autoclearFeatures & AUTOCLEAR_BITMAPS) !== 0n;
  return inSync && findExtension(extensions, 'bitmaps') !== undefined;
}
