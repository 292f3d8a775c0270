// Extended L2 entries to runs of subclusters (format section 9).
import {
  INVALID_ALLOC_AND_ZERO,
  INVALID_ALLOC_WITHOUT_OFFSET,
  L2_DATA_FILE,
  RUN_ATTR_COPIED,
  RUN_ATTR_RESERVED,
  RUN_BYTES,
  RUN_DATA,
  RUN_INVALID,
  RUN_KIND_BITS,
  RUN_UNALLOCATED,
  RUN_UNALLOCATED_SUBCLUSTER,
  RUN_ZERO_ALLOCATED,
  RUN_ZERO_PLAIN,
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
} from './l2-entry';

// @ts-ignore: decorator
@inline const SUBCLUSTERS: u32 = 32;

/** Kinds of subclusters, four bits each, by allocation bit + 2 zero bit + 4 if there is a host. */
// @ts-ignore: decorator
@inline const KINDS: u32 =
  RUN_UNALLOCATED |
  (RUN_ZERO_PLAIN << 8) |
  (RUN_UNALLOCATED_SUBCLUSTER << 16) |
  (RUN_DATA << 20) |
  (RUN_ZERO_ALLOCATED << 24);

/** `kinds` is `KINDS`, from those with a host on or from the start. */
// @ts-ignore: decorator
@inline
function kindOf(kinds: u32, alloc: u32, zero: u32, k: u32): u32 {
  const bits = ((alloc >> k) & 1) | (((zero >> k) & 1) << 1);
  return (kinds >> (bits << 2)) & 7;
}

/** The `INVALID_*` code that poisons a whole cluster which is not compressed, or 0. */
function clusterFault(
  offset: u64,
  alloc: u32,
  zero: u32,
  hasHost: u32,
  guest: u64,
  cluster_bits: u32,
  flags: u32,
  end: u64,
): u32 {
  if (!hasHost) return alloc != 0 ? INVALID_ALLOC_WITHOUT_OFFSET : 0;
  if ((alloc & zero) != 0) return INVALID_ALLOC_AND_ZERO;
  return offsetFault(offset, guest, cluster_bits, flags, alloc != 0, end);
}

/**
 * How many of `count` entries at `p` continue the cluster before them, which is `entry` in the bits of
 * `compared` and in whose bitmap all subclusters are alike.
 */
// @ts-ignore: decorator
@inline
function skipClusters(
  p: usize,
  count: u64,
  entry: u64,
  bitmap: u64,
  stride: u64,
  compared: u64,
): u32 {
  const begin = p;
  const last = p + (<usize>count << 4);
  if (ASC_FEATURE_SIMD) {
    const mask = i64x2.replace_lane(i64x2.splat(-1), 0, compared);
    const step = i64x2.replace_lane(i64x2.splat(0), 0, stride);
    let next = i64x2.replace_lane(i64x2.splat(bitmap), 0, entry + stride);
    for (; p < last; p += 16) {
      const both = v128.and(swapLanes64(v128.load(p)), mask);
      if (v128.any_true(v128.xor(both, next))) break;
      next = i64x2.add(next, step);
    }
  } else {
    let next = entry + stride;
    const packed = bswap<u64>(bitmap);
    for (; p < last && load<u64>(p, 8) == packed; p += 16) {
      if ((loadBE64(p) & compared) != next) break;
      next += stride;
    }
  }
  return <u32>(p - begin) >> 4;
}

export function l2_decode_extended(
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
  const isDataFile = u32((flags & L2_DATA_FILE) != 0);
  const compared = comparedFlags(attributes) | OFFSET_MASK;
  const careful = isDataFile ? -1 : COMPRESSED_FLAG | ((cluster - 1) & OFFSET_MASK);
  const start = table + (<usize>first << 4);
  const base = <u64>guest_base;
  const full = out + <usize>capacity * RUN_BYTES;
  let record = out;
  // Offset, kind and attributes of a first subcluster that continues the open run.
  let expected = NOTHING;
  let i: u32 = 0;

  // A cluster is never split: the caller resumes at whole entries.
  while (i < count && full - record >= SUBCLUSTERS * RUN_BYTES) {
    const p = start + (<usize>i << 4);
    const entry = loadBE64(p);
    const bitmap = loadBE64(p + 8);
    const unit = (first + i) * SUBCLUSTERS;
    const offset = entry & OFFSET_MASK;
    const alloc = <u32>bitmap;
    const zero = <u32>(bitmap >> 32);
    let hasHost = u32(offset != 0);
    i++;
    const doubtful = (entry & careful) | <u64>(alloc & zero) | <u64>(hasHost ? 0 : alloc);
    if (doubtful != 0 || offset >= end) {
      hasHost |= isDataFile & <u32>(entry >> 63);
      const isCompressed = (entry & COMPRESSED_FLAG) != 0;
      const guest = base + (<u64>(i - 1) << cluster_bits);
      const fault = isCompressed
        ? 0
        : clusterFault(offset, alloc, zero, hasHost, guest, cluster_bits, flags, end);
      if (isCompressed || fault != 0) {
        if (isCompressed) storeCompressed(record, entry, bitmap, unit, cluster_bits, flags, end);
        else storeRun(record, RUN_INVALID, unit, fault, <f64>offset);
        record += RUN_BYTES;
        expected = NOTHING;
        continue;
      }
    }
    const aux = attributesOf(entry, hasHost, attributes);
    const kinds = KINDS >> (hasHost << 4);
    const stride = hasHost ? cluster : 0;
    let meta = kindOf(kinds, alloc, zero, 0) | (aux << RUN_KIND_BITS);
    storeMeta(record, meta, unit, <f64>(<i64>offset));
    record += (offset | meta) == expected ? 0 : RUN_BYTES;
    // Subclusters that differ from the one before them: each starts a run.
    let starts = ((alloc ^ (alloc << 1)) | (zero ^ (zero << 1))) & ~1;
    let next = offset + stride;
    if (starts != 0) {
      const unitBytes = stride / SUBCLUSTERS;
      do {
        const k = ctz(starts);
        meta = kindOf(kinds, alloc, zero, k) | (aux << RUN_KIND_BITS);
        storeMeta(record, meta, unit + k, <f64>(<i64>(offset + k * unitBytes)));
        record += RUN_BYTES;
        starts &= starts - 1;
      } while (starts != 0);
    } else if ((aux & RUN_ATTR_RESERVED) == 0 && full - record >= SUBCLUSTERS * RUN_BYTES) {
      let left: u64 = count - i;
      // Of data, only the last cluster is checked against the end of the file.
      if (hasHost) left = entriesBefore(alloc != 0 ? end : FIELD_LIMIT, offset, cluster_bits, left);
      const copied = <u64>(aux & RUN_ATTR_COPIED) << 63;
      // In a data file bit 63 makes an entry without an offset a cluster at 0.
      const bits = hasHost ? compared : compared | COPIED_FLAG;
      const p = start + (<usize>i << 4);
      const skipped = skipClusters(p, left, offset | copied, bitmap, stride, bits);
      next += stride * skipped;
      i += skipped;
    }
    expected = next | meta;
  }
  storeEnd(record, (first + i) * SUBCLUSTERS);
  return <u32>((record - out) / RUN_BYTES);
}
