import { hex, Qcow2Error } from '../errors.ts';
import { type BitTable, bitMask, reservedMask } from './fields.ts';
import { type Geometry, type HostOffset, isClusterAligned } from './geometry.ts';

/** Bit fields of an L1 entry (format section 7). */
export const L1_BITS = {
  l2Offset: [9, 55],
  copied: [63, 63],
} as const satisfies BitTable;

/** Bits of an L1 entry that hold the offset of the L2 table. */
export const L1_OFFSET_MASK = bitMask(L1_BITS.l2Offset);
/** Bit 63: the L2 table's counter is 1. To be believed in the active L1 table only. */
export const L1_COPIED = bitMask(L1_BITS.copied);
/** Bits `check` reports when set; bit 0 is one of them. Reading ignores them. */
export const L1_RESERVED_MASK = reservedMask(L1_BITS);

/** One L1 entry, decoded for inspection; tables are walked by the kernels. */
export interface L1Entry {
  readonly word: bigint;
  /** Host offset of the L2 table in bytes; 0: no table, all below reads as unallocated. */
  readonly l2Offset: HostOffset;
  readonly copied: boolean;
  /** The reserved bits that are set, in place. */
  readonly reservedBits: bigint;
  /** The rule the entry breaks: it must not be followed. */
  readonly invalid: 'unaligned' | undefined;
}

/** Decodes one L1 entry. Never throws: what is wrong is in `invalid` and `reservedBits`. */
export function decodeL1Entry(word: bigint, geometry: Geometry): L1Entry {
  const l2Offset = Number(word & L1_OFFSET_MASK);
  return {
    word,
    l2Offset,
    copied: (word & L1_COPIED) !== 0n,
    reservedBits: word & L1_RESERVED_MASK,
    invalid: isClusterAligned(l2Offset, geometry) ? undefined : 'unaligned',
  };
}

/** The word of an L1 entry. @throws INVALID_ARGUMENT for an offset an entry cannot hold */
export function encodeL1Entry(l2Offset: HostOffset, copied: boolean): bigint {
  requireEntryOffset(l2Offset);
  return BigInt(l2Offset) | (copied ? L1_COPIED : 0n);
}

/** Writes an L1 entry at byte `pos`. @throws INVALID_ARGUMENT as `encodeL1Entry` */
export function writeL1(view: DataView, pos: number, l2Offset: HostOffset, copied: boolean): void {
  requireEntryOffset(l2Offset);
  writeOffsetWord(view, pos, l2Offset, copied);
}

const TWO_32 = 2 ** 32;

/** Writes an offset and, as bit 63, the copied flag; no BigInt. The caller has checked the offset. */
export function writeOffsetWord(
  view: DataView,
  pos: number,
  offset: HostOffset,
  copied: boolean,
  low = 0,
): void {
  view.setUint32(pos, (copied ? 0x80000000 : 0) + Math.floor(offset / TWO_32));
  view.setUint32(pos + 4, (offset % TWO_32) + low);
}

/**
 * L1, L2 and bitmap table entries hold offsets in bits 9 to 55.
 * @throws INVALID_ARGUMENT for anything but a multiple of 512 from 0 to 2^53 - 512
 */
export function requireEntryOffset(offset: HostOffset): void {
  if (Number.isSafeInteger(offset) && offset >= 0 && offset % 512 === 0) return;
  throw new Qcow2Error(
    'INVALID_ARGUMENT',
    `host offset ${hex(offset)} cannot be stored in a table entry; must be a multiple of 512 below 2^53`,
    { value: offset },
  );
}
