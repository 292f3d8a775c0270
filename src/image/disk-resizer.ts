import { Qcow2Error } from '../errors.ts';
import { AUTOCLEAR_RAW_DATA_FILE } from '../format/feature-bits.ts';
import { clusterAlignUp, type Geometry, l1Needed, maxVirtualSize } from '../format/geometry.ts';
import type { Chain } from './backing-chain.ts';
import type { BitmapResizer } from './bitmap-resizer.ts';
import type { FillReader } from './copy-on-write.ts';
import { trimEnd } from './file-end.ts';
import { entriesAt, giveBack, type MappingContext, release } from './guest-writer.ts';
import type { HeaderState } from './header-state.ts';
import { invalidEntry } from './invalid-entry.ts';
import { ALL_SUBCLUSTERS } from './l2-slice.ts';
import type { Preallocation } from './new-image.ts';
import { preallocateSpace, type Step } from './preallocation.ts';
import type { SyncedFile } from './synced-file.ts';
import { requireTruncate } from './write-gate.ts';
import type { ZeroWriter } from './zero-writer.ts';

/** What a disk's length is part of. */
export interface ResizedParts {
  chain: Chain;
  header: HeaderState;
  fill: FillReader;
  zeros: ZeroWriter;
  bitmaps: BitmapResizer;
  /** Makes everything durable and frees what waits for it. */
  flush: () => Promise<void>;
}

/**
 * Gives the disk of a qcow2 image another length (format sections 3, 16, 17). Whatever is cut short,
 * the disk has the old length or the new one: the header's size is written when what a longer disk
 * needs is durable, and when a shorter one's end is given up.
 */
export class DiskResizer {
  readonly #context: MappingContext;
  readonly #parts: ResizedParts;
  readonly #geometry: Geometry;
  readonly #isOutside: boolean;

  constructor(context: MappingContext, parts: ResizedParts) {
    this.#context = context;
    this.#parts = parts;
    this.#geometry = context.geometry;
    this.#isOutside = context.layer.dataStorage !== context.layer.storage;
  }

  /**
   * @param size in bytes, whole sectors
   * @throws Qcow2Error INVALID_ARGUMENT, UNSUPPORTED (version 2 with snapshots), TOO_LARGE, BAD_ENTRY, IO
   */
  async resize(size: number, how: Preallocation, step: Step): Promise<void> {
    this.#requirePossible(size);
    const before = this.#context.size;
    await this.#parts.flush();
    if (size > before) await this.#grow(before, size, how, step);
    else if (size < before) await this.#shrink(size, step);
  }

  #requirePossible(size: number): void {
    const { version, nbSnapshots } = this.#parts.header.header;
    requireTruncate(this.#context.layer.storage);
    requireTruncate(this.#context.layer.dataStorage);
    if (size % 512 !== 0)
      throw new Qcow2Error('INVALID_ARGUMENT', 'The new size must be a multiple of 512');
    if (version === 2 && nbSnapshots > 0) {
      const text = "Can't resize a v2 image which has snapshots";
      throw new Qcow2Error('UNSUPPORTED', text, { structure: 'header version' });
    }
    this.#parts.bitmaps.requirePossible(size);
    if (size <= maxVirtualSize(this.#geometry)) return;
    const text = 'Failed to grow the L1 table: File too large';
    throw new Qcow2Error('TOO_LARGE', text, { structure: 'L1 table', value: size });
  }

  async #grow(before: number, size: number, how: Preallocation, step: Step): Promise<void> {
    const { active, writeBack } = this.#context;
    const { header, flush, bitmaps } = this.#parts;
    // What a table names behind the end (VM state that was gone back to) is not the new part's.
    await this.#clearFrom(before, step);
    const entries = l1Needed(size, this.#geometry);
    if (entries > header.header.l1Size) await active.grow(entries);
    this.#follow();
    try {
      this.#setLength(size);
      await this.#fillNew(before, size, how, step);
      await flush();
    } catch (error) {
      this.#setLength(before);
      await this.#giveUp(before, error);
    }
    this.#setLength(before);
    await bitmaps.begin();
    await header.update({ size });
    await writeBack.barrier();
    this.#setLength(size);
    this.#follow();
    await bitmaps.finish(size, this.#context.allocator);
    await flush();
  }

  /** Makes what is new read as zeros, and maps it ahead if asked. */
  async #fillNew(before: number, size: number, how: Preallocation, step: Step): Promise<void> {
    const { fill, zeros, chain, header } = this.#parts;
    const { autoclearFeatures, version } = header.header;
    const isRawDataFile = (autoclearFeatures & AUTOCLEAR_RAW_DATA_FILE) !== 0n;
    const mapsAhead = how !== 'off' || isRawDataFile;
    if (this.#isOutside) await this.#growDataFile(before, size, mapsAhead, how, step);
    const start = Math.min(clusterAlignUp(before, this.#geometry), size);
    if (!(await fill.isZero(before, start))) await zeros.writeZeroes(before, start - before, false);
    chain.forget();
    const below = chain.layers[1]?.layer.virtualSize ?? 0;
    const hides = below > before;
    if (mapsAhead) return this.#mapAhead(start, size, how, hides && version === 3, step);
    if (!hides) return;
    // Without a zero flag only stored zeros hide a backing file: no more of them than it takes.
    const end = version === 3 ? size : Math.min(size, below);
    const { l2Coverage } = this.#geometry;
    for (let at = start; at < end; ) {
      await step();
      const to = Math.min(end, (Math.floor(at / l2Coverage) + 1) * l2Coverage);
      await zeros.writeZeroes(at, to - at, false);
      chain.forget();
      at = to;
    }
  }

  async #growDataFile(
    before: number,
    size: number,
    mapsAhead: boolean,
    how: Preallocation,
    step: Step,
  ): Promise<void> {
    const { dataFile } = this.#context.writeBack;
    const oldEnd = Math.min(dataFile.size, size);
    if (mapsAhead && oldEnd > before) await dataFile.zero(before, oldEnd - before);
    if (dataFile.size < size) await dataFile.truncate(size);
    await preallocateSpace(dataFile.storage, before, size, how, step);
  }

  /**
   * Maps the clusters of a guest range, which have no entries.
   * @param flagged they get the zero flag, to hide a backing file; else they store zeros
   */
  async #mapAhead(
    start: number,
    end: number,
    how: Preallocation,
    flagged: boolean,
    step: Step,
  ): Promise<void> {
    const { active, allocator, slice, writeBack } = this.#context;
    const { clusterSize, extendedL2 } = this.#geometry;
    const zeros = flagged ? ALL_SUBCLUSTERS : 0;
    const allocated = flagged || extendedL2 ? 0 : ALL_SUBCLUSTERS;
    for (let at = start; at < end; ) {
      await step();
      await writeBack.beforeChange();
      const range = await entriesAt(this.#context, at, end);
      let host = range.guest;
      if (!this.#isOutside) {
        const run = await allocator.allocateRun(range.count);
        host = run.offset;
        range.count = run.clusters;
        try {
          await reserveZeros(writeBack.file, host, range.count * clusterSize, how, step);
        } catch (error) {
          await giveBack(allocator, host, range.count);
          throw error;
        }
      }
      slice.at(await active.pointer(range.l2Offset, range.index));
      for (let i = 0; i < range.count; i++)
        slice.setHost(i, host + i * clusterSize, true, allocated, zeros);
      active.changed(range.l2Offset, range.index, range.count);
      at = range.guest + range.count * clusterSize;
    }
    this.#parts.chain.forget();
  }

  /** Takes back what was mapped behind the end, if that can still be done. The first error counts. */
  async #giveUp(size: number, cause: unknown): Promise<never> {
    try {
      await this.#clearFrom(size, () => {});
      await this.#parts.flush();
    } catch (error) {
      if (!(error instanceof Qcow2Error)) throw error;
    }
    throw cause;
  }

  async #shrink(size: number, step: Step): Promise<void> {
    const { allocator, writeBack } = this.#context;
    const { header, flush, bitmaps } = this.#parts;
    await this.#clearFrom(size, step);
    await flush();
    await bitmaps.begin();
    await header.update({ size });
    await writeBack.barrier();
    this.#setLength(size);
    this.#follow();
    await bitmaps.finish(size, allocator);
    await flush();
    const { dataFile } = writeBack;
    if (this.#isOutside && dataFile.size > size) await dataFile.truncate(size);
    await trimEnd(allocator, writeBack, this.#geometry);
  }

  /** Frees what the active tables name behind a guest offset, from the next cluster on. */
  async #clearFrom(offset: number, step: Step): Promise<void> {
    const { active, allocator } = this.#context;
    const { chain, header, flush } = this.#parts;
    const { l2Coverage, clusterSize } = this.#geometry;
    const start = clusterAlignUp(offset, this.#geometry);
    const { l1Size } = header.header;
    for (let l1Index = Math.floor(start / l2Coverage); l1Index < l1Size; l1Index++) {
      const l2Offset = await active.offsetOf(l1Index);
      if (l2Offset === 0) continue;
      await step();
      const first = Math.max(0, start - l1Index * l2Coverage) / clusterSize;
      const isUsed = await this.#eachEntry(l1Index, l2Offset, first, () => {});
      if (first === 0) {
        await this.#dropTable(l1Index, l2Offset);
      } else if (isUsed) await this.#clearEntries(l1Index, first);
      chain.forget();
      if (allocator.isCrowded) await flush();
    }
  }

  /** Frees an L2 table and all it names. It may be shared with a snapshot: it is only read. */
  async #dropTable(l1Index: number, l2Offset: number): Promise<void> {
    const { active, writeBack } = this.#context;
    await writeBack.beforeChange();
    await this.#eachEntry(l1Index, l2Offset, 0, (i) => release(this.#context, i));
    await active.drop(l1Index);
  }

  async #clearEntries(l1Index: number, first: number): Promise<void> {
    const { active, writeBack, slice } = this.#context;
    await writeBack.beforeChange();
    const l2Offset = await active.forChange(l1Index);
    await this.#eachEntry(l1Index, l2Offset, first, (i, index) => {
      release(this.#context, i);
      slice.setPlain(i, 0);
      active.changed(l2Offset, index, 1);
    });
  }

  /**
   * Calls `visit` for each entry from `first` on that says something, with its place in the slice and in
   * the table. Returns whether there was one.
   * @throws Qcow2Error BAD_ENTRY for an invalid one; the image is marked corrupt
   */
  async #eachEntry(
    l1Index: number,
    l2Offset: number,
    first: number,
    visit: (i: number, index: number) => void,
  ): Promise<boolean> {
    const { active, slice, layer, writeBack } = this.#context;
    const { l2Entries, l2Coverage, clusterSize, l2EntrySize } = this.#geometry;
    let isUsed = false;
    for (let index = first; index < l2Entries; ) {
      const count = active.entriesInPage(l2Offset, index);
      slice.at(await active.pointer(l2Offset, index));
      for (let i = 0; i < count; i++) {
        if (slice.isEmpty(i)) continue;
        isUsed = true;
        const guestOffset = l1Index * l2Coverage + (index + i) * clusterSize;
        const fault = slice.fault(i, guestOffset);
        if (fault !== 0) {
          const where = { offset: l2Offset + (index + i) * l2EntrySize, guestOffset };
          await writeBack.markCorrupt(invalidEntry(layer, fault, slice.host(i), where));
        }
        visit(i, index + i);
      }
      index += count;
    }
    return isUsed;
  }

  /** What writing goes by. */
  #setLength(size: number): void {
    this.#context.size = size;
    this.#parts.fill.size = size;
  }

  /** What reading goes by is as the header says. */
  #follow(): void {
    const { header, virtualSize } = this.#parts.header.metadata;
    const l1 = { offset: header.l1TableOffset, entries: header.l1Size };
    this.#context.layer.moved(l1, virtualSize);
    this.#parts.chain.forget();
  }
}

/** Makes a range of a file zeros, and the file long enough to hold it; reserves or fills it as asked. */
async function reserveZeros(
  file: SyncedFile,
  offset: number,
  length: number,
  how: Preallocation,
  step: Step,
): Promise<void> {
  const inside = Math.min(file.size - offset, length);
  if (inside > 0) await file.zero(offset, inside);
  if (file.size < offset + length) await file.truncate(offset + length);
  await preallocateSpace(file.storage, offset, offset + length, how, step);
}
