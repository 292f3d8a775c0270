import {
  BITMAP_AUTO,
  BITMAP_IN_USE,
  type BitmapDirectoryEntry,
  bitmapEntryBytes,
} from '../format/bitmap-directory.ts';
import {
  addBits,
  bitmapClusterCoverage,
  decodeBitmapTableEntry,
  markDirty,
  validateBitmapTableSize,
} from '../format/bitmap-table.ts';
import { AUTOCLEAR_BITMAPS } from '../format/feature-bits.ts';
import { viewOf, writeNumber64 } from '../format/fields.ts';
import type { Geometry } from '../format/geometry.ts';
import { findExtension } from '../format/header-extensions.ts';
import type { MaybePromise } from '../storage/storage.ts';
import type { ClusterAllocator } from './allocator.ts';
import { type Recorded, setInUse } from './bitmap-mark.ts';
import { BitmapResizer } from './bitmap-resizer.ts';
import type { HeaderState } from './header-state.ts';
import { readBitmaps } from './metadata.ts';
import type { WriteBack } from './write-back.ts';

/** Bytes of bits that are recorded before they are stored. */
const MOST_HELD = 16 * 1024 * 1024;

/**
 * The persistent bitmaps of an image that is being changed (format section 13). Before guest data
 * changes the enabled ones are marked in use, so that a writer that dies leaves none that looks right;
 * `store` adds what was recorded and takes the mark away. Memory is bounded: what was recorded goes to the
 * file before it takes too much.
 */
export class BitmapRecorder {
  #all: readonly Recorded[] = [];
  /** Those that are kept up to date. */
  #recording: readonly Recorded[] = [];
  /** `no` in the file, `yes` durably, or `perhaps`. */
  #marked: 'no' | 'perhaps' | 'yes' = 'no';
  /** Bytes of what was recorded, at most. */
  #held = 0;
  readonly resizable: BitmapResizer;
  readonly #geometry: Geometry;
  readonly #writeBack: WriteBack;

  private constructor(geometry: Geometry, writeBack: WriteBack) {
    this.resizable = new BitmapResizer(() => this.#all, geometry, writeBack);
    this.#geometry = geometry;
    this.#writeBack = writeBack;
  }

  /**
   * Finds the bitmaps of an image. One that was in use before cannot be trusted, and is left as it is.
   * @throws Qcow2Error MALFORMED and others of a directory that cannot be read
   */
  static async load({ metadata }: HeaderState, writeBack: WriteBack): Promise<BitmapRecorder> {
    const { geometry, extensions, virtualSize } = metadata;
    const recorder = new BitmapRecorder(geometry, writeBack);
    const entries = await readBitmaps(writeBack.file.storage, metadata);
    for (const entry of entries) validateBitmapTableSize(entry, virtualSize, geometry);
    const directory = findExtension(extensions, 'bitmaps')?.pointer.bitmapDirectoryOffset ?? 0;
    recorder.replaced(entries, directory);
    return recorder;
  }

  /** The bitmaps in directory order; the mark of this writer is not among their flags. */
  get entries(): readonly BitmapDirectoryEntry[] {
    return this.#all.map(({ entry }) => entry);
  }

  /**
   * Must be called when other entries, with their bits stored, have become the directory.
   * @param directory its host offset
   */
  replaced(entries: readonly BitmapDirectoryEntry[], directory: number): void {
    let offset = directory;
    this.#all = entries.map((entry) => {
      const recorded = { entry, offset, chunks: new Map() };
      offset += bitmapEntryBytes(entry);
      return recorded;
    });
    this.#recording = this.#all.filter(({ entry }) => isRecording(entry));
  }

  /** An entry as the directory must hold it now: with the mark, if that is set. */
  asStored(entry: BitmapDirectoryEntry): BitmapDirectoryEntry {
    if (this.#marked === 'no' || !isRecording(entry)) return entry;
    return { ...entry, flags: entry.flags | BITMAP_IN_USE };
  }

  /** Must be called before guest data changes: marks the enabled bitmaps in use, durably. */
  mark(): MaybePromise<void> {
    if (this.#marked === 'yes' || this.#recording.length === 0) return;
    return this.#mark();
  }

  /**
   * Records that a guest range is about to change. What was recorded is stored when it takes too much
   * memory.
   */
  async record(start: number, length: number, allocator: ClusterAllocator): Promise<void> {
    if (length <= 0) return;
    const { clusterSize } = this.#geometry;
    for (const { entry, chunks } of this.#recording) {
      const coverage = bitmapClusterCoverage(entry.granularityBits, this.#geometry);
      const last = Math.floor((start + length - 1) / coverage);
      for (let index = Math.floor(start / coverage); index <= last; index++) {
        let bits = chunks.get(index);
        if (bits === undefined) {
          if (this.#held >= MOST_HELD) await this.fold(allocator);
          this.#held += clusterSize;
          bits = new Uint8Array(clusterSize);
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
    if (this.#marked === 'no') return;
    await this.fold(allocator);
    await setInUse(this.#recording, 0, this.#writeBack);
    this.#marked = 'no';
  }

  /** Adds what was recorded so far to the stored bits of the bitmaps, which stay marked. */
  async fold(allocator: ClusterAllocator): Promise<void> {
    this.#held = 0;
    if (!this.#recording.some(({ chunks }) => chunks.size > 0)) return;
    // After an error they must stay marked: some of what was recorded is nowhere.
    await this.#writeBack.undivided(() => this.#fold(allocator));
  }

  async #fold(allocator: ClusterAllocator): Promise<void> {
    const entries: [at: number, hostOffset: number][] = [];
    for (const bitmap of this.#recording) {
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
    addBits(stored, bits);
    await this.#writeBack.requireNoOverlap(entry.hostOffset, stored.length, 'bitmap data');
    await file.write(entry.hostOffset, stored);
  }

  async #mark(): Promise<void> {
    this.#marked = 'perhaps';
    await setInUse(this.#recording, BITMAP_IN_USE, this.#writeBack);
    this.#marked = 'yes';
  }
}

/** Whether a bitmap is kept up to date: it is enabled, and was not in use before. */
function isRecording({ flags }: BitmapDirectoryEntry): boolean {
  return (flags & (BITMAP_AUTO | BITMAP_IN_USE)) === BITMAP_AUTO;
}

/** Whether the header says that the bitmaps are in sync. */
export function hasBitmaps(header: HeaderState): boolean {
  const { header: fields, extensions } = header.metadata;
  const inSync = (fields.autoclearFeatures & AUTOCLEAR_BITMAPS) !== 0n;
  return inSync && findExtension(extensions, 'bitmaps') !== undefined;
}
