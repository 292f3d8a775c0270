import { hex, Qcow2Error } from '../errors.ts';
import { BITMAP_IN_USE, type BitmapDirectoryEntry } from './bitmap-directory.ts';
import { type BitTable, bitMask, reservedMask, viewOf } from './fields.ts';
import type { Geometry, GuestOffset, HostOffset } from './geometry.ts';

/** Bit fields of a bitmap table entry (format section 13). */
export const BITMAP_TABLE_BITS = {
  allOnes: [0, 0],
  offset: [9, 55],
} as const satisfies BitTable;

const OFFSET_MASK = bitMask(BITMAP_TABLE_BITS.offset);
const ALL_ONES_MASK = bitMask(BITMAP_TABLE_BITS.allOnes);

/** Bits of a bitmap table entry that must be 0. */
export const BITMAP_TABLE_RESERVED_MASK = reservedMask(BITMAP_TABLE_BITS);

/** What one cluster of a bitmap holds: one value throughout, or data at a host offset. */
export type BitmapTableEntry =
  | { readonly kind: 'zeros' }
  | { readonly kind: 'ones' }
  | { readonly kind: 'data'; readonly hostOffset: HostOffset };

/**
 * Reads one entry.
 * @throws MALFORMED for reserved bits, an unaligned offset, or "all ones" together with an offset
 */
export function decodeBitmapTableEntry(word: bigint, geometry: Geometry): BitmapTableEntry {
  const hostOffset = Number(word & OFFSET_MASK);
  const allOnes = (word & ALL_ONES_MASK) !== 0n;
  const broken =
    (word & BITMAP_TABLE_RESERVED_MASK) !== 0n ||
    hostOffset % geometry.clusterSize !== 0 ||
    (allOnes && hostOffset !== 0) ||
    hostOffset > Number.MAX_SAFE_INTEGER;
  if (broken) {
    throw new Qcow2Error(
      'MALFORMED',
      `bitmap table entry ${hex(word)} is invalid: reserved bits, or an offset that is not a ` +
        `multiple of ${hex(geometry.clusterSize)} or has bit 0 set; remove the bitmap`,
      { structure: 'bitmap table entry', value: word },
    );
  }
  if (hostOffset !== 0) return { kind: 'data', hostOffset };
  return { kind: allOnes ? 'ones' : 'zeros' };
}

/** Writes one entry. */
export function encodeBitmapTableEntry(entry: BitmapTableEntry): bigint {
  if (entry.kind === 'data') return BigInt(entry.hostOffset);
  return entry.kind === 'ones' ? ALL_ONES_MASK : 0n;
}

/**
 * Reads a whole table; its length is that of the bytes, a multiple of 8.
 * @throws MALFORMED
 */
export function parseBitmapTable(bytes: Uint8Array, geometry: Geometry): BitmapTableEntry[] {
  const view = viewOf(bytes);
  const entries: BitmapTableEntry[] = [];
  for (let at = 0; at + 8 <= bytes.length; at += 8) {
    entries.push(decodeBitmapTableEntry(view.getBigUint64(at), geometry));
  }
  return entries;
}

/** Writes a whole table. */
export function encodeBitmapTable(entries: readonly BitmapTableEntry[]): Uint8Array {
  const bytes = new Uint8Array(entries.length * 8);
  const view = viewOf(bytes);
  entries.forEach((entry, index) => {
    view.setBigUint64(index * 8, encodeBitmapTableEntry(entry));
  });
  return bytes;
}

/** Bits of a bitmap over `diskSize` guest bytes. */
export function bitmapBits(diskSize: number, granularityBits: number): number {
  return Math.ceil(diskSize / 2 ** granularityBits);
}

/** Guest bytes one cluster of bitmap data covers. */
export function bitmapClusterCoverage(granularityBits: number, geometry: Geometry): number {
  return geometry.clusterSize * 8 * 2 ** granularityBits;
}

/** Table entries a bitmap over `diskSize` guest bytes needs. */
export function bitmapTableNeeded(
  diskSize: number,
  granularityBits: number,
  geometry: Geometry,
): number {
  return Math.ceil(Math.ceil(bitmapBits(diskSize, granularityBits) / 8) / geometry.clusterSize);
}

/**
 * A bitmap not in use must have exactly the table its disk needs; one in use may have any.
 * @throws MALFORMED
 */
export function validateBitmapTableSize(
  entry: BitmapDirectoryEntry,
  diskSize: number,
  geometry: Geometry,
): void {
  if ((entry.flags & BITMAP_IN_USE) !== 0) return;
  const needed = bitmapTableNeeded(diskSize, entry.granularityBits, geometry);
  if (entry.bitmapTableSize === needed) return;
  throw new Qcow2Error(
    'MALFORMED',
    `bitmap directory entry: bitmap_table_size (byte 8) is ${entry.bitmapTableSize}; ` +
      `must be ${needed} for a disk of ${diskSize} bytes`,
    { structure: 'bitmap directory entry', value: entry.bitmapTableSize },
  );
}

/** A range of guest bytes. */
export interface GuestRange {
  readonly offset: GuestOffset;
  readonly length: number;
}

/** Clears all bits of bitmap data from one on. */
export function clearBitsFrom(data: Uint8Array, first: number): void {
  const byte = Math.floor(first / 8);
  if (byte >= data.length) return;
  data[byte]! &= (1 << (first % 8)) - 1;
  data.fill(0, byte + 1);
}

/** Adds the bits of a piece of bitmap data to another one, not shorter; returns whether there were any. */
export function addBits(data: Uint8Array, more: Uint8Array): boolean {
  let all = 0;
  let done = 0;
  if (data.byteOffset % 4 === 0 && more.byteOffset % 4 === 0) {
    const words = Math.floor(more.length / 4);
    const to = new Uint32Array(data.buffer, data.byteOffset, words);
    const from = new Uint32Array(more.buffer, more.byteOffset, words);
    for (let i = 0; i < words; i++) {
      const word = from[i]!;
      all |= word;
      to[i]! |= word;
    }
    done = words * 4;
  }
  for (let i = done; i < more.length; i++) {
    all |= more[i]!;
    data[i]! |= more[i]!;
  }
  return all !== 0;
}

/**
 * The guest ranges whose bits are set in bitmap data, merged, clipped to the disk.
 * @param data bytes of the bitmap from the bit that stands for guest offset `start` on
 */
export function* dirtyRanges(
  data: Uint8Array,
  granularityBits: number,
  diskSize: number,
  start: GuestOffset = 0,
): Generator<GuestRange> {
  const unit = 2 ** granularityBits;
  const bits = Math.min(data.length * 8, Math.ceil(Math.max(0, diskSize - start) / unit));
  for (let bit = nextBit(data, 0, bits, 0); bit < bits; ) {
    const end = nextBit(data, bit, bits, 1);
    const offset = start + bit * unit;
    yield { offset, length: Math.min(start + end * unit, diskSize) - offset };
    bit = nextBit(data, end, bits, 0);
  }
}

/** The first bit from `from` on that is not `value`; `end` if there is none. Whole bytes at a time. */
function nextBit(data: Uint8Array, from: number, end: number, value: 0 | 1): number {
  const whole = value === 0 ? 0 : 0xff;
  let bit = from;
  while (bit < end) {
    const byte = data[Math.floor(bit / 8)]!;
    if (bit % 8 === 0 && byte === whole) bit += 8;
    else if (((byte >> (bit % 8)) & 1) === value) bit++;
    else return bit;
  }
  return end;
}

/**
 * Sets the bits of every granule a guest range touches.
 * @param data bytes of the bitmap from the bit that stands for guest offset `start` on; the parts
 *   of the range outside them are ignored
 */
export function markDirty(
  data: Uint8Array,
  granularityBits: number,
  range: GuestRange,
  start: GuestOffset = 0,
): void {
  if (range.length <= 0) return;
  const unit = 2 ** granularityBits;
  const first = Math.max(0, Math.floor((range.offset - start) / unit));
  const end = Math.min(data.length * 8, Math.ceil((range.offset + range.length - start) / unit));
  if (end <= first) return;
  const [from, to] = [Math.floor(first / 8), Math.floor(end / 8)];
  const [head, tail] = [0xff & (0xff << (first % 8)), (1 << (end % 8)) - 1];
  if (from === to) {
    data[from]! |= head & tail;
    return;
  }
  data[from]! |= head;
  data.fill(0xff, from + 1, to);
  if (tail !== 0) data[to]! |= tail;
}
