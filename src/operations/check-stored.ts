import { PAGE_BYTES, TableCache } from '../image/table-cache.ts';
import type { MaybePromise } from '../storage/storage.ts';
import { PIECE_BYTES } from './check-counts.ts';
import type { CheckedFile } from './check-file.ts';

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
  #lastPiece = -1;
  #lastPointer = 0;

  private constructor(file: CheckedFile, words: DataView) {
    this.#file = file;
    this.#words = words;
    this.entries = Math.floor(words.byteLength / 8);
    this.#piecesPerBlock = file.geometry.clusterSize / PIECE_BYTES;
    this.#blocks = new TableCache(file.kernel.arena);
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
    const entry = this.entry(index);
    if (entry === undefined) return NO_BLOCK;
    if (entry.unaligned || entry.offset + this.#file.geometry.clusterSize > UNREADABLE) {
      return UNUSABLE;
    }
    return entry.offset < this.#file.size ? entry.offset : NO_BLOCK;
  }

  /**
   * Pointer to the piece of counters with this index; `NO_BLOCK`: they are 0; `UNUSABLE`. It holds
   * until the next call of this or `page`.
   */
  piece(index: number): MaybePromise<number> {
    if (index === this.#lastPiece) return this.#lastPointer;
    const block = Math.floor(index / this.#piecesPerBlock);
    const offset = this.blockOffset(block);
    const within = (index - block * this.#piecesPerBlock) * PIECE_BYTES;
    const found = offset <= NO_BLOCK ? offset : this.page(offset + within);
    const remember = (pointer: number): number => {
      this.#lastPiece = index;
      this.#lastPointer = pointer;
      return pointer;
    };
    return typeof found === 'number' ? remember(found) : found.then(remember);
  }

  /** Pointer to the bytes of a refcount block from this host offset on, to the end of their page. */
  page(offset: number): MaybePromise<number> {
    this.#lastPiece = -1;
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

  /** Counts the blocks themselves and checks the refcount table's entries (format section 18). */
  addBlocks(): void {
    const { geometry, findings, references, header } = this.#file;
    for (let index = 0; index < this.entries; index++) {
      const entry = this.entry(index);
      if (entry === undefined) continue;
      const at = header.refcountTableOffset + index * 8;
      const report = (text: string): void =>
        findings.add('corruption', 'refcount table entry', at, 1, () => `ERROR ${text}`);
      if (entry.reserved) report(`refcount table entry ${index} has reserved bits set`);
      else if (entry.unaligned) report(`refcount block ${index} is not cluster aligned`);
      else if (entry.offset / geometry.clusterSize >= this.#file.comparedClusters) {
        report(`refcount block ${index} is outside image`);
      } else {
        this.#file.addRegion('refcount table entry', at, entry.offset, geometry.clusterSize);
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
