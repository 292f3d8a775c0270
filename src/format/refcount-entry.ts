import { hex, Qcow2Error } from '../errors.ts';
import {
  type BitTable,
  bitMask,
  readNumber64,
  reservedMask,
  viewOf,
  writeNumber64,
} from './fields.ts';
import { type Geometry, type HostOffset, isClusterAligned, maxRefcount } from './geometry.ts';
import { MAX_OFFSET } from './limits.ts';

/** Bit fields of a refcount table entry (format section 6): unlike L1 and L2, up to bit 63. */
export const REFCOUNT_TABLE_BITS = {
  blockOffset: [9, 63],
} as const satisfies BitTable;

/** Bits of a refcount table entry that hold the offset of the refcount block. */
export const REFCOUNT_TABLE_OFFSET_MASK = bitMask(REFCOUNT_TABLE_BITS.blockOffset);
/** Bits `check` reports when set. */
export const REFCOUNT_TABLE_RESERVED_MASK = reservedMask(REFCOUNT_TABLE_BITS);

/** One refcount table entry, decoded for inspection. */
export interface RefcountTableEntry {
  readonly word: bigint;
  /** Host offset of the refcount block in bytes; 0: no block, its counters are 0. */
  readonly blockOffset: HostOffset;
  readonly reservedBits: bigint;
  /** The rule the entry breaks: it must not be followed. */
  readonly invalid: 'unaligned' | 'offset-too-large' | undefined;
}

/** Decodes one refcount table entry. Never throws: see `invalid` and `reservedBits`. */
export function decodeRefcountTableEntry(word: bigint, geometry: Geometry): RefcountTableEntry {
  const blockOffset = Number(word & REFCOUNT_TABLE_OFFSET_MASK);
  const outside = blockOffset > MAX_OFFSET ? 'offset-too-large' : undefined;
  return {
    word,
    blockOffset,
    reservedBits: word & REFCOUNT_TABLE_RESERVED_MASK,
    invalid: isClusterAligned(blockOffset, geometry) ? outside : 'unaligned',
  };
}

/** Writes a refcount table entry at byte `pos`; the offset is cluster aligned, at most 2^53 - 1. */
export function writeRefcountTableEntry(
  view: DataView,
  pos: number,
  blockOffset: HostOffset,
): void {
  if (!Number.isSafeInteger(blockOffset) || blockOffset < 0 || blockOffset % 512 !== 0) {
    throw new Qcow2Error(
      'INVALID_ARGUMENT',
      `refcount block offset ${hex(blockOffset)} cannot be stored; must be a multiple of 512 below 2^53`,
      { value: blockOffset },
    );
  }
  writeNumber64(view, pos, blockOffset);
}

/**
 * Reads counter `index` of a refcount block, for small use: blocks are scanned by the kernels.
 * @param order log2 of the counter's width in bits, 0 to 6
 * @throws INVALID_ARGUMENT past the end of the block; TOO_LARGE for a 64-bit counter above 2^53 - 1
 */
export function getRefcount(block: Uint8Array, index: number, order: number): number {
  requireCounter(block, index, order);
  if (order < 3) {
    const { byte, shift, mask } = packed(index, order);
    return ((block[byte] ?? 0) >> shift) & mask;
  }
  const view = viewOf(block);
  if (order === 3) return view.getUint8(index);
  if (order === 4) return view.getUint16(index * 2);
  if (order === 5) return view.getUint32(index * 4);
  return readNumber64(view, index * 8, `refcount block: counter ${index}`);
}

/**
 * Writes counter `index` of a refcount block.
 * @throws INVALID_ARGUMENT past the end of the block, or for a value the width cannot hold
 */
export function setRefcount(block: Uint8Array, index: number, order: number, value: number): void {
  requireCounter(block, index, order);
  if (!Number.isSafeInteger(value) || value < 0 || BigInt(value) > maxRefcount(order)) {
    throw new Qcow2Error(
      'INVALID_ARGUMENT',
      `reference count ${value} cannot be stored; ${2 ** order}-bit counters hold 0 to ${maxRefcount(order)}`,
      { structure: 'refcount block', value },
    );
  }
  const view = viewOf(block);
  if (order < 3) {
    const { byte, shift, mask } = packed(index, order);
    block[byte] = ((block[byte] ?? 0) & ~(mask << shift)) | (value << shift);
  } else if (order === 3) view.setUint8(index, value);
  else if (order === 4) view.setUint16(index * 2, value);
  else if (order === 5) view.setUint32(index * 4, value);
  else writeNumber64(view, index * 8, value);
}

/** Counters narrower than a byte fill it from its least significant bit. */
function packed(index: number, order: number): { byte: number; shift: number; mask: number } {
  const width = 2 ** order;
  const perByte = 8 / width;
  return {
    byte: Math.floor(index / perByte),
    shift: (index % perByte) * width,
    mask: 2 ** width - 1,
  };
}

function requireCounter(block: Uint8Array, index: number, order: number): void {
  const counters = (block.length * 8) / 2 ** order;
  const known = Number.isInteger(order) && order >= 0 && order <= 6;
  if (known && Number.isInteger(index) && index >= 0 && index < Math.floor(counters)) return;
  throw new Qcow2Error(
    'INVALID_ARGUMENT',
    `refcount block of ${block.length} bytes has no counter ${index} of order ${order}`,
    { structure: 'refcount block', value: index },
  );
}
