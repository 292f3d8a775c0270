// Standard L2 entries to runs (format sections 7, 8, 11).
import {
  INVALID_BITMAP_ON_COMPRESSED,
  INVALID_COMPRESSED_IN_DATA_FILE,
  INVALID_HOST_NOT_GUEST,
  INVALID_PAST_END,
  INVALID_UNALIGNED,
  INVALID_ZERO_IN_V2,
  L2_DATA_FILE,
  L2_VERSION_2,
  RUN_ATTR_COPIED,
  RUN_ATTR_RESERVED,
  RUN_BYTES,
  RUN_COMPRESSED,
  RUN_INVALID,
  RUN_ZERO_ALLOCATED,
} from './abi';
import { loadBE64, swapLanes64 } from './bytes';

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

/** Offsets from here on have no exact double; they count as past the end of any file. */
// @ts-ignore: decorator
@inline const OFFSET_LIMIT: u64 = 1 << 53;
/** One past the greatest host offset an entry can name. */
// @ts-ignore: decorator
@inline const FIELD_LIMIT: u64 = 1 << 56;
/** Entries compared at a time with the continuation of the open run. */
// @ts-ignore: decorator
@inline const GROUP: u32 = 8;
/** Continuation of a record that nothing can join. */
// @ts-ignore: decorator
@inline const NOTHING: u64 = -1;

/** Where the record that an entry would start goes when the caller's room is used up. */
const SPARE_RECORD = memory.data(RUN_BYTES, 16);

/** File length as an integer; NaN and negative lengths count as 0. */
// @ts-ignore: decorator
@inline
export function endOfFile(host_size: f64): u64 {
  return min<u64>(<u64>host_size, OFFSET_LIMIT);
}

/** Writes one run record. */
// @ts-ignore: decorator
@inline
export function storeRun(record: usize, kind: u32, first: u32, units: u32, aux: u32, host: f64): void {
  store<u64>(record, <u64>kind | (<u64>first << 32));
  store<u64>(record, <u64>units | (<u64>aux << 32), 8);
  store<f64>(record, host, 16);
}

/** `RUN_ATTR_*` bits of an entry, within `attributes`. */
// @ts-ignore: decorator
@inline
export function attributesOf(entry: u64, hasHost: u32, attributes: u32): u32 {
  const copied = <u32>(entry >> 63) & hasHost;
  const reserved = u32((entry & RESERVED_MASK) != 0) * RUN_ATTR_RESERVED;
  return (copied * RUN_ATTR_COPIED | reserved) & attributes;
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
  units: u32,
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
    storeRun(record, RUN_INVALID, first, units, fault, <f64>offset);
  } else {
    const length = (sectors + 1) * 512 - (<u32>offset & 511);
    storeRun(record, RUN_COMPRESSED, first, units, length, <f64>offset);
  }
}

/**
 * The careful path, for one entry that may be compressed, against a rule, in a data file or with
 * reserved bits: writes the record it would start, and returns its word (see `l2_decode`).
 */
function storeCareful(
  record: usize,
  entry: u64,
  index: u32,
  guest: u64,
  cluster_bits: u32,
  flags: u32,
  attributes: u32,
  end: u64,
): u64 {
  if ((entry & COMPRESSED_FLAG) != 0) {
    storeCompressed(record, entry, 0, index, 1, cluster_bits, flags, end);
    return NOTHING;
  }
  const host = entry & OFFSET_MASK;
  const zero = <u32>entry & 1;
  const isAtZero = u32((flags & L2_DATA_FILE) != 0) & <u32>(entry >> 63) & (zero ^ 1);
  const hasHost = u32(host != 0) | isAtZero;
  let fault: u32 = 0;
  if ((zero & flags & L2_VERSION_2) != 0) fault = INVALID_ZERO_IN_V2;
  else if (hasHost) fault = offsetFault(host, guest, cluster_bits, flags, !zero, end);
  if (fault != 0) {
    storeRun(record, RUN_INVALID, index, 1, fault, <f64>host);
    return NOTHING;
  }
  const aux = attributesOf(entry, hasHost, attributes);
  storeRun(record, (hasHost << 1) | (hasHost ^ zero), index, 1, aux, <f64>(<i64>host));
  const copied = <u64>(aux & RUN_ATTR_COPIED) << 63;
  const reserved = <u64>(aux & RUN_ATTR_RESERVED);
  return host | copied | reserved | <u64>zero;
}

/** Fills in the lengths: a run ends where the next one, or the decoding, does. */
function storeUnits(out: usize, behind: usize, stop: u32): void {
  for (let record = out; record < behind; record += RUN_BYTES) {
    const next = record + RUN_BYTES < behind ? load<u32>(record, RUN_BYTES + 4) : stop;
    store<u32>(record, next - load<u32>(record, 4), 8);
  }
}

/** Whether the `GROUP` entries at `p`, masked by `keep`, are `last + stride`, `last + 2 stride`, ... */
// @ts-ignore: decorator
@inline
function continues(p: usize, last: u64, stride: u64, keep: u64): bool {
  if (ASC_FEATURE_SIMD) {
    const mask = i64x2.splat(keep);
    const step = i64x2.splat(stride << 1);
    const a = i64x2.replace_lane(i64x2.splat(last + stride), 1, last + (stride << 1));
    const b = i64x2.add(a, step);
    const c = i64x2.add(b, step);
    const d = i64x2.add(c, step);
    const w = v128.xor(v128.and(swapLanes64(v128.load(p)), mask), a);
    const x = v128.xor(v128.and(swapLanes64(v128.load(p, 16)), mask), b);
    const y = v128.xor(v128.and(swapLanes64(v128.load(p, 32)), mask), c);
    const z = v128.xor(v128.and(swapLanes64(v128.load(p, 48)), mask), d);
    return !v128.any_true(v128.or(v128.or(w, x), v128.or(y, z)));
  }
  for (let i: u32 = 0; i < GROUP; i++) {
    last += stride;
    if ((loadBE64(p + (i << 3)) & keep) != last) return false;
  }
  return true;
}

/**
 * Every entry has a word: host offset, zero flag, and bits 63 and 1 for the attributes that separate
 * runs. An entry joins the open run exactly when its word is the last one plus the stride, so that
 * most entries need no branch: the record an entry would start is always written, and kept or not.
 */
export function l2_decode(
  table: usize,
  first: u32,
  count: u32,
  cluster_bits: u32,
  flags: u32,
  attributes: u32,
  guest_base: f64,
  host_size: f64,
  out: usize,
  capacity: u32,
): u32 {
  const cluster: u64 = (<u64>1) << cluster_bits;
  const end = endOfFile(host_size);
  const isDataFile = (flags & L2_DATA_FILE) != 0;
  let keep = OFFSET_MASK | ZERO_FLAG;
  if ((attributes & RUN_ATTR_COPIED) != 0) keep |= COPIED_FLAG;
  // Bits in which entries that continue a run in a group must be as expected.
  let compared = keep | COMPRESSED_FLAG;
  if ((attributes & RUN_ATTR_RESERVED) != 0) compared |= RESERVED_MASK;
  // Bits that send an entry to the careful path.
  let careful = (compared ^ keep) | ((cluster - 1) & OFFSET_MASK);
  if ((flags & L2_VERSION_2) != 0) careful |= ZERO_FLAG;
  if (isDataFile) careful = -1;

  const base = <u64>guest_base;
  let p = table + (<usize>first << 3);
  let i = first;
  const stop = first + count;
  // Behind the open record: where the next entry writes the one it would start.
  let record = out;
  const recordEnd = out + <usize>capacity * RUN_BYTES;
  let last: u64 = 0;
  let stride: u64 = 0;
  let expected = NOTHING;

  while (i < stop) {
    // In a group only the last offset is checked against the end. With a data file, offset 0 may be
    // data, which the careful path tells.
    if (stop - i >= GROUP && expected != NOTHING && (stride != 0 || !isDataFile)) {
      const limit = (last & ZERO_FLAG) != 0 || stride == 0 ? FIELD_LIMIT : end;
      const isInside = (last & OFFSET_MASK) + stride * GROUP < limit;
      if (isInside && continues(p, last, stride, compared)) {
        i += GROUP;
        p += GROUP << 3;
        last += stride * GROUP;
        expected = last + stride;
        continue;
      }
    }
    const groupEnd = i + min<u32>(GROUP, stop - i);
    for (; i < groupEnd; i++) {
      const entry = loadBE64(p);
      const host = entry & OFFSET_MASK;
      const hasHost = u64(host != 0);
      const zero = entry & ZERO_FLAG;
      const word = entry & keep & (ZERO_FLAG | (0 - hasHost));
      const isFull = record == recordEnd;
      const slot = isFull ? SPARE_RECORD : record;
      let joins: bool;
      if ((entry & careful) == 0 && host < end) {
        store<u64>(slot, (zero ^ (3 & (0 - hasHost))) | (<u64>i << 32));
        store<u32>(slot, <u32>(word >> 63), 12);
        store<f64>(slot, <f64>(<i64>host), 16);
        joins = word == expected;
        last = word;
        stride = cluster & (0 - hasHost);
      } else {
        const guest = base + (<u64>(i - first) << cluster_bits);
        last = storeCareful(slot, entry, i, guest, cluster_bits, flags, attributes, end);
        joins = last == expected && last != NOTHING;
        stride = load<u32>(slot) >= <u32>RUN_ZERO_ALLOCATED ? cluster : 0;
      }
      if (isFull && !joins) {
        storeUnits(out, record, i);
        return capacity;
      }
      record += <usize>RUN_BYTES & (<usize>joins - 1);
      expected = last == NOTHING ? NOTHING : last + stride;
      p += 8;
    }
  }
  storeUnits(out, record, i);
  return <u32>((record - out) / RUN_BYTES);
}
