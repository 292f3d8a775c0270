import {
  type CompressedDescriptor,
  decodeCompressedDescriptor,
  isDescriptorInRange,
} from './compressed-descriptor.ts';
import { type BitTable, bitMask, reservedMask } from './fields.ts';
import { type Geometry, type GuestOffset, type HostOffset, isClusterAligned } from './geometry.ts';
import { requireEntryOffset, writeOffsetWord } from './l1-entry.ts';

/** Bit fields of a standard L2 entry (format section 7). */
export const L2_BITS = {
  zero: [0, 0],
  hostOffset: [9, 55],
  compressed: [62, 62],
  copied: [63, 63],
} as const satisfies BitTable;

const { zero: _, ...EXTENDED_BITS } = L2_BITS;

/** Bit 0: reads as zeros; standard entries of version 3 only. */
export const L2_ZERO = bitMask(L2_BITS.zero);
/** Bits that hold the host cluster's offset. */
export const L2_OFFSET_MASK = bitMask(L2_BITS.hostOffset);
/** Bit 62: the other bits are a compressed descriptor. */
export const L2_COMPRESSED = bitMask(L2_BITS.compressed);
/** Bit 63: the cluster's counter is 1. To be believed below the active L1 table only. */
export const L2_COPIED = bitMask(L2_BITS.copied);
/** Bits of an uncompressed entry `check` reports when set; reading ignores them. */
export const L2_RESERVED_MASK = reservedMask(L2_BITS);
/** The same in extended entries: bit 0 as well, though QEMU's check does not report that one. */
export const L2_EXTENDED_RESERVED_MASK = reservedMask(EXTENDED_BITS);

/** What decoding an entry depends on besides its bits. */
export interface L2Context {
  readonly geometry: Geometry;
  readonly version: 2 | 3;
  /** True if guest clusters are in an external data file. */
  readonly dataFile: boolean;
  /** Guest offset the entry maps: with a data file, the host offset must equal it. */
  readonly guestOffset?: GuestOffset;
}

/** The rule an entry breaks: accessing it is an error (BAD_ENTRY). */
export type L2Invalid =
  | 'unaligned'
  | 'zero-in-v2'
  | 'compressed-in-data-file'
  | 'host-not-guest'
  /** A compressed offset of 2^53 or more. */
  | 'offset-too-large'
  | 'alloc-and-zero'
  | 'alloc-without-offset'
  | 'bitmap-on-compressed';

interface EntryBase {
  readonly word: bigint;
  /** Bit 63, whatever it is worth for the kind. */
  readonly copied: boolean;
  /** The reserved bits that are set, in place; of compressed entries none. */
  readonly reservedBits: bigint;
  readonly invalid: L2Invalid | undefined;
}

/** One standard L2 entry, decoded for inspection. `kind` holds even if `invalid` is set. */
export type L2Entry = EntryBase &
  (
    | { readonly kind: 'unallocated' | 'zero-plain' }
    | { readonly kind: 'normal' | 'zero-allocated'; readonly hostOffset: HostOffset }
    | ({ readonly kind: 'compressed' } & CompressedDescriptor)
  );

/** Decodes a standard entry. Never throws: what is wrong is in `invalid` and `reservedBits`. */
export function decodeL2Entry(word: bigint, context: L2Context): L2Entry {
  const copied = (word & L2_COPIED) !== 0n;
  if ((word & L2_COMPRESSED) !== 0n) return decodeCompressed(word, context);
  const hostOffset = Number(word & L2_OFFSET_MASK);
  const zero = (word & L2_ZERO) !== 0n;
  const allocated = hostOffset !== 0 || (!zero && copied && context.dataFile);
  const invalid =
    zero && context.version === 2 ? 'zero-in-v2' : offsetRule(hostOffset, allocated, context);
  const base = { word, copied, reservedBits: word & L2_RESERVED_MASK, invalid };
  if (allocated) return { ...base, kind: zero ? 'zero-allocated' : 'normal', hostOffset };
  return { ...base, kind: zero ? 'zero-plain' : 'unallocated' };
}

function decodeCompressed(
  word: bigint,
  { geometry, dataFile }: L2Context,
): EntryBase & { kind: 'compressed' } & CompressedDescriptor {
  const descriptor = decodeCompressedDescriptor(word, geometry);
  const outside = isDescriptorInRange(descriptor) ? undefined : 'offset-too-large';
  const invalid = dataFile ? 'compressed-in-data-file' : outside;
  const copied = (word & L2_COPIED) !== 0n;
  return { word, copied, reservedBits: 0n, invalid, kind: 'compressed', ...descriptor };
}

function offsetRule(
  hostOffset: HostOffset,
  allocated: boolean,
  { geometry, dataFile, guestOffset }: L2Context,
): L2Invalid | undefined {
  if (!isClusterAligned(hostOffset, geometry)) return 'unaligned';
  if (
    allocated &&
    dataFile &&
    guestOffset !== undefined &&
    (hostOffset as number) !== guestOffset
  ) {
    return 'host-not-guest';
  }
  return undefined;
}

/** One extended L2 entry, decoded for inspection (format section 9). */
export type ExtendedL2Entry = EntryBase & {
  /** The second word: allocation bits, zero bits. */
  readonly bitmap: bigint;
  /** Bit k: subcluster k is allocated. */
  readonly allocBits: number;
  /** Bit k: subcluster k reads as zeros. */
  readonly zeroBits: number;
} & (
    | { readonly kind: 'unallocated' }
    | { readonly kind: 'allocated'; readonly hostOffset: HostOffset }
    | ({ readonly kind: 'compressed' } & CompressedDescriptor)
  );

/** Decodes an extended entry. Never throws: what is wrong is in `invalid` and `reservedBits`. */
export function decodeExtendedL2Entry(
  word: bigint,
  bitmap: bigint,
  context: L2Context,
): ExtendedL2Entry {
  const allocBits = Number(bitmap & 0xffffffffn);
  const zeroBits = Number(bitmap >> 32n);
  const bits = { bitmap, allocBits, zeroBits };
  if ((word & L2_COMPRESSED) !== 0n) {
    const entry = decodeCompressed(word, context);
    const invalid = entry.invalid ?? (bitmap !== 0n ? 'bitmap-on-compressed' : undefined);
    return { ...entry, ...bits, invalid };
  }
  const hostOffset = Number(word & L2_OFFSET_MASK);
  const copied = (word & L2_COPIED) !== 0n;
  const allocated = hostOffset !== 0 || (copied && context.dataFile);
  const invalid =
    offsetRule(hostOffset, allocated, context) ?? bitmapRule(allocated, allocBits, zeroBits);
  const reservedBits = word & L2_EXTENDED_RESERVED_MASK;
  const base = { word, copied, reservedBits, invalid, ...bits };
  return allocated ? { ...base, kind: 'allocated', hostOffset } : { ...base, kind: 'unallocated' };
}

function bitmapRule(
  allocated: boolean,
  allocBits: number,
  zeroBits: number,
): L2Invalid | undefined {
  if (!allocated) return allocBits !== 0 ? 'alloc-without-offset' : undefined;
  return (allocBits & zeroBits) !== 0 ? 'alloc-and-zero' : undefined;
}

/** State of one subcluster of an entry that is valid and not compressed. */
export type SubclusterState =
  | 'normal'
  | 'zero-allocated'
  | 'zero-plain'
  /** No data here, but a host cluster is reserved: read from below. */
  | 'unallocated-in-cluster'
  | 'unallocated';

/** State of subcluster `index`, 0 to 31. A compressed entry has no subclusters: 'unallocated'. */
export function subclusterState(entry: ExtendedL2Entry, index: number): SubclusterState {
  const allocated = entry.kind === 'allocated';
  if (allocated && ((entry.allocBits >>> index) & 1) === 1) return 'normal';
  if (((entry.zeroBits >>> index) & 1) === 1) return allocated ? 'zero-allocated' : 'zero-plain';
  return allocated ? 'unallocated-in-cluster' : 'unallocated';
}

/** The word of a normal entry. @throws INVALID_ARGUMENT for an offset an entry cannot hold */
export function encodeL2Normal(hostOffset: HostOffset, copied: boolean): bigint {
  requireEntryOffset(hostOffset);
  return BigInt(hostOffset) | (copied ? L2_COPIED : 0n);
}

/** The word of a zero entry that keeps its host cluster. @throws INVALID_ARGUMENT, as above */
export function encodeL2ZeroAllocated(hostOffset: HostOffset, copied: boolean): bigint {
  return encodeL2Normal(hostOffset, copied) | L2_ZERO;
}

/** The bitmap word of an extended entry. */
export function encodeSubclusterBitmap(allocBits: number, zeroBits: number): bigint {
  return (BigInt(zeroBits >>> 0) << 32n) | BigInt(allocBits >>> 0);
}

/** Writes a normal entry (of an extended one, its first word) at byte `pos`. */
export function writeL2Normal(
  view: DataView,
  pos: number,
  hostOffset: HostOffset,
  copied: boolean,
): void {
  requireEntryOffset(hostOffset);
  writeOffsetWord(view, pos, hostOffset, copied);
}

/** Writes a standard entry that reads as zeros and keeps its host cluster. */
export function writeL2ZeroAllocated(
  view: DataView,
  pos: number,
  hostOffset: HostOffset,
  copied: boolean,
): void {
  requireEntryOffset(hostOffset);
  writeOffsetWord(view, pos, hostOffset, copied, 1);
}

/** Writes a standard entry that reads as zeros and has no host cluster (version 3). */
export function writeL2ZeroPlain(view: DataView, pos: number): void {
  writeOffsetWord(view, pos, 0, false, 1);
}

/** Writes an entry (of an extended one, its first word) without host cluster. */
export function writeL2Unallocated(view: DataView, pos: number): void {
  writeOffsetWord(view, pos, 0, false);
}

/** Writes the bitmap of the extended entry that begins at byte `pos`. */
export function writeSubclusterBitmap(
  view: DataView,
  pos: number,
  allocBits: number,
  zeroBits: number,
): void {
  view.setUint32(pos + 8, zeroBits);
  view.setUint32(pos + 12, allocBits);
}
