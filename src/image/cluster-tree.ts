import { hex, Qcow2Error } from '../errors.ts';
import { compressedClusters } from '../format/compressed-descriptor.ts';
import type { Geometry } from '../format/geometry.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Storage } from '../storage/storage.ts';
import { L1_TABLE, L2_TABLE, type TableKind } from './dirty-pages.ts';
import { L2Slice } from './l2-slice.ts';
import type { L1Table } from './qcow2-layer.ts';
import { PAGE_BYTES } from './table-cache.ts';
import type { WritableQcow2 } from './writable-qcow2.ts';

/** Clusters next to each other that a tree names. */
export interface NamedRun {
  /** Host offset in bytes. */
  offset: number;
  clusters: number;
  /** How often each of them is named in a row. */
  times: number;
}

/**
 * Reads an L1 table as it is in the file; what lies past the file's end is zeros.
 * @param l1 of a validated size
 */
export async function readL1(storage: Storage, { offset, entries }: L1Table): Promise<Uint8Array> {
  const bytes = new Uint8Array(entries * 8);
  const within = Math.max(0, Math.min(bytes.length, storage.size - offset));
  if (within > 0) await storage.read(offset, bytes.subarray(0, within));
  return bytes;
}

/** Host offset in an L1 entry; 0: no table. */
export function l2OffsetAt(l1: DataView, index: number): number {
  const high = l1.getUint32(index * 8) & 0xffffff;
  return high * 2 ** 32 + ((l1.getUint32(index * 8 + 4) & 0xfffffe00) >>> 0);
}

/**
 * The L2 tables an L1 table of a writable image names.
 * @throws Qcow2Error BAD_ENTRY, TRUNCATED: an entry names no cluster of the file
 */
export function* l2Tables(
  l1: Uint8Array,
  { header, writeBack }: WritableQcow2,
): Generator<{ index: number; l2Offset: number }> {
  const view = new DataView(l1.buffer, l1.byteOffset, l1.length);
  const { storage } = writeBack.file;
  for (let index = 0; index < l1.length / 8; index++) {
    const l2Offset = l2OffsetAt(view, index);
    if (l2Offset === 0) continue;
    if (l2Offset % header.metadata.geometry.clusterSize !== 0)
      throw notACluster(`L1 entry ${index}`, l2Offset);
    if (l2Offset >= storage.size) {
      const text = `L1 entry ${index} of '${storage.name}': L2 table offset ${hex(l2Offset)} is past the end of the file (${hex(storage.size)}); the file is truncated`;
      throw new Qcow2Error('TRUNCATED', text, { structure: 'L1 entry', value: l2Offset });
    }
    yield { index, l2Offset };
  }
}

/**
 * The L2 tables and clusters that L1 tables of a writable image lead to (format sections 6 to 9): the
 * active one or a snapshot's. Memory does not follow their number.
 */
export class ClusterTree {
  readonly #disk: WritableQcow2;
  readonly #kernel: Kernel;
  readonly #geometry: Geometry;
  readonly #slice: L2Slice;
  /** Clusters of an external data file are not counted. */
  readonly #countsData: boolean;
  /** Runs of one page: offset, clusters and times by turns. */
  readonly #runs: Float64Array;
  /** Entries of one page whose copied flag may change: their indexes, clusters and flags. */
  readonly #entries: Uint16Array;
  readonly #clusters: Float64Array;
  readonly #isOwn: Uint8Array;

  constructor(disk: WritableQcow2, kernel: Kernel) {
    this.#disk = disk;
    this.#kernel = kernel;
    const { geometry, header } = disk.header.metadata;
    this.#geometry = geometry;
    const rules = { geometry, version: header.version, dataFile: false };
    this.#countsData = !disk.header.metadata.hasDataFile;
    this.#slice = new L2Slice(kernel.arena, rules);
    this.#runs = new Float64Array(this.#entriesPerPage * 3);
    const most = PAGE_BYTES / 8;
    this.#entries = new Uint16Array(most);
    this.#clusters = new Float64Array(most);
    this.#isOwn = new Uint8Array(most);
  }

  /**
   * Visits each cluster a tree names, as often as it names it: data, compressed streams, L2 tables.
   * An L2 table comes behind what it names.
   * @param l1 bytes of the L1 table
   * @throws Qcow2Error BAD_ENTRY, TRUNCATED: an entry names no cluster of the file
   */
  async visit(l1: Uint8Array, work: (run: NamedRun) => Promise<void> | void): Promise<void> {
    const run: NamedRun = { offset: 0, clusters: 0, times: 0 };
    const entries = this.#countsData ? this.#geometry.l2Entries : 0;
    for (const { l2Offset } of l2Tables(l1, this.#disk)) {
      for (let entry = 0; entry < entries; entry += this.#entriesPerPage) {
        const count = await this.#runsOfPage(l2Offset, entry);
        for (let i = 0; i < count; i++) {
          run.offset = this.#runs[i * 3]!;
          run.clusters = this.#runs[i * 3 + 1]!;
          run.times = this.#runs[i * 3 + 2]!;
          await work(run);
        }
      }
      Object.assign(run, { offset: l2Offset, clusters: 1, times: 1 });
      await work(run);
    }
  }

  /**
   * Counts everything a tree names once more: all of it, or nothing.
   * @throws Qcow2Error TOO_LARGE: a counter is too narrow; and those of `visit`
   */
  async addReferences(l1: Uint8Array): Promise<void> {
    const { allocator } = this.#disk;
    let done = 0;
    try {
      await this.visit(l1, async ({ offset, clusters, times }) => {
        await allocator.addReference(offset, clusters, times);
        done++;
      });
    } catch (error) {
      await this.#disk.writeBack.undivided(() => this.#takeBack(l1, done));
      throw error;
    }
  }

  /**
   * Counts everything a tree names once less, and gives back the space of what became free. On the disk
   * nothing may lead to the tree any more.
   * @throws Qcow2Error BAD_ENTRY: it was not counted; and those of `visit`
   */
  async releaseReferences(l1: Uint8Array): Promise<void> {
    await this.visit(l1, ({ offset, clusters, times }) =>
      this.#disk.releaseClusters(offset, clusters, times),
    );
  }

  /** Makes the copied flags of an L1 table, in the file or the cache, and of its L2 tables true. */
  async updateCopiedFlags(l1: L1Table): Promise<void> {
    const { clusterSize } = this.#geometry;
    const end = l1.offset + l1.entries * 8;
    for (let at = l1.offset; at < end; ) {
      const count = (Math.min(end, at + PAGE_BYTES - (at % PAGE_BYTES)) - at) / 8;
      const found = await this.#updateFlags(at, count, 8, L1_TABLE);
      const tables = this.#clusters.slice(0, found);
      for (const cluster of tables) await this.#updateTable(cluster * clusterSize);
      at += count * 8;
    }
  }

  async #updateTable(l2Offset: number): Promise<void> {
    const { l2Entries, l2EntrySize } = this.#geometry;
    for (let entry = 0; entry < l2Entries; entry += this.#entriesPerPage) {
      const count = Math.min(this.#entriesPerPage, l2Entries - entry);
      await this.#updateFlags(l2Offset + entry * l2EntrySize, count, l2EntrySize, L2_TABLE);
    }
  }

  /**
   * Makes the flags of entries that lie in one page true; returns how many name a cluster. `#clusters`
   * tells which.
   */
  async #updateFlags(
    offset: number,
    count: number,
    entryBytes: number,
    kind: TableKind,
  ): Promise<number> {
    const { tables, tableStorage, allocator } = this.#disk;
    const found = this.#findClusters(
      await tables.pointer(tableStorage, offset),
      count,
      entryBytes,
      kind === L2_TABLE,
    );
    await allocator.refcounts.areOne(this.#clusters, found, this.#isOwn);
    const pointer = await tables.pointer(tableStorage, offset);
    const bytes = this.#kernel.arena.u8;
    let first = -1;
    let last = -1;
    for (let i = 0; i < found; i++) {
      const at = this.#entries[i]! * entryBytes;
      const high = bytes[pointer + at]!;
      if (high >>> 7 === this.#isOwn[i]) continue;
      bytes[pointer + at] = high ^ 0x80;
      if (first < 0) first = at;
      last = at;
    }
    if (first >= 0) tables.markDirty(offset + first, last - first + 8, kind);
    return found;
  }

  /** Finds the entries with a cluster to themselves or shared: not those of compressed streams. */
  #findClusters(pointer: number, count: number, entryBytes: number, isL2: boolean): number {
    const { clusterSize } = this.#geometry;
    const view = new DataView(this.#kernel.arena.u8.buffer);
    let found = 0;
    for (let i = 0; i < count; i++) {
      const high = view.getUint32(pointer + i * entryBytes);
      if (isL2 && (high & 0x40000000) !== 0) continue;
      const low = view.getUint32(pointer + i * entryBytes + 4);
      const cluster = ((high & 0xffffff) * 2 ** 32 + ((low & 0xfffffe00) >>> 0)) / clusterSize;
      // What is not a cluster's offset is damage, and for check to tell of.
      if (cluster === 0 || !Number.isInteger(cluster)) continue;
      this.#entries[found] = i;
      this.#clusters[found++] = cluster;
    }
    return found;
  }

  get #entriesPerPage(): number {
    const { clusterSize, l2EntrySize } = this.#geometry;
    return Math.min(clusterSize, PAGE_BYTES) / l2EntrySize;
  }

  /** Finds the runs of the entries of a table that lie in one page; returns how many. */
  async #runsOfPage(l2Offset: number, entry: number): Promise<number> {
    const { clusterSize, l2EntrySize } = this.#geometry;
    const { tables, tableStorage } = this.#disk;
    const offset = l2Offset + entry * l2EntrySize;
    const slice = this.#slice.at(await tables.pointer(tableStorage, offset));
    let runs = 0;
    for (let i = 0; i < this.#entriesPerPage; i++) {
      if (slice.isCompressed(i)) {
        const { first, last } = compressedClusters(slice.stream(i), this.#geometry);
        runs = this.#addRun(runs, first * clusterSize, last - first + 1);
        continue;
      }
      const host = slice.host(i);
      if (host < 0) continue;
      if (host % clusterSize !== 0)
        throw notACluster(`L2 entry at offset ${hex(offset + i * l2EntrySize)}`, host);
      runs = this.#addRun(runs, host, 1);
    }
    return runs;
  }

  /** Adds to the last of the runs what goes with it. */
  #addRun(count: number, offset: number, clusters: number): number {
    const runs = this.#runs;
    const last = count * 3 - 3;
    if (last >= 0) {
      if (runs[last] === offset && runs[last + 1] === clusters) {
        runs[last + 2]!++;
        return count;
      }
      const end = runs[last]! + runs[last + 1]! * this.#geometry.clusterSize;
      if (end === offset && runs[last + 2] === 1) {
        runs[last + 1]! += clusters;
        return count;
      }
    }
    runs[last + 3] = offset;
    runs[last + 4] = clusters;
    runs[last + 5] = 1;
    return count + 1;
  }

  /** Undoes the first `done` steps of `addReferences`. */
  async #takeBack(l1: Uint8Array, done: number): Promise<void> {
    const { allocator } = this.#disk;
    let left = done;
    if (left === 0) return;
    try {
      await this.visit(l1, async ({ offset, clusters, times }) => {
        if (left-- === 0) throw DONE;
        await allocator.addReference(offset, clusters, -times);
      });
    } catch (error) {
      if (error !== DONE) throw error;
    }
  }
}

/** Ends a walk. */
const DONE = Symbol('done');

function notACluster(structure: string, value: number): Qcow2Error {
  const text = `${structure}: host offset ${hex(value)} is not cluster aligned; repair the image (check -r all)`;
  return new Qcow2Error('BAD_ENTRY', text, { structure, value });
}
