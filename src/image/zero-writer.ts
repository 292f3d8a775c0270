import type { Geometry } from '../format/geometry.ts';
import { type FillReader, subclusterMask } from './copy-on-write.ts';
import {
  type EntryRange,
  entriesAt,
  type GuestWriter,
  type MappingContext,
  release,
} from './guest-writer.ts';
import { invalidEntry } from './invalid-entry.ts';
import { ALL_SUBCLUSTERS } from './l2-slice.ts';

/** What else zeroing and discarding depends on. */
export interface ZeroRules {
  version: 2 | 3;
  /** Whether a backing file answers for what the image leaves unallocated. */
  hasBacking: boolean;
  /** The data file alone is to be a usable raw image at any time. */
  isRawDataFile: boolean;
}

const ZEROS = new Uint8Array(1 << 20);

/** Makes guest ranges zeros, or discards them, by their table entries (format sections 7, 9, 11). */
export class ZeroWriter {
  readonly #context: MappingContext;
  readonly #geometry: Geometry;
  readonly #rules: ZeroRules;
  readonly #writer: GuestWriter;
  readonly #fill: FillReader;
  readonly #isOutside: boolean;

  constructor(context: MappingContext, rules: ZeroRules, writer: GuestWriter, fill: FillReader) {
    this.#context = context;
    this.#geometry = context.geometry;
    this.#rules = rules;
    this.#writer = writer;
    this.#fill = fill;
    this.#isOutside = context.layer.dataStorage !== context.layer.storage;
  }

  /**
   * Makes a guest range read as zeros.
   * @param unmap gives up whole clusters; else they stay reserved
   */
  async writeZeroes(start: number, length: number, unmap: boolean): Promise<void> {
    const end = start + length;
    if (this.#rules.isRawDataFile) await this.#context.data.zero(start, length);
    const unit = this.#geometry.subclusterSize;
    const first = Math.ceil(start / unit) * unit;
    const last = this.#unitEnd(end, unit);
    // Within one unit; also in the last one of the disk, to its end.
    if (first >= end || last < first) return this.#zeroPart(start, end);
    await this.#zeroPart(start, first);
    await this.#zeroUnits(first, last, unmap);
    await this.#zeroPart(last, end);
  }

  /**
   * Gives up the whole clusters of a guest range; they read as zeros afterwards, unless a version 2
   * image with a backing file cannot say so and keeps them.
   */
  async discard(start: number, length: number): Promise<void> {
    const { version, hasBacking } = this.#rules;
    if (version === 2 && hasBacking) return;
    const { clusterSize } = this.#geometry;
    const first = Math.ceil(start / clusterSize) * clusterSize;
    const last = this.#unitEnd(start + length, clusterSize);
    if (last <= first) return;
    await this.#eachRange(first, last, (range) => this.#discardEntries(range));
    if (this.#isOutside && (this.#rules.isRawDataFile || this.#canPunch))
      await this.#context.data.zero(first, Math.min(last, this.#context.size) - first);
  }

  get #canPunch(): boolean {
    return this.#context.layer.dataStorage.punchHole !== undefined;
  }

  /** Where the last whole unit ends; the last one of the disk counts as whole. */
  #unitEnd(end: number, unit: number): number {
    return end === this.#context.size ? Math.ceil(end / unit) * unit : end - (end % unit);
  }

  /** Zeroes a part of one unit: all of it if the rest reads as zeros, else by writing them. */
  async #zeroPart(start: number, end: number): Promise<void> {
    if (start >= end) return;
    const unit = this.#geometry.subclusterSize;
    const from = start - (start % unit);
    const to = from + unit;
    const isZero = (await this.#fill.isZero(from, start)) && (await this.#fill.isZero(end, to));
    if (isZero && !this.#isHardToHide) await this.#zeroUnits(from, to, false);
    else await this.#writer.write(start, new Uint8Array(end - start));
  }

  /** Version 2 has no zero flag: only stored zeros hide a backing file. */
  get #isHardToHide(): boolean {
    return this.#rules.version === 2 && this.#rules.hasBacking;
  }

  async #zeroUnits(start: number, end: number, unmap: boolean): Promise<void> {
    if (!this.#isHardToHide) {
      await this.#eachRange(start, end, (range) => this.#zeroEntries(range, start, end, unmap));
      return;
    }
    const to = Math.min(end, this.#context.size);
    for (let at = start; at < to; at += ZEROS.length)
      await this.#writer.write(at, ZEROS.subarray(0, to - at));
  }

  /**
   * Goes through the entries of a guest range, table by table. Where there is no table, and nothing
   * below that it would have to hide, there are zeros already.
   * @param change changes entries of the slice; returns how many it did
   */
  async #eachRange(
    start: number,
    end: number,
    change: (range: EntryRange) => number | Promise<number>,
  ): Promise<void> {
    const { active, writeBack, slice } = this.#context;
    const { l2Coverage, clusterSize } = this.#geometry;
    for (let at = start; at < end; ) {
      const l1Index = Math.floor(at / l2Coverage);
      if (!this.#rules.hasBacking && !(await active.exists(l1Index))) {
        at = (l1Index + 1) * l2Coverage;
        continue;
      }
      await writeBack.beforeChange();
      const range = await entriesAt(this.#context, at, end);
      slice.at(await active.pointer(range.l2Offset, range.index));
      await this.#requireValid(range);
      const done = await change(range);
      at = range.guest + done * clusterSize;
    }
  }

  /** Cuts a range short at an entry that is invalid; throws if it is the first. */
  async #requireValid(range: EntryRange): Promise<void> {
    const { slice, layer, writeBack } = this.#context;
    for (let i = 0; i < range.count; i++) {
      const guest = range.guest + i * this.#geometry.clusterSize;
      const fault = slice.fault(i, guest);
      if (fault === 0) continue;
      range.count = i;
      if (i > 0) return;
      const offset = range.l2Offset + range.index * this.#geometry.l2EntrySize;
      const where = { offset, guestOffset: guest };
      await writeBack.markCorrupt(invalidEntry(layer, fault, slice.host(0), where));
    }
  }

  #zeroEntries(
    range: EntryRange,
    start: number,
    end: number,
    unmap: boolean,
  ): number | Promise<number> {
    const { slice, active } = this.#context;
    const { clusterSize, subclusterSize } = this.#geometry;
    for (let i = 0; i < range.count; i++) {
      const guest = range.guest + i * clusterSize;
      const mask = this.#geometry.extendedL2
        ? subclusterMask(
            Math.max(0, start - guest) / subclusterSize,
            Math.min(clusterSize, end - guest) / subclusterSize,
          )
        : ALL_SUBCLUSTERS;
      if (mask !== ALL_SUBCLUSTERS && slice.isCompressed(i)) {
        if (i === 0)
          return this.#zeroInStream(Math.max(guest, start), Math.min(guest + clusterSize, end));
        range.count = i;
        break;
      }
      this.#zeroEntry(i, mask, unmap);
    }
    active.changed(range.l2Offset, range.index, range.count);
    return range.count;
  }

  /** A part of a compressed cluster cannot be zeroed by its entry. */
  async #zeroInStream(start: number, end: number): Promise<number> {
    const to = Math.min(end, this.#context.size);
    await this.#writer.write(start, new Uint8Array(to - start));
    return 1;
  }

  #zeroEntry(i: number, mask: number, unmap: boolean): void {
    const { slice } = this.#context;
    const { version, isRawDataFile } = this.#rules;
    const host = slice.isCompressed(i) ? -1 : slice.host(i);
    const isWhole = mask === ALL_SUBCLUSTERS;
    const keeps = host >= 0 && version === 3 && !(isWhole && unmap && !isRawDataFile);
    if (keeps) {
      const allocated = (slice.allocated(i) & ~mask) >>> 0;
      const zeros = (slice.zeros(i) | mask) >>> 0;
      slice.setHost(i, host, slice.isOwned(i), allocated, zeros);
      return;
    }
    const zeros = slice.isCompressed(i) ? mask : (slice.zeros(i) | mask) >>> 0;
    release(this.#context, i);
    slice.setPlain(i, version === 2 ? 0 : zeros);
  }

  #discardEntries(range: EntryRange): number {
    const { slice, active } = this.#context;
    const { version, hasBacking } = this.#rules;
    for (let i = 0; i < range.count; i++) {
      const isStored = slice.isCompressed(i) || slice.host(i) >= 0;
      if (!isStored && !hasBacking) continue;
      release(this.#context, i);
      slice.setPlain(i, version === 2 ? 0 : ALL_SUBCLUSTERS);
    }
    active.changed(range.l2Offset, range.index, range.count);
    return range.count;
  }
}
