import { hex, Qcow2Error } from '../errors.ts';
import { type Geometry, geometryOf } from '../format/geometry.ts';
import type { Header } from '../format/header.ts';
import {
  L2_DATA_FILE,
  L2_VERSION_2,
  RUN_COMPRESSED,
  RUN_INVALID,
  RUN_UNALLOCATED,
} from '../kernel/abi.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { RunReader } from '../kernel/run-reader.ts';
import type { MaybePromise, Storage } from '../storage/storage.ts';
import { invalidEntry } from './invalid-entry.ts';
import type { Layer } from './layer.ts';
import type { Plan } from './plan.ts';
import { PAGE_BYTES, type TableCache } from './table-cache.ts';

/** An L1 table: the active one, or a snapshot's. */
export interface L1Table {
  /** Host offset in bytes, cluster aligned. */
  offset: number;
  /** Number of 8-byte entries. */
  entries: number;
}

/** What the layers of one image share. */
export interface LayerContext {
  kernel: Kernel;
  tables: TableCache;
  runs: RunReader;
}

/** The guest mapping of a qcow2 file (format sections 7, 8, 9, 11), through one L1 table. */
export class Qcow2Layer implements Layer {
  readonly format = 'qcow2';
  readonly storage: Storage;
  readonly dataStorage: Storage;
  readonly clusterSize: number;
  readonly geometry: Geometry;
  readonly #context: LayerContext;
  #virtualSize: number;
  #l1: L1Table;
  readonly #tableStorage: number;
  readonly #flags: number;
  /** The L1 entry looked up last: chunks walk a table front to back. */
  #l1Index = -1;
  #l2Offset = 0;

  /** @param dataStorage the external data file, or the file itself */
  constructor(
    header: Header,
    storage: Storage,
    dataStorage: Storage,
    view: { l1: L1Table; virtualSize: number },
    context: LayerContext,
  ) {
    this.storage = storage;
    this.dataStorage = dataStorage;
    this.geometry = geometryOf(header);
    this.clusterSize = this.geometry.clusterSize;
    this.#virtualSize = view.virtualSize;
    this.#l1 = view.l1;
    this.#context = context;
    this.#tableStorage = context.tables.register(storage);
    this.#flags =
      (header.version === 2 ? L2_VERSION_2 : 0) | (dataStorage !== storage ? L2_DATA_FILE : 0);
    this.#requireWholeL1();
  }

  get virtualSize(): number {
    return this.#virtualSize;
  }

  /** The L1 table has moved, or the disk has another length. */
  moved(l1: L1Table, virtualSize: number): void {
    this.#l1 = l1;
    this.#virtualSize = virtualSize;
    this.forget();
  }

  /** The same file's mapping by another header: one whose format has been changed. */
  renewed(header: Header, view: { l1: L1Table; virtualSize: number }): Qcow2Layer {
    return new Qcow2Layer(header, this.storage, this.dataStorage, view, this.#context);
  }

  async mapRange(start: number, end: number, depth: number, plan: Plan): Promise<number> {
    const coverage = this.geometry.l2Coverage;
    for (let position = start; position < end; ) {
      const l1Index = Math.floor(position / coverage);
      // A snapshot's table may end before its disk does.
      const behind = l1Index >= this.#l1.entries;
      const tableEnd = behind ? end : Math.min(end, (l1Index + 1) * coverage);
      const found = this.#lookUpL1(l1Index);
      const l2Offset = typeof found === 'number' ? found : await found;
      if (this.#isInvalidTable(l2Offset)) {
        const error = () => this.#invalidTable(l2Offset, l1Index);
        plan.pushInvalid(depth, position, tableEnd - position, error);
        position = tableEnd;
      } else if (l2Offset !== 0) {
        const base = l1Index * coverage;
        position = await this.#mapTable(l2Offset, base, position, tableEnd, depth, plan);
      } else {
        plan.push(RUN_UNALLOCATED, depth, position, tableEnd - position, 0);
        position = tableEnd;
      }
      if (plan.isFull) return position;
    }
    return end;
  }

  forget(): void {
    this.#l1Index = -1;
  }

  /** Runs of `[start, end)` out of the one L2 table that covers `base` on; returns where it ended. */
  async #mapTable(
    l2Offset: number,
    base: number,
    start: number,
    end: number,
    depth: number,
    plan: Plan,
  ): Promise<number> {
    const { clusterSize, l2EntrySize } = this.geometry;
    const perPage = PAGE_BYTES / l2EntrySize;
    let entry = Math.floor((start - base) / clusterSize);
    const last = Math.ceil((end - base) / clusterSize);
    while (entry < last && !plan.isFull) {
      const found = this.#context.tables.pointer(
        this.#tableStorage,
        l2Offset + entry * l2EntrySize,
      );
      const pointer = typeof found === 'number' ? found : await found;
      // A page boundary is a table boundary or a multiple of perPage entries into the table.
      const inPage = ((l2Offset + entry * l2EntrySize) % PAGE_BYTES) / l2EntrySize;
      const count = Math.min(last - entry, perPage - inPage);
      this.#decode(pointer, l2Offset, base, entry, count, start, end, depth, plan);
      entry += count;
    }
    return Math.min(end, base + entry * clusterSize);
  }

  #decode(
    pointer: number,
    l2Offset: number,
    base: number,
    entry: number,
    count: number,
    start: number,
    end: number,
    depth: number,
    plan: Plan,
  ): void {
    const { clusterBits, clusterSize, l2EntrySize, extendedL2, subclusterSize } = this.geometry;
    const { kernel, runs } = this.#context;
    const decode = extendedL2 ? kernel.exports.l2_decode_extended : kernel.exports.l2_decode;
    const unitsPerEntry = clusterSize / subclusterSize;
    for (let done = 0; done < count; ) {
      const guestBase = base + (entry + done) * clusterSize;
      runs.count = decode(
        pointer + done * l2EntrySize,
        0,
        count - done,
        clusterBits,
        this.#flags,
        0,
        guestBase,
        this.dataStorage.size,
        runs.pointer,
        runs.capacity,
      );
      for (let i = 0; i < runs.count; i++) {
        const kind = runs.kind(i);
        const guest = guestBase + runs.first(i) * subclusterSize;
        const from = Math.max(guest, start);
        const to = Math.min(guest + runs.units(i) * subclusterSize, end);
        if (to <= from) continue;
        if (kind === RUN_INVALID) {
          const index = entry + done + Math.floor(runs.first(i) / unitsPerEntry);
          const where = { offset: l2Offset + index * l2EntrySize, guestOffset: guest };
          const error = () => invalidEntry(this, runs.aux(i), runs.host(i), where);
          plan.pushInvalid(depth, from, to - from, error);
        } else if (kind === RUN_COMPRESSED)
          plan.push(kind, depth, from, to - from, runs.host(i), runs.aux(i));
        else plan.push(kind, depth, from, to - from, runs.host(i) + (from - guest));
      }
      const last = runs.count - 1;
      done += (runs.first(last) + runs.units(last)) / unitsPerEntry;
    }
  }

  /** Host offset of the L2 table for an L1 index; 0 if there is none. */
  #lookUpL1(l1Index: number): MaybePromise<number> {
    if (l1Index === this.#l1Index) return this.#l2Offset;
    if (l1Index >= this.#l1.entries) return 0;
    const at = this.#l1.offset + l1Index * 8;
    const pointer = this.#context.tables.pointer(this.#tableStorage, at);
    const read = (from: number): number => this.#readL1(l1Index, from);
    return typeof pointer === 'number' ? read(pointer) : pointer.then(read);
  }

  #readL1(l1Index: number, pointer: number): number {
    const bytes = this.#context.kernel.arena.u8;
    // Bits 9..55 (section 7), as bytes: no double holds the whole word.
    let l2Offset = 0;
    for (let i = 1; i < 7; i++) l2Offset = l2Offset * 256 + bytes[pointer + i]!;
    l2Offset = (l2Offset - (l2Offset % 2)) * 256;
    this.#l1Index = l1Index;
    this.#l2Offset = l2Offset;
    return l2Offset;
  }

  #isInvalidTable(l2Offset: number): boolean {
    return l2Offset % this.clusterSize !== 0 || l2Offset >= this.storage.size;
  }

  #invalidTable(l2Offset: number, l1Index: number): Qcow2Error {
    const offset = this.#l1.offset + l1Index * 8;
    const guestOffset = l1Index * this.geometry.l2Coverage;
    const where = { structure: 'L1 entry', offset, value: l2Offset, guestOffset };
    const at = `L1 entry at offset ${hex(offset)} of '${this.storage.name}'`;
    if (l2Offset % this.clusterSize !== 0) {
      const text = `${at}: L2 table offset ${hex(l2Offset)} is not cluster aligned`;
      return new Qcow2Error('BAD_ENTRY', text, where);
    }
    const text = `${at}: L2 table offset ${hex(l2Offset)} is past the end of the file (${hex(this.storage.size)}); the file is truncated`;
    return new Qcow2Error('TRUNCATED', text, where);
  }

  #requireWholeL1(): void {
    const { offset, entries } = this.#l1;
    const end = offset + entries * 8;
    const name = this.storage.name;
    if (offset % this.clusterSize !== 0) {
      const text = `L1 table offset ${hex(offset)} of '${name}' is not cluster aligned`;
      throw new Qcow2Error('MALFORMED', text, { structure: 'L1 table', offset });
    }
    if (end - this.storage.size >= this.clusterSize) {
      const text = `L1 table at ${hex(offset)} (${entries} entries) of '${name}' ends past the end of the file (${hex(this.storage.size)}); the file is truncated`;
      throw new Qcow2Error('TRUNCATED', text, { structure: 'L1 table', offset });
    }
  }
}
