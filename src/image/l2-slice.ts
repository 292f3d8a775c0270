import {
  type CompressedDescriptor,
  type DescriptorGeometry,
  maxStreamBytes,
  writeCompressed,
} from '../format/compressed-descriptor.ts';
import type { Geometry } from '../format/geometry.ts';
import { writeOffsetWord } from '../format/l1-entry.ts';
import {
  INVALID_ALLOC_AND_ZERO,
  INVALID_ALLOC_WITHOUT_OFFSET,
  INVALID_BITMAP_ON_COMPRESSED,
  INVALID_COMPRESSED_IN_DATA_FILE,
  INVALID_HOST_NOT_GUEST,
  INVALID_UNALIGNED,
  INVALID_ZERO_IN_V2,
} from '../kernel/abi.ts';
import type { Arena } from '../kernel/arena.ts';

const TWO_32 = 2 ** 32;
/** All 32 subclusters. */
export const ALL_SUBCLUSTERS = 0xffffffff;

/** What reading entries depends on. */
export interface L2Rules {
  geometry: Geometry;
  version: 2 | 3;
  dataFile: boolean;
}

/**
 * Entries of an L2 table where they lie in the table cache, one after the other (format sections 7 to
 * 9). A standard entry is shown as one with 32 subclusters that are all alike. Valid as long as the
 * pointer is; one object serves all slices.
 */
export class L2Slice {
  readonly #arena: Arena;
  readonly #rules: L2Rules;
  readonly #entryBytes: number;
  readonly #extended: boolean;
  #view: DataView;
  #pointer = 0;

  constructor(arena: Arena, rules: L2Rules) {
    this.#arena = arena;
    this.#rules = rules;
    this.#entryBytes = rules.geometry.l2EntrySize;
    this.#extended = rules.geometry.extendedL2;
    this.#view = new DataView(arena.u8.buffer);
  }

  /** Shows the entries from an address in kernel memory on. */
  at(pointer: number): this {
    if (this.#view.buffer !== this.#arena.u8.buffer)
      this.#view = new DataView(this.#arena.u8.buffer);
    this.#pointer = pointer;
    return this;
  }

  isCompressed(i: number): boolean {
    return (this.#high(i) & 0x40000000) !== 0;
  }

  /** Bit 63: the host cluster is this entry's alone. With a data file it always is. */
  isOwned(i: number): boolean {
    return this.#rules.dataFile || this.#high(i) >>> 31 === 1;
  }

  /** Host offset of the cluster; -1 if there is none. */
  host(i: number): number {
    const high = this.#high(i);
    const low = this.#low(i);
    const offset = (high & 0xffffff) * TWO_32 + ((low & 0xfffffe00) >>> 0);
    if (offset !== 0) return offset;
    const isZeroFlagged = !this.#extended && (low & 1) !== 0;
    return this.#rules.dataFile && high >>> 31 === 1 && !isZeroFlagged ? 0 : -1;
  }

  /** A bit for each subcluster that is stored in the host cluster. */
  allocated(i: number): number {
    if (this.#extended) return this.#word(i, 12);
    return this.host(i) >= 0 && (this.#low(i) & 1) === 0 ? ALL_SUBCLUSTERS : 0;
  }

  /** A bit for each subcluster that reads as zeros without being stored. */
  zeros(i: number): number {
    if (this.#extended) return this.#word(i, 8);
    return (this.#low(i) & 1) !== 0 ? ALL_SUBCLUSTERS : 0;
  }

  /** Whether the entry says nothing: the backing file answers. */
  isEmpty(i: number): boolean {
    return !this.isCompressed(i) && this.host(i) < 0 && this.zeros(i) === 0;
  }

  stream(i: number): CompressedDescriptor {
    return streamOf(this.#high(i), this.#low(i), this.#rules.geometry);
  }

  /**
   * The rule an entry breaks, as `INVALID_*`; 0 for a valid one.
   * @param guest guest offset the entry maps
   */
  fault(i: number, guest: number): number {
    const { dataFile, version, geometry } = this.#rules;
    if (this.isCompressed(i)) {
      if (dataFile) return INVALID_COMPRESSED_IN_DATA_FILE;
      return this.#extended && (this.#word(i, 8) | this.#word(i, 12)) !== 0
        ? INVALID_BITMAP_ON_COMPRESSED
        : 0;
    }
    const host = this.host(i);
    if (this.#extended) {
      const allocated = this.#word(i, 12);
      if (host < 0) return allocated !== 0 ? INVALID_ALLOC_WITHOUT_OFFSET : 0;
      if ((allocated & this.#word(i, 8)) !== 0) return INVALID_ALLOC_AND_ZERO;
    } else if (version === 2 && (this.#low(i) & 1) !== 0) return INVALID_ZERO_IN_V2;
    if (host < 0) return 0;
    if (host % geometry.clusterSize !== 0) return INVALID_UNALIGNED;
    return dataFile && host !== guest ? INVALID_HOST_NOT_GUEST : 0;
  }

  /**
   * Sets an entry to a host cluster.
   * @param host offset in bytes
   * @param owned bit 63
   * @param allocated subclusters stored there, @param zeros those that read as zeros: in a standard
   *   entry all or none
   */
  setHost(i: number, host: number, owned: boolean, allocated: number, zeros: number): void {
    const at = this.#pointer + i * this.#entryBytes;
    const isZero = !this.#extended && allocated === 0 && zeros !== 0;
    writeOffsetWord(this.#view, at, host, owned, isZero ? 1 : 0);
    if (this.#extended) this.#setBitmap(i, allocated, zeros);
  }

  /** Sets an entry without host cluster; of a standard one `zeros` is all or none. */
  setPlain(i: number, zeros: number): void {
    const at = this.#pointer + i * this.#entryBytes;
    writeOffsetWord(this.#view, at, 0, false, !this.#extended && zeros !== 0 ? 1 : 0);
    if (this.#extended) this.#setBitmap(i, 0, zeros);
  }

  /** Sets an entry to a compressed stream of `length` bytes at a host offset. */
  setCompressed(i: number, host: number, length: number): void {
    const at = this.#pointer + i * this.#entryBytes;
    writeCompressed(this.#view, at, host, length, this.#rules.geometry);
    if (this.#extended) this.#setBitmap(i, 0, 0);
  }

  #setBitmap(i: number, allocated: number, zeros: number): void {
    const at = this.#pointer + i * this.#entryBytes;
    this.#view.setUint32(at + 8, zeros);
    this.#view.setUint32(at + 12, allocated);
  }

  #high(i: number): number {
    return this.#view.getUint32(this.#pointer + i * this.#entryBytes);
  }

  #low(i: number): number {
    return this.#view.getUint32(this.#pointer + i * this.#entryBytes + 4);
  }

  #word(i: number, at: number): number {
    return this.#view.getUint32(this.#pointer + i * this.#entryBytes + at);
  }
}

/** The descriptor in the two halves of a compressed entry. */
function streamOf(high: number, low: number, geometry: DescriptorGeometry): CompressedDescriptor {
  const highBits = geometry.compressedOffsetBits - 32;
  const hostOffset = (high & (2 ** highBits - 1)) * TWO_32 + low;
  const additionalSectors = (high >>> highBits) & (2 ** (geometry.clusterBits - 8) - 1);
  return { hostOffset, additionalSectors, maxBytes: maxStreamBytes(hostOffset, additionalSectors) };
}
