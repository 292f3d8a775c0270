import { Qcow2Error } from '../errors.ts';
import type { Geometry } from '../format/geometry.ts';
import { INVALID_PAST_END } from '../kernel/abi.ts';
import type { ActiveTables } from './active-tables.ts';
import type { ClusterAllocator } from './allocator.ts';
import { ClusterChange } from './copy-on-write.ts';
import type { GuestData } from './guest-data.ts';
import { invalidEntry } from './invalid-entry.ts';
import type { L2Slice } from './l2-slice.ts';
import type { Qcow2Layer } from './qcow2-layer.ts';
import type { WriteBack } from './write-back.ts';

/** What changing the guest mapping needs. */
export interface MappingContext {
  layer: Qcow2Layer;
  geometry: Geometry;
  /** Length of the disk in bytes. */
  size: number;
  active: ActiveTables;
  allocator: ClusterAllocator;
  writeBack: WriteBack;
  data: GuestData;
  slice: L2Slice;
}

/** Entries of one L2 table that lie next to each other in the table cache. */
export interface EntryRange {
  l2Offset: number;
  /** Index of the first in its table, and how many. */
  index: number;
  count: number;
  /** Guest offset of the first. */
  guest: number;
}

/** Writes guest bytes (format section 7): in place where a cluster is the disk's own, else to new ones. */
export class GuestWriter {
  readonly #context: MappingContext;
  readonly #geometry: Geometry;
  readonly #isOutside: boolean;
  readonly #change: ClusterChange;

  constructor(context: MappingContext) {
    this.#context = context;
    this.#geometry = context.geometry;
    this.#isOutside = context.layer.dataStorage !== context.layer.storage;
    this.#change = new ClusterChange(context.geometry);
  }

  /** Writes `bytes` at guest offset `start`; the range lies on the disk. */
  async write(start: number, bytes: Uint8Array): Promise<void> {
    const end = start + bytes.length;
    for (let at = start; at < end; ) {
      const range = await entriesAt(this.#context, at, end);
      at = await this.#writeRun(range, at, bytes.subarray(at - start));
    }
  }

  /** Writes what one run of entries takes: clusters next to each other, old or new. */
  async #writeRun(range: EntryRange, from: number, bytes: Uint8Array): Promise<number> {
    const { slice, allocator, active, writeBack } = this.#context;
    slice.at(await active.pointer(range.l2Offset, range.index));
    const inPlace = this.#isInPlace(0);
    let host = this.#hostOf(0, range.guest);
    range.count = await this.#runLength(range, inPlace);
    const needsChange = !inPlace || this.#mustChange(range, from, from + bytes.length);
    if (needsChange) {
      const changing = writeBack.beforeChange();
      if (changing !== undefined) await changing;
    }
    if (!inPlace) {
      const run = await allocator.allocateRun(range.count);
      host = run.offset;
      range.count = run.clusters;
    }
    const end = Math.min(
      from + bytes.length,
      range.guest + range.count * this.#geometry.clusterSize,
    );
    try {
      await this.#writeData(range, host, inPlace, from, bytes.subarray(0, end - from));
      if (needsChange) slice.at(await active.pointer(range.l2Offset, range.index));
    } catch (error) {
      // Nothing names them yet.
      if (!inPlace) await giveBack(allocator, host, range.count);
      throw error;
    }
    if (needsChange) this.#setEntries(range, host, inPlace, from, end);
    return end;
  }

  #isInPlace(i: number): boolean {
    if (this.#isOutside) return true;
    const { slice } = this.#context;
    return !slice.isCompressed(i) && slice.isOwned(i) && slice.host(i) >= 0;
  }

  /** With a data file the place is the guest offset, whether or not the entry says so yet. */
  #hostOf(i: number, guest: number): number {
    return this.#isOutside ? guest : this.#context.slice.host(i);
  }

  /** Entries from the first on that are written the same way. */
  async #runLength(range: EntryRange, inPlace: boolean): Promise<number> {
    const { clusterSize } = this.#geometry;
    const { slice, layer } = this.#context;
    const host = this.#hostOf(0, range.guest);
    for (let i = 0; i < range.count; i++) {
      const guest = range.guest + i * clusterSize;
      const fault = slice.fault(i, guest);
      if (fault !== 0) {
        if (i > 0) return i;
        await this.#refuse(fault, slice.host(0), range);
      }
      if (this.#isInPlace(i) !== inPlace) return i;
      if (inPlace && this.#hostOf(i, guest) !== host + i * clusterSize) return i;
    }
    const isPastEnd = inPlace && !this.#isOutside && host >= layer.storage.size;
    // What is stored there is lost; only places that hold nothing yet may lie behind the end.
    if (isPastEnd && slice.allocated(0) !== 0) throw this.#invalid(INVALID_PAST_END, host, range);
    return range.count;
  }

  /** Whether entries that are written in place get other bits. */
  #mustChange(range: EntryRange, from: number, to: number): boolean {
    const { slice } = this.#context;
    for (let i = 0; i < range.count; i++) {
      this.#plan(range, i, from, to, true);
      if (slice.host(i) < 0 || slice.allocated(i) !== this.#change.allocated) return true;
    }
    return false;
  }

  /** Works out what the write of guest bytes `[from, to)` means for entry `i`. */
  #plan(range: EntryRange, i: number, from: number, to: number, inPlace: boolean): void {
    const { clusterSize } = this.#geometry;
    const guest = range.guest + i * clusterSize;
    const start = Math.max(from - guest, 0);
    const end = Math.min(to - guest, clusterSize);
    this.#change.plan(this.#context.slice, i, start, end, inPlace);
  }

  async #writeData(
    range: EntryRange,
    host: number,
    inPlace: boolean,
    from: number,
    bytes: Uint8Array,
  ): Promise<void> {
    const { data, active, slice, size } = this.#context;
    const { clusterSize } = this.#geometry;
    const to = from + bytes.length;
    const last = range.count - 1;
    slice.at(await active.pointer(range.l2Offset, range.index));
    this.#plan(range, 0, from, to, inPlace);
    const fillFrom = range.guest + this.#change.fillFrom;
    this.#plan(range, last, from, to, inPlace);
    const fillTo = range.guest + last * clusterSize + this.#change.fillTo;
    await data.write({
      host,
      base: range.guest,
      bytes,
      from,
      fillFrom,
      // A data file ends with the disk; a cluster of the image itself is always whole.
      fillTo: this.#isOutside ? Math.min(fillTo, Math.max(to, size)) : fillTo,
    });
  }

  /** Enters what was written; gives up what was there. Nothing is awaited in here. */
  #setEntries(range: EntryRange, host: number, inPlace: boolean, from: number, to: number): void {
    const { slice, active } = this.#context;
    const { clusterSize } = this.#geometry;
    for (let i = 0; i < range.count; i++) {
      this.#plan(range, i, from, to, inPlace);
      if (!inPlace) release(this.#context, i);
      const { allocated, zeros } = this.#change;
      slice.setHost(i, host + i * clusterSize, true, allocated, zeros);
    }
    active.changed(range.l2Offset, range.index, range.count);
  }

  #refuse(fault: number, host: number, range: EntryRange): Promise<never> {
    return this.#context.writeBack.markCorrupt(this.#invalid(fault, host, range));
  }

  #invalid(fault: number, host: number, range: EntryRange): Qcow2Error {
    const offset = range.l2Offset + range.index * this.#geometry.l2EntrySize;
    return invalidEntry(this.#context.layer, fault, host, { offset, guestOffset: range.guest });
  }
}

/** The entries that map guest bytes from `at` on, up to `end` or what one page of the cache holds. */
export async function entriesAt(
  { active, geometry }: MappingContext,
  at: number,
  end: number,
): Promise<EntryRange> {
  const { clusterSize, l2Coverage } = geometry;
  const l1Index = Math.floor(at / l2Coverage);
  const found = active.forChange(l1Index);
  const l2Offset = typeof found === 'number' ? found : await found;
  const index = Math.floor((at - l1Index * l2Coverage) / clusterSize);
  const guest = l1Index * l2Coverage + index * clusterSize;
  const wanted = Math.ceil((end - guest) / clusterSize);
  const count = Math.min(wanted, active.entriesInPage(l2Offset, index));
  return { l2Offset, index, count, guest };
}

/** Takes away the reference entry `i` of the slice has to clusters of the image file. */
export function release({ allocator, slice, layer }: MappingContext, i: number): void {
  if (slice.isCompressed(i)) allocator.freeCompressed(slice.stream(i));
  else if (layer.dataStorage === layer.storage) {
    const host = slice.host(i);
    if (host >= 0) allocator.freeClusters(host, 1);
  }
}

/** After a failed write; if that fails too they leak, and the first error is what counts. */
export async function giveBack(
  allocator: ClusterAllocator,
  host: number,
  count: number,
): Promise<void> {
  try {
    await allocator.addReference(host, count, -1);
  } catch (error) {
    if (!(error instanceof Qcow2Error)) throw error;
  }
}
