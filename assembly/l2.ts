// Standard L2 entries to runs (format sections 7, 8, 11).
//
// Every entry has a word: host offset, zero flag, and bits 63 and 1 for the attributes that separate
// runs. An entry joins the open run exactly when its word is the last one plus the stride (a cluster,
// or 0 without a host). So there is no branch for it: the record an entry would start is always
// written behind the last one, and kept or written over.
import {
  INVALID_ZERO_IN_V2,
  L2_DATA_FILE,
  L2_VERSION_2,
  RUN_ATTR_COPIED,
  RUN_ATTR_RESERVED,
  RUN_BYTES,
  RUN_INVALID,
  RUN_KIND_BITS,
} from './abi';
import { loadBE64, swapLanes64 } from './bytes';
import {
  attributesOf,
  comparedFlags,
  COMPRESSED_FLAG,
  COPIED_FLAG,
  endOfFile,
  entriesBefore,
  FIELD_LIMIT,
  NOTHING,
  OFFSET_MASK,
  offsetFault,
  storeCompressed,
  storeEnd,
  storeMeta,
  storeRun,
  ZERO_FLAG,
} from './l2-entry';

/** Entries that the vector code takes at a time. */
// @ts-ignore: decorator
@inline const FOUR: usize = 4 << 3;
/** Entries taken one at a time before a faster way is tried again. */
// @ts-ignore: decorator
@inline const EIGHT: usize = 8 << 3;
/** Host offsets from here on are left to the careful path: a double's mantissa does not hold them. */
// @ts-ignore: decorator
@inline const VECTOR_LIMIT: u64 = 1 << 52;

/**
 * Vectors of the loop in `decodeFours`. Engines would make constants anew in each turn; what was
 * loaded before the loop stays in registers. The last four depend on the arguments.
 */
const VECTORS = memory.data<u64>(
  [
    0x00ff_ffff_ffff_fe00, 0x00ff_ffff_ffff_fe00, // OFFSET_MASK
    1, 1, // ZERO_FLAG
    0x4330_0000_0000_0000, 0x4330_0000_0000_0000, // 2^52 as a double
    0x0002_0000_0000, 0x0002_0000_0000, // two entries on
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
  ],
  16,
);

// The decoding under way: what the arguments make of the rules ...
let clusterBits: u32 = 0;
let end: u64 = 0;
/** Bits of an entry that are its word, where it has a host. */
let kept: u64 = 0;
/** Bits in which entries that continue the open run must be as expected. */
let compared: u64 = 0;
/** Bits that send an entry to the careful path. */
let careful: u64 = 0;
// ... and how far it has come.
/** Behind the open run: where the next entry writes the record it would start. */
let record: usize = 0;
/** Behind the room for records; one more is written, for the end. */
let full: usize = 0;
/** The word that joins the open run. */
let expected: u64 = 0;
/** A bit for each of the last entries, 0 if it joined. */
let starts: u32 = 0;

/** How much words of the open run grow from entry to entry. */
// @ts-ignore: decorator
@inline
function strideOf(next: u64): u64 {
  return (next & (OFFSET_MASK | FIELD_LIMIT)) != 0 ? (<u64>1) << clusterBits : 0;
}

/**
 * Entries from `p` on, of those before `stop`, that continue the open run; returns where they end.
 * Only the last offset is checked against the end of the file. Vectors take whole groups of eight.
 */
function skipRun(p: usize, stop: usize): usize {
  const begin = p;
  const stride = strideOf(expected);
  let mask = compared;
  let entries = <u64>(stop - p) >> 3;
  if (stride != 0) {
    const last = expected - stride;
    const limit = (last & ZERO_FLAG) != 0 ? FIELD_LIMIT : end;
    entries = entriesBefore(limit, last & OFFSET_MASK, clusterBits, entries);
  } else {
    // In a data file bit 63 makes an entry without an offset a cluster at 0.
    mask |= COPIED_FLAG;
  }
  if (ASC_FEATURE_SIMD) {
    const bits = i64x2.splat(mask);
    const pair = i64x2.splat(stride << 1);
    const group = i64x2.splat(stride << 3);
    let a = i64x2.replace_lane(i64x2.splat(expected), 1, expected + stride);
    let b = i64x2.add(a, pair);
    let c = i64x2.add(b, pair);
    let d = i64x2.add(c, pair);
    for (const last = p + (<usize>(entries & ~7) << 3); p < last; p += EIGHT) {
      const w = v128.xor(v128.and(swapLanes64(v128.load(p)), bits), a);
      const x = v128.xor(v128.and(swapLanes64(v128.load(p, 16)), bits), b);
      const y = v128.xor(v128.and(swapLanes64(v128.load(p, 32)), bits), c);
      const z = v128.xor(v128.and(swapLanes64(v128.load(p, 48)), bits), d);
      if (v128.any_true(v128.or(v128.or(w, x), v128.or(y, z)))) break;
      a = i64x2.add(a, group);
      b = i64x2.add(b, group);
      c = i64x2.add(c, group);
      d = i64x2.add(d, group);
    }
  } else {
    let next = expected;
    for (const last = p + (<usize>entries << 3); p < last; p += 8) {
      if ((loadBE64(p) & mask) != next) break;
      next += stride;
    }
  }
  expected += stride * (<u64>(p - begin) >> 3);
  return p;
}

/** First halves of the records of two entries: kind, attributes and index. */
// @ts-ignore: decorator
@inline
function metaOf(zero: v128, hasHost: v128, word: v128, index: v128): v128 {
  // With a host 3 or, if zero, 2; without one 0 or 1.
  const kind = v128.xor(zero, i64x2.shr_u(hasHost, 62));
  const copied = i64x2.shl(i64x2.shr_u(word, 63), RUN_KIND_BITS);
  return v128.or(v128.or(kind, copied), index);
}

/**
 * Entries from `p` on, four at a time, until one of them is for the careful path or there may be no
 * room; returns where it stopped. `index` is the number of the first.
 */
function decodeFours(p: usize, stop: usize, index: u64): usize {
  const offsets = v128.load(VECTORS);
  const zeroFlag = v128.load(VECTORS, 16);
  const mantissa = v128.load(VECTORS, 32);
  const twoOn = v128.load(VECTORS, 48);
  const greatest = v128.load(VECTORS, 64);
  const faulty = v128.load(VECTORS, 80);
  const always = v128.load(VECTORS, 96);
  const withHost = v128.load(VECTORS, 112);
  const cluster = v128.load(VECTORS, 128);
  let next = i64x2.splat(expected);
  let at = i64x2.replace_lane(i64x2.splat(index << 32), 1, (index + 1) << 32);
  let to = record;
  let starting = starts;
  // Each entry may need a record.
  for (const last = p + (min<usize>(stop - p, (full - to) >> 1) & ~(FOUR - 1)); p < last; ) {
    const e = swapLanes64(v128.load(p));
    const f = swapLanes64(v128.load(p, 16));
    const eHost = v128.and(e, offsets);
    const fHost = v128.and(f, offsets);
    const past = v128.or(i64x2.gt_s(eHost, greatest), i64x2.gt_s(fHost, greatest));
    if (v128.any_true(v128.or(v128.and(v128.or(e, f), faulty), past))) break;
    const eHas = i64x2.gt_s(eHost, i64x2.splat(0));
    const fHas = i64x2.gt_s(fHost, i64x2.splat(0));
    const eWord = v128.and(e, v128.or(v128.and(eHas, withHost), always));
    const fWord = v128.and(f, v128.or(v128.and(fHas, withHost), always));
    const eNext = i64x2.add(eWord, v128.and(eHas, cluster));
    const fNext = i64x2.add(fWord, v128.and(fHas, cluster));
    const eJoins = i64x2.eq(eWord, v128.shuffle<u64>(next, eNext, 1, 2));
    const fJoins = i64x2.eq(fWord, v128.shuffle<u64>(eNext, fNext, 1, 2));
    next = fNext;
    const fresh = i32x4.bitmask(v128.shuffle<u32>(eJoins, fJoins, 0, 2, 4, 6)) ^ 15;

    const eMeta = metaOf(v128.and(e, zeroFlag), eHas, eWord, at);
    const ePlace = f64x2.sub(v128.or(eHost, mantissa), mantissa);
    v128.store(to, v128.shuffle<u64>(eMeta, ePlace, 0, 2));
    to += (fresh << 4) & RUN_BYTES;
    v128.store(to, v128.shuffle<u64>(eMeta, ePlace, 1, 3));
    to += (fresh << 3) & RUN_BYTES;
    at = i64x2.add(at, twoOn);
    const fMeta = metaOf(v128.and(f, zeroFlag), fHas, fWord, at);
    const fPlace = f64x2.sub(v128.or(fHost, mantissa), mantissa);
    v128.store(to, v128.shuffle<u64>(fMeta, fPlace, 0, 2));
    to += (fresh << 2) & RUN_BYTES;
    v128.store(to, v128.shuffle<u64>(fMeta, fPlace, 1, 3));
    to += (fresh << 1) & RUN_BYTES;
    at = i64x2.add(at, twoOn);
    p += FOUR;

    starting = (starting << 4) | fresh;
    if (<u8>starting == 0) {
      expected = i64x2.extract_lane(next, 1);
      const from = p;
      p = skipRun(p, last);
      next = i64x2.splat(expected);
      at = i64x2.add(at, i64x2.splat((<u64>(p - from) >> 3) << 32));
      starting = -1;
    }
  }
  expected = i64x2.extract_lane(next, 1);
  record = to;
  starts = starting;
  return p;
}

/**
 * The careful path, for one entry that may be compressed, against a rule, in a data file or with
 * reserved bits: writes the record it would start, and returns its word.
 */
function storeCareful(entry: u64, index: u32, guest: u64, flags: u32, attributes: u32): u64 {
  if ((entry & COMPRESSED_FLAG) != 0) {
    storeCompressed(record, entry, 0, index, clusterBits, flags, end);
    return NOTHING;
  }
  const host = entry & OFFSET_MASK;
  const zero = <u32>entry & 1;
  const isAtZero = u32((flags & L2_DATA_FILE) != 0) & <u32>(entry >> 63) & (zero ^ 1);
  const hasHost = u32(host != 0) | isAtZero;
  let fault: u32 = 0;
  if ((zero & flags & L2_VERSION_2) != 0) fault = INVALID_ZERO_IN_V2;
  else if (hasHost) fault = offsetFault(host, guest, clusterBits, flags, !zero, end);
  if (fault != 0) {
    storeRun(record, RUN_INVALID, index, fault, <f64>host);
    return NOTHING;
  }
  const aux = attributesOf(entry, hasHost, attributes);
  storeRun(record, (hasHost << 1) | (hasHost ^ zero), index, aux, <f64>(<i64>host));
  const copied = <u64>(aux & RUN_ATTR_COPIED) << 63;
  const reserved = <u64>(aux & RUN_ATTR_RESERVED);
  return host | copied | reserved | <u64>zero;
}

/**
 * Entries from `p` on, one at a time; returns where it stopped, before `stop` only where a record had
 * no room. `index` is the number of the first, `guest` its offset.
 */
function decodeEntries(
  p: usize,
  stop: usize,
  index: u32,
  guest: u64,
  flags: u32,
  attributes: u32,
): usize {
  const begin = p;
  while (p < stop) {
    const entry = loadBE64(p);
    const number = <u32>(p - begin) >> 3;
    const host = entry & OFFSET_MASK;
    let word: u64;
    let hasHost: bool;
    if ((entry & careful) == 0 && host < end) {
      hasHost = host != 0;
      word = entry & (hasHost ? kept : ZERO_FLAG);
      const kind = <u32>(entry & ZERO_FLAG) ^ (hasHost ? 3 : 0);
      const meta = kind | (<u32>(word >> 63) << RUN_KIND_BITS);
      storeMeta(record, meta, index + number, <f64>(<i64>host));
    } else {
      const place = guest + (<u64>number << clusterBits);
      word = storeCareful(entry, index + number, place, flags, attributes);
      hasHost = (load<u32>(record) & 2) != 0;
    }
    const joins = word == expected && word != NOTHING;
    if (!joins && record == full) return p;
    record += joins ? 0 : RUN_BYTES;
    starts = (starts << 1) | u32(!joins);
    expected = word == NOTHING ? NOTHING : word + (hasHost ? (<u64>1) << clusterBits : 0);
    p += 8;
  }
  return p;
}

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
  clusterBits = cluster_bits;
  end = endOfFile(host_size);
  const differing = comparedFlags(attributes);
  kept = OFFSET_MASK | ZERO_FLAG | (differing & COPIED_FLAG);
  compared = differing | OFFSET_MASK | ZERO_FLAG;
  careful = (differing & ~COPIED_FLAG) | ((cluster - 1) & OFFSET_MASK);
  if ((flags & L2_VERSION_2) != 0) careful |= ZERO_FLAG;
  if ((flags & L2_DATA_FILE) != 0) careful = -1;
  record = out;
  full = out + <usize>capacity * RUN_BYTES;
  expected = NOTHING;
  starts = -1;
  if (ASC_FEATURE_SIMD) {
    v128.store(VECTORS, i64x2.splat(min<u64>(end, VECTOR_LIMIT) - 1), 64);
    v128.store(VECTORS, i64x2.splat(careful), 80);
    v128.store(VECTORS, i64x2.splat(OFFSET_MASK | ZERO_FLAG), 96);
    v128.store(VECTORS, i64x2.splat(differing & COPIED_FLAG), 112);
    v128.store(VECTORS, i64x2.splat(cluster), 128);
  }

  const start = table + (<usize>first << 3);
  const stop = start + (<usize>count << 3);
  const base = <u64>guest_base;
  let p = start;
  while (p < stop) {
    if (ASC_FEATURE_SIMD) p = decodeFours(p, stop, first + (<u32>(p - start) >> 3));
    const done = <u32>(p - start) >> 3;
    const last = min<usize>(p + EIGHT, stop);
    p = decodeEntries(p, last, first + done, base + (<u64>done << cluster_bits), flags, attributes);
    if (p < last) break;
    if ((starts & 0xff) == 0) p = skipRun(p, stop);
  }
  storeEnd(record, first + (<u32>(p - start) >> 3));
  return <u32>((record - out) / RUN_BYTES);
}
