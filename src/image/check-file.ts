import { hex } from '../errors.ts';
import type { Geometry } from '../format/geometry.ts';
import type { Header } from '../format/header.ts';
import { SECTOR_SIZE } from '../format/limits.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { MaybePromise, Storage } from '../storage/storage.ts';
import { CounterAccess, ReferenceCounts } from './check-counts.ts';
import { PieceDirectory } from './check-directory.ts';
import type { Findings } from './check-findings.ts';
import type { Metadata } from './metadata.ts';
import { LEAST_PAGES, PAGE_BYTES, TableCache } from './table-cache.ts';

/** Refcount structures can be made anew: nothing is lost with them. */
const isRefcountStructure = (structure: string): boolean => structure.startsWith('refcount ');

/** The file under check, what was found so far, and the references counted so far. */
export class CheckedFile {
  readonly storage: Storage;
  readonly metadata: Metadata;
  readonly header: Header;
  readonly geometry: Geometry;
  readonly kernel: Kernel;
  readonly findings: Findings;
  readonly access: CounterAccess;
  readonly references: ReferenceCounts;
  /** Where both kinds of counters are in kernel memory. */
  readonly pieces: PieceDirectory;
  /** Length of the file in bytes, in whole sectors as QEMU sees it, and in clusters. */
  readonly size: number;
  readonly clusters: number;
  /**
   * Lowest host offset past the end of the file that something names; infinite: nothing does. A file
   * that grew that far would answer with zeros where it now answers with an error.
   */
  lowestPastEnd = Number.POSITIVE_INFINITY;
  readonly #tables: TableCache;
  readonly #storageNumber: number;
  readonly #step: () => void;

  /** @param step called between tables; throws to end the check */
  constructor(
    storage: Storage,
    metadata: Metadata,
    kernel: Kernel,
    findings: Findings,
    step: () => void,
  ) {
    this.storage = storage;
    this.metadata = metadata;
    this.header = metadata.header;
    this.geometry = metadata.geometry;
    this.kernel = kernel;
    this.findings = findings;
    this.size = Math.ceil(storage.size / SECTOR_SIZE) * SECTOR_SIZE;
    this.clusters = Math.ceil(storage.size / this.geometry.clusterSize);
    this.#step = step;
    // Tables are read from front to back, once: few pages stay in the processor's cache.
    this.#tables = new TableCache(kernel.arena, LEAST_PAGES * PAGE_BYTES);
    this.#storageNumber = this.#tables.register(storage);
    this.access = new CounterAccess(kernel, this.geometry.refcountOrder);
    this.pieces = new PieceDirectory(kernel, Math.ceil(this.clusters / this.access.perPiece));
    this.references = new ReferenceCounts(this.access, this.pieces, (cluster, times) => {
      const { clusterSize, refcountBits } = this.geometry;
      const offset = cluster * clusterSize;
      findings.overflows += times;
      findings.add('corruption', 'cluster', offset, times, () => {
        const text = `more references than a ${refcountBits}-bit counter holds`;
        return `ERROR: overflow cluster offset=${hex(offset)}: ${text}`;
      });
    });
  }

  /** Clusters whose counters are compared: those of the file, and any referenced behind them. */
  get comparedClusters(): number {
    return Math.max(this.clusters, this.references.highest + 1);
  }

  /**
   * Counts a region of the file, `times` references to each of its clusters. A region that ends a
   * cluster or more past the end of the file is a corruption and not counted.
   * @param structure what refers to the region, and `at` where that stands
   */
  addRegion(structure: string, at: number, offset: number, bytes: number, times = 1): boolean {
    if (bytes <= 0) return true;
    const { clusterSize } = this.geometry;
    if (offset + bytes - this.size >= clusterSize) {
      this.reportPastEnd(structure, at, offset, bytes, times);
      return false;
    }
    if (offset >= this.size && !isRefcountStructure(structure)) this.notePastEnd(offset);
    const first = Math.floor(offset / clusterSize);
    const last = Math.floor((offset + bytes - 1) / clusterSize);
    this.references.add(first, last - first + 1, times);
    return true;
  }

  reportPastEnd(structure: string, at: number, offset: number, bytes: number, times: number): void {
    if (!isRefcountStructure(structure)) this.notePastEnd(Math.max(offset, this.size));
    this.findings.add('corruption', structure, at, times, () => {
      const region = `${bytes} bytes at ${hex(offset)} are past the end of the file`;
      return `ERROR ${structure} at ${hex(at)}: ${region} (${hex(this.size)})`;
    });
  }

  /** Something lies past the end of the file: it is lost, and if it is a table, all it led to. */
  notePastEnd(offset: number): void {
    this.findings.lost++;
    this.lowestPastEnd = Math.min(this.lowestPastEnd, offset);
  }

  /**
   * Visits the bytes of a table in parts that lie together in kernel memory, a page at most. What
   * lies past the end of the file reads as zeros, and parts that are all zeros are left out.
   * @param visit pointer, host offset and length of a part; `offset` keeps the alignment to 512
   */
  async eachPart(
    start: number,
    end: number,
    visit: (pointer: number, offset: number, bytes: number) => MaybePromise<void>,
  ): Promise<void> {
    for (let at = start; at < Math.min(end, this.size); ) {
      const bytes = Math.min(end - at, PAGE_BYTES - (at % PAGE_BYTES));
      const found = this.#tables.pointer(this.#storageNumber, at);
      const pointer = typeof found === 'number' ? found : await found;
      if (!this.kernel.isZero(pointer, bytes)) {
        const pending = visit(pointer, at, bytes);
        if (pending !== undefined) await pending;
      }
      at += bytes;
    }
    this.#step();
  }
}
