import { Qcow2Error } from '../errors.ts';
import { BITMAP_AUTO, BITMAP_IN_USE, validateBitmapEntry } from '../format/bitmap-directory.ts';
import {
  bitmapBits,
  bitmapClusterCoverage,
  bitmapTableNeeded,
  clearBitsFrom,
  decodeBitmapTableEntry,
} from '../format/bitmap-table.ts';
import { viewOf, writeNumber64 } from '../format/fields.ts';
import type { Geometry } from '../format/geometry.ts';
import type { ClusterAllocator } from './allocator.ts';
import { type Recorded, setInUse } from './bitmap-mark.ts';
import type { WriteBack } from './write-back.ts';

/**
 * Makes the tables of all bitmaps, enabled or not, fit another length of the disk (format section 13): a
 * bitmap whose table does not makes the image unusable unless it is marked in use. What is new is clean.
 */
export class BitmapResizer {
  readonly #list: () => readonly Recorded[];
  readonly #geometry: Geometry;
  readonly #writeBack: WriteBack;

  /** @param list the bitmaps of the image as they are when it is asked */
  constructor(list: () => readonly Recorded[], geometry: Geometry, writeBack: WriteBack) {
    this.#list = list;
    this.#geometry = geometry;
    this.#writeBack = writeBack;
  }

  /**
   * Refuses bitmaps that cannot be resized. To be called before anything is changed.
   * @throws Qcow2Error REFUSED: one is inconsistent; TOO_LARGE: its table cannot be so long
   */
  requirePossible(size: number): void {
    for (const { entry } of this.#list()) {
      const { flags, name, granularityBits } = entry;
      if ((flags & BITMAP_IN_USE) !== 0) {
        const text = `Bitmap '${name.text}' is inconsistent and cannot be used; remove it from the image first`;
        throw new Qcow2Error('REFUSED', text, { structure: 'bitmap directory entry' });
      }
      const bitmapTableSize = bitmapTableNeeded(size, granularityBits, this.#geometry);
      try {
        validateBitmapEntry({ ...entry, bitmapTableSize }, this.#geometry);
      } catch (cause) {
        const text = `bitmap '${name.text}' cannot cover ${size} bytes: its granularity is too fine; remove it from the image first`;
        const details = { structure: 'bitmap directory entry', value: bitmapTableSize };
        throw new Qcow2Error('TOO_LARGE', text, details, { cause });
      }
    }
  }

  /** Marks those in use that nobody records to, before the header's size changes. */
  begin(): Promise<void> {
    return setInUse(this.#disabled, BITMAP_IN_USE, this.#writeBack);
  }

  /** Gives all the tables they need, when the header's size has changed, and takes the marks away. */
  async finish(size: number, allocator: ClusterAllocator): Promise<void> {
    for (const bitmap of this.#list()) {
      const needed = bitmapTableNeeded(size, bitmap.entry.granularityBits, this.#geometry);
      for (const index of bitmap.chunks.keys()) if (index >= needed) bitmap.chunks.delete(index);
      if (needed !== bitmap.entry.bitmapTableSize) await this.#moveTable(bitmap, needed, allocator);
      await this.#clearBehind(bitmap, size);
    }
    await this.#writeBack.barrier();
    await setInUse(this.#disabled, 0, this.#writeBack);
  }

  get #disabled(): readonly Recorded[] {
    return this.#list().filter(({ entry: { flags } }) => (flags & BITMAP_AUTO) === 0);
  }

  /** Writes a table of another length to new clusters; the directory follows when it is durable. */
  async #moveTable(bitmap: Recorded, needed: number, allocator: ClusterAllocator): Promise<void> {
    const { file, overlap } = this.#writeBack;
    const { clusterSize } = this.#geometry;
    const { bitmapTableOffset: oldOffset, bitmapTableSize: oldSize } = bitmap.entry;
    const old = new Uint8Array(oldSize * 8);
    await file.storage.read(oldOffset, old);
    const table = new Uint8Array(Math.ceil((needed * 8) / clusterSize) * clusterSize);
    table.set(old.subarray(0, Math.min(oldSize, needed) * 8));
    const offset = await allocator.allocateClusters(table.length / clusterSize);
    overlap.claim('bitmap table', offset, table.length);
    await file.write(offset, table);
    await this.#writeBack.commitAll();
    await this.#writeBack.barrier();
    const pointer = new Uint8Array(12);
    writeNumber64(viewOf(pointer), 0, offset);
    viewOf(pointer).setUint32(8, needed);
    await file.write(bitmap.offset, pointer);
    await this.#writeBack.barrier();
    bitmap.entry = { ...bitmap.entry, bitmapTableOffset: offset, bitmapTableSize: needed };
    overlap.release('bitmap table', oldOffset, oldSize * 8);
    allocator.freeClusters(oldOffset, Math.ceil((oldSize * 8) / clusterSize));
    for (let at = needed * 8; at < old.length; at += 8) {
      const entry = decodeBitmapTableEntry(viewOf(old).getBigUint64(at), this.#geometry);
      if (entry.kind === 'data') allocator.freeClusters(entry.hostOffset, 1);
    }
  }

  /** Clears the bits behind the disk's end: they would be found set when it grows again. */
  async #clearBehind({ entry, chunks }: Recorded, size: number): Promise<void> {
    const { file } = this.#writeBack;
    const { clusterSize } = this.#geometry;
    const index = entry.bitmapTableSize - 1;
    const before = index * bitmapClusterCoverage(entry.granularityBits, this.#geometry);
    const end = bitmapBits(size - before, entry.granularityBits);
    const recorded = chunks.get(index);
    if (recorded) clearBitsFrom(recorded, end);
    const word = new Uint8Array(8);
    await file.storage.read(entry.bitmapTableOffset + index * 8, word);
    const last = decodeBitmapTableEntry(viewOf(word).getBigUint64(0), this.#geometry);
    if (last.kind !== 'data') return;
    const bits = new Uint8Array(clusterSize);
    await file.storage.read(last.hostOffset, bits);
    clearBitsFrom(bits, end);
    await this.#writeBack.requireNoOverlap(last.hostOffset, clusterSize, 'bitmap data');
    await file.write(last.hostOffset, bits);
  }
}
