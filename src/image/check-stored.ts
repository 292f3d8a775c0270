import type { Region } from '../kernel/arena.ts';
import type { MaybePromise } from '../storage/storage.ts';
import { PIECE_BYTES } from './check-counts.ts';
import type { CheckedFile } from './check-file.ts';
import { LEAST_PAGES, PAGE_BYTES, TableCache } from './table-cache.ts';

const TWO_32 = 2 ** 32;
/** Host offsets from here on cannot be read by QEMU, whatever the file's length. */
const UNREADABLE = 2 ** 63 - 2 ** 30;

/** Answers for counters without a refcount block, and for those whose block cannot be used. */
export const NO_BLOCK = 0;
export const UNUSABLE = -1;

/** A refcount table entry, for inspection. */
export interface RefcountTableWord {
  readonly reserved: boolean;
  readonly unaligned: boolean;
  /** Host offset of the block; rounded beyond 2^53, where no file reaches. */
  readonly offset: number;
}

/** The counters stored in the file (format section 6). */
export class StoredCounts {
  /** Entries of the refcount table that can be other than 0. */
  readonly entries: number;
  readonly #file: CheckedFile;
  readonly #words: DataView;
  readonly #blocks: TableCache;
  readonly #storageNumber: number;
  readonly #piecesPerBlock: number;
  /** Whether the table or its blocks cannot be changed where they are. */
  mustMove = false;
  /** Corruptions of the table's entries, and of where it lies. */
  faults = 0;
  readonly #cache: PieceCache;

  private constructor(file: CheckedFile, words: DataView) {
    this.#file = file;
    this.#words = words;
    this.entries = Math.floor(words.byteLength / 8);
    this.#piecesPerBlock = file.geometry.clusterSize / PIECE_BYTES;
    this.#cache = new PieceCache(file);
    this.#blocks = new TableCache(file.kernel.arena, LEAST_PAGES * PAGE_BYTES);
    this.#storageNumber = this.#blocks.register(file.storage);
  }

  /** Reads the refcount table: 8 MiB at most, by the limits of the header. */
  static async load(file: CheckedFile): Promise<StoredCounts> {
    const { refcountTableOffset: offset, refcountTableClusters } = file.header;
    const length = refcountTableClusters * file.geometry.clusterSize;
    const inFile = Math.max(0, Math.min(length, file.size - offset));
    const bytes = new Uint8Array(Math.ceil(inFile / 8) * 8);
    await file.storage.read(offset, bytes.subarray(0, inFile));
    return new StoredCounts(file, new DataView(bytes.buffer));
  }

  /** One entry of the refcount table; undefined for an entry of 0. */
  entry(index: number): RefcountTableWord | undefined {
    if (index >= this.entries) return undefined;
    const high = this.#words.getUint32(index * 8);
    const low = this.#words.getUint32(index * 8 + 4);
    if (high === 0 && low === 0) return undefined;
    return {
      reserved: (low & 0x1ff) !== 0,
      unaligned: (low & (this.#file.geometry.clusterSize - 1) & ~0x1ff) !== 0,
      offset: high * TWO_32 + ((low & ~0x1ff) >>> 0),
    };
  }

  /** Host offset of the block of a table entry as it is followed; `NO_BLOCK` or `UNUSABLE`. */
  blockOffset(index: number): number {
    if (index >= this.entries) return NO_BLOCK;
    const high = this.#words.getUint32(index * 8);
    const low = this.#words.getUint32(index * 8 + 4);
    const { clusterSize } = this.#file.geometry;
    const offset = high * TWO_32 + ((low & ~0x1ff) >>> 0);
    const isUnaligned = (low & (clusterSize - 1) & ~0x1ff) !== 0;
    if (isUnaligned || offset + clusterSize > UNREADABLE) return UNUSABLE;
    return offset < this.#file.size ? offset : NO_BLOCK;
  }

  /**
   * Pointer to the piece of counters with this index; `NO_BLOCK`: they are 0; `UNUSABLE`. It holds
   * until the next call.
   */
  piece(index: number): MaybePromise<number> {
    const block = Math.floor(index / this.#piecesPerBlock);
    const offset = this.blockOffset(block);
    if (offset <= NO_BLOCK) return offset;
    return this.#cache.pointer(
      offset + (index - block * this.#piecesPerBlock) * PIECE_BYTES,
      index,
    );
  }

  /**
   * Pointer to the bytes of a refcount block from this host offset on, to the end of their page: for
   * reading blocks from front to back.
   */
  page(offset: number): MaybePromise<number> {
    return this.#blocks.pointer(this.#storageNumber, offset);
  }

  /** One stored counter; `UNUSABLE` if it cannot be read. */
  counter(cluster: number): MaybePromise<number> {
    const { access } = this.#file;
    const piece = Math.floor(cluster / access.perPiece);
    const value = (pointer: number): number =>
      pointer <= NO_BLOCK ? pointer : access.get(pointer, cluster - piece * access.perPiece);
    const found = this.piece(piece);
    return typeof found === 'number' ? value(found) : found.then(value);
  }

  /** Counts the refcount table. */
  addTable(offset: number, clusters: number): void {
    const { geometry, references, findings } = this.#file;
    const { clusterSize } = geometry;
    const { overflows } = findings;
    if (!this.#file.addRegion('refcount table', offset, offset, clusters * clusterSize)) {
      this.mustMove = true;
      this.faults++;
      return;
    }
    const first = offset / clusterSize;
    for (let i = 0; i < clusters; i++) if (references.get(first + i) !== 1) this.mustMove = true;
    if (findings.overflows !== overflows) this.mustMove = true;
  }

  /** Counts the blocks themselves and checks the refcount table's entries (format section 18). */
  addBlocks(): void {
    const { geometry, findings, references, header } = this.#file;
    for (let index = 0; index < this.entries; index++) {
      const entry = this.entry(index);
      if (entry === undefined) continue;
      const at = header.refcountTableOffset + index * 8;
      const report = (text: string): void => {
        this.mustMove = true;
        this.faults++;
        findings.add('corruption', 'refcount table entry', at, 1, () => `ERROR ${text}`);
      };
      if (entry.reserved) report(`refcount table entry ${index} has reserved bits set`);
      else if (entry.unaligned) report(`refcount block ${index} is not cluster aligned`);
      else if (entry.offset / geometry.clusterSize >= this.#file.comparedClusters) {
        report(`refcount block ${index} is outside image`);
      } else {
        const { overflows } = findings;
        this.#file.addRegion('refcount table entry', at, entry.offset, geometry.clusterSize);
        // A counter of one bit says 1 all the same.
        if (findings.overflows !== overflows) this.mustMove = true;
        const count = references.get(entry.offset / geometry.clusterSize);
        if (count !== 1) report(`refcount block ${index} refcount=${count}`);
      }
    }
  }

  /** Bytes of a block from `offset` on that lie together in memory. */
  static partBytes(offset: number, end: number): number {
    return Math.min(end - offset, PAGE_BYTES - (offset % PAGE_BYTES));
  }
}

const CACHE_PAGE_BYTES = 16384;
const CACHE_SLOTS = 1024;
const PIECES_IN_PAGE = CACHE_PAGE_BYTES / PIECE_BYTES;
const NO_PIECE = -1;

/**
 * Small pages of refcount blocks for looking up counters in any order, as fragmented images need:
 * each place in the file has one slot, so that a look-up is an index and a comparison. The directory
 * of pieces knows what is held of those that were looked up.
 */
class PieceCache {
  readonly #file: CheckedFile;
  readonly #region: Region;
  /** Index of the page a slot holds. */
  readonly #held = new Float64Array(CACHE_SLOTS).fill(-1);
  /** Index of the piece that the directory has at a place of the region. */
  readonly #pieceAt = new Float64Array(CACHE_SLOTS * PIECES_IN_PAGE).fill(NO_PIECE);

  constructor(file: CheckedFile) {
    this.#file = file;
    this.#region = file.kernel.arena.allocate(CACHE_SLOTS * CACHE_PAGE_BYTES);
  }

  /** Pointer to the bytes at a host offset: a piece, and its index. */
  pointer(offset: number, piece: number): MaybePromise<number> {
    const page = Math.floor(offset / CACHE_PAGE_BYTES);
    const slot = page % CACHE_SLOTS;
    const start = slot * CACHE_PAGE_BYTES;
    const at = start + (offset - page * CACHE_PAGE_BYTES);
    if (this.#held[slot] === page) return this.#enter(at, piece);
    this.#forget(slot);
    const into = this.#region.bytes.subarray(start, start + CACHE_PAGE_BYTES);
    const loaded = (n: number): number => {
      into.fill(0, n);
      this.#held[slot] = page;
      return this.#enter(at, piece);
    };
    const read = this.#file.storage.read(page * CACHE_PAGE_BYTES, into);
    return typeof read === 'number' ? loaded(read) : read.then(loaded);
  }

  /** Has a piece in the directory; another one that is at the same place (a block used twice) not. */
  #enter(at: number, piece: number): number {
    const place = at / PIECE_BYTES;
    const pointer = this.#region.ptr + at;
    const before = this.#pieceAt[place]!;
    if (before === piece) return pointer;
    if (before !== NO_PIECE) this.#file.pieces.setStored(before, 0);
    this.#pieceAt[place] = piece;
    this.#file.pieces.setStored(piece, pointer);
    return pointer;
  }

  #forget(slot: number): void {
    this.#held[slot] = -1;
    const start = slot * PIECES_IN_PAGE;
    for (let place = start; place < start + PIECES_IN_PAGE; place++) {
      const piece = this.#pieceAt[place]!;
      if (piece !== NO_PIECE) this.#file.pieces.setStored(piece, 0);
      this.#pieceAt[place] = NO_PIECE;
    }
  }
}
