import type { MaybePromise } from '../storage/storage.ts';
import { PIECE_BYTES } from './check-counts.ts';
import type { CheckedFile } from './check-file.ts';
import { StoredCounts, UNUSABLE } from './check-stored.ts';

/** Makes stored counters agree with the references, where it may. */
export interface CounterRepair {
  /** Whether counters above the references are lowered. */
  readonly lowers: boolean;
  /** Whether counters below the references are raised. */
  readonly raises: boolean;
  /** A counter changes in memory. */
  changed(cluster: number, stored: number, references: number): void;
  /** Writes part of a refcount block. */
  write(offset: number, bytes: Uint8Array): MaybePromise<void>;
}

/**
 * Compares stored counters with the references counted, cluster by cluster but in the packed form:
 * pieces that agree cost one vector comparison, ranges with neither cost nothing.
 */
export class Comparison {
  /** Highest cluster that is referenced or has a stored counter; 0 if there is none. */
  highest = 0;
  /** Counters below the references. */
  lows = 0;
  /** Whether clusters in use have a counter of 0. */
  hasUncounted = false;
  /** Whether counters are missing: there is no block for them, or none that can be used. */
  lacksBlocks = false;
  /** Leaked clusters that something refers to: their copied flags will change. */
  sharedLeaks = 0;
  readonly #file: CheckedFile;
  readonly #stored: StoredCounts;
  readonly #perBlock: number;
  readonly #zeros: number;
  /** Leaks of blocks whose range nothing refers to: a block that counts many ranges is read once. */
  #hasChanged = false;
  readonly #unreferenced = new Map<number, { leaks: number; highest: number }>();

  readonly #repair: CounterRepair | undefined;

  /** @param repair changes counters, instead of reporting them; each has a block of its own */
  constructor(file: CheckedFile, stored: StoredCounts, repair?: CounterRepair) {
    this.#file = file;
    this.#stored = stored;
    this.#repair = repair;
    this.#perBlock = file.geometry.refcountBlockEntries;
    const region = file.kernel.arena.allocate(PIECE_BYTES);
    region.bytes.fill(0);
    this.#zeros = region.ptr;
  }

  /** Walks all refcount blocks, and all pieces of references, in order. */
  async run(): Promise<void> {
    const pieces = this.#file.references.pieces();
    const perBlock = this.#perBlock / this.#file.access.perPiece;
    const blocks = Math.ceil(this.#file.comparedClusters / this.#perBlock);
    let next = 0;
    for (let block = 0; block < blocks; block++) {
      const offset = this.#stored.blockOffset(block);
      let end = next;
      while (end < pieces.length && pieces[end]! < (block + 1) * perBlock) end++;
      if (offset === UNUSABLE) this.#reportUnusable(block);
      else if (offset > 0) await this.#compareBlock(block, offset, end > next);
      else for (let i = next; i < end; i++) this.#comparePiece(pieces[i]!, this.#zeros);
      next = end;
      if (block >= this.#stored.entries && next < pieces.length) {
        block = Math.max(block, Math.floor(pieces[next]! / perBlock) - 1);
      } else if (block >= this.#stored.entries) return;
    }
  }

  /** Clusters of a block that are compared. */
  #clustersOf(block: number): number {
    const start = block * this.#perBlock;
    return Math.min(this.#perBlock, this.#file.comparedClusters - start);
  }

  #reportUnusable(block: number): void {
    const { findings, geometry } = this.#file;
    const count = this.#clustersOf(block);
    this.lacksBlocks = true;
    for (let i = 0; i < count; i++) {
      if (findings.isFull) {
        findings.addUnlisted('error', count - i);
        return;
      }
      const cluster = block * this.#perBlock + i;
      findings.add('error', 'refcount block', cluster * geometry.clusterSize, 1, () => {
        return `Can't get refcount for cluster ${cluster}: its refcount block cannot be used`;
      });
    }
  }

  async #compareBlock(block: number, offset: number, referenced: boolean): Promise<void> {
    const whole = this.#clustersOf(block) === this.#perBlock;
    const known = this.#unreferenced.get(offset);
    if (!referenced && whole && known !== undefined && this.#file.findings.isFull) {
      this.#file.findings.addUnlisted('leak', known.leaks);
      if (known.highest >= 0) this.#use(block * this.#perBlock + known.highest);
      return;
    }
    const leaksBefore = this.#file.findings.leaks;
    const highest = await this.#comparePages(block, offset);
    if (referenced || !whole) return;
    const leaks = this.#file.findings.leaks - leaksBefore;
    this.#unreferenced.set(offset, { leaks, highest });
  }

  /** Compares a block page by page; returns its highest counter in use, or -1. */
  async #comparePages(block: number, offset: number): Promise<number> {
    const { kernel, references, geometry, access } = this.#file;
    const end = offset + geometry.clusterSize;
    let highest = -1;
    for (let at = offset; at < end; ) {
      const bytes = StoredCounts.partBytes(at, end);
      const found = this.#stored.page(at);
      const pointer = typeof found === 'number' ? found : await found;
      const isZero = kernel.isZero(pointer, bytes);
      let from = bytes;
      let to = 0;
      for (let pos = 0; pos < bytes; pos += PIECE_BYTES) {
        const first = (at - offset + pos) / PIECE_BYTES;
        const piece = (block * this.#perBlock) / access.perPiece + first;
        if (isZero && references.pointer(piece) === 0) continue;
        this.#hasChanged = false;
        const last = this.#comparePiece(piece, pointer + pos);
        if (this.#hasChanged) {
          from = Math.min(from, pos);
          to = pos + PIECE_BYTES;
        }
        if (last >= 0) highest = last - block * this.#perBlock;
      }
      if (to > from) {
        const changed = kernel.arena.u8.slice(pointer + from, pointer + to);
        await this.#repair!.write(at + from, changed);
      }
      at += bytes;
    }
    return highest;
  }

  /** Compares one piece; returns the highest cluster in use, or -1. */
  #comparePiece(piece: number, stored: number): number {
    const { access, references, kernel } = this.#file;
    const start = piece * access.perPiece;
    const count = Math.min(access.perPiece, this.#file.comparedClusters - start);
    if (count <= 0) return -1;
    const found = references.pointer(piece) || this.#zeros;
    for (let i = 0; i < count; i++) {
      i = kernel.exports.refcount_compare(stored, found, access.order, i, count - i);
      if (i < 0) break;
      this.#judge(start + i, stored, i, access.get(found, i));
    }
    for (let i = count - 1; i >= 0; i--) {
      if (access.get(stored, i) === 0 && access.get(found, i) === 0) continue;
      this.#use(start + i);
      return start + i;
    }
    return -1;
  }

  #use(cluster: number): void {
    this.highest = Math.max(this.highest, cluster);
  }

  /** Changes or reports a counter that is not what it should be. */
  #judge(cluster: number, pointer: number, index: number, references: number): void {
    const { access } = this.#file;
    const stored = access.get(pointer, index);
    const repair = this.#repair;
    const isLeak = stored > references;
    if (!isLeak) this.lows++;
    if (!isLeak && stored === 0) this.hasUncounted = true;
    if (isLeak && references > 0) this.sharedLeaks++;
    if (pointer === this.#zeros) this.lacksBlocks = true;
    if (repair === undefined) {
      this.#report(cluster, stored, references);
      return;
    }
    if (isLeak ? !repair.lowers : !repair.raises) return;
    access.set(pointer, index, references);
    this.#hasChanged = true;
    repair.changed(cluster, stored, references);
  }

  #report(cluster: number, stored: number, references: number): void {
    const isLeak = stored > references;
    this.#file.findings.add(
      isLeak ? 'leak' : 'corruption',
      'refcount block',
      cluster * this.#file.geometry.clusterSize,
      1,
      () =>
        `${isLeak ? 'Leaked' : 'ERROR'} cluster ${cluster} refcount=${stored} reference=${references}`,
    );
  }
}
