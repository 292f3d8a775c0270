// What standard and extended L2 entries have in common, and the records both are decoded to.
import {
  INVALID_BITMAP_ON_COMPRESSED,
  INVALID_COMPRESSED_IN_DATA_FILE,
  INVALID_HOST_NOT_GUEST,
  INVALID_PAST_END,
  INVALID_UNALIGNED,
  L2_DATA_FILE,
  RUN_ATTR_COPIED,
  RUN_ATTR_RESERVED,
  RUN_COMPRESSED,
  RUN_INVALID,
  RUN_KIND_BITS,
} from './abi';

// @ts-ignore: decorator
@inline export const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
// @ts-ignore: decorator
@inline export const ZERO_FLAG: u64 = 1;
// @ts-ignore: decorator
@inline export const COMPRESSED_FLAG: u64 = 1 << 62;
// @ts-ignore: decorator
@inline export const COPIED_FLAG: u64 = 1 << 63;
/** Bits 1-8 and 56-61. */
// @ts-ignore: decorator
@inline export const RESERVED_MASK: u64 = 0x3f00_0000_0000_01fe;

/** One past the greatest host offset an entry can name. */
// @ts-ignore: decorator
@inline export const FIELD_LIMIT: u64 = 1 << 56;
/** Offsets from here on have no exact double; they count as past the end of any file. */
// @ts-ignore: decorator
@inline const OFFSET_LIMIT: u64 = 1 << 53;
/** What no entry is equal to: nothing can join the open run. */
// @ts-ignore: decorator
@inline export const NOTHING: u64 = -1;

/** File length as an integer; NaN and negative lengths count as 0. */
// @ts-ignore: decorator
@inline
export function endOfFile(host_size: f64): u64 {
  return min<u64>(<u64>host_size, OFFSET_LIMIT);
}

/** Writes one run record; `meta` is the kind below the attributes or another `aux`. */
// @ts-ignore: decorator
@inline
export function storeMeta(record: usize, meta: u32, first: u32, host: f64): void {
  store<u64>(record, <u64>meta | (<u64>first << 32));
  store<f64>(record, host, 8);
}

/** Writes one run record. */
// @ts-ignore: decorator
@inline
export function storeRun(record: usize, kind: u32, first: u32, aux: u32, host: f64): void {
  storeMeta(record, kind | (aux << RUN_KIND_BITS), first, host);
}

/** Writes where the last run ends. */
// @ts-ignore: decorator
@inline
export function storeEnd(record: usize, unit: u32): void {
  store<u32>(record, unit, 4);
}

/** `RUN_ATTR_*` bits of an entry, within `attributes`. */
// @ts-ignore: decorator
@inline
export function attributesOf(entry: u64, hasHost: u32, attributes: u32): u32 {
  const copied = <u32>(entry >> 63) & hasHost;
  const reserved = u32((entry & RESERVED_MASK) != 0) * RUN_ATTR_RESERVED;
  return (copied * RUN_ATTR_COPIED | reserved) & attributes;
}

/** Bits beside the host offset in which entries of one run must be equal, and their flags. */
// @ts-ignore: decorator
@inline
export function comparedFlags(attributes: u32): u64 {
  const copied = (attributes & RUN_ATTR_COPIED) != 0 ? COPIED_FLAG : 0;
  const reserved = (attributes & RUN_ATTR_RESERVED) != 0 ? RESERVED_MASK : 0;
  return copied | reserved | COMPRESSED_FLAG;
}

/** Entries after one with this host offset that continue it before `limit`, at most `count`. */
// @ts-ignore: decorator
@inline
export function entriesBefore(limit: u64, offset: u64, cluster_bits: u32, count: u64): u64 {
  return min<u64>((limit - 1 - offset) >> cluster_bits, count);
}

/** The `INVALID_*` code of a host offset that breaks a rule shared by all entry formats, or 0. */
export function offsetFault(
  offset: u64,
  guest: u64,
  cluster_bits: u32,
  flags: u32,
  isData: bool,
  end: u64,
): u32 {
  if ((offset & (((<u64>1) << cluster_bits) - 1)) != 0) return INVALID_UNALIGNED;
  if ((flags & L2_DATA_FILE) != 0 && offset != guest) return INVALID_HOST_NOT_GUEST;
  if (isData && offset >= end) return INVALID_PAST_END;
  return 0;
}

/** Writes the record of a compressed entry (format section 8). */
export function storeCompressed(
  record: usize,
  entry: u64,
  bitmap: u64,
  first: u32,
  cluster_bits: u32,
  flags: u32,
  end: u64,
): void {
  const offsetBits: u64 = 70 - cluster_bits;
  const offset = entry & (((<u64>1) << offsetBits) - 1);
  const sectors = <u32>(entry >> offsetBits) & (((<u32>1) << (cluster_bits - 8)) - 1);
  let fault = 0;
  if ((flags & L2_DATA_FILE) != 0) fault = INVALID_COMPRESSED_IN_DATA_FILE;
  else if (bitmap != 0) fault = INVALID_BITMAP_ON_COMPRESSED;
  else if (offset >= end) fault = INVALID_PAST_END;
  if (fault != 0) {
    storeRun(record, RUN_INVALID, first, fault, <f64>offset);
  } else {
    const length = (sectors + 1) * 512 - (<u32>offset & 511);
    storeRun(record, RUN_COMPRESSED, first, length, <f64>offset);
  }
}
