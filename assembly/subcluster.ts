// Extended L2 entries to runs of subclusters (format section 9).
import {
  INVALID_ALLOC_AND_ZERO,
  INVALID_ALLOC_WITHOUT_OFFSET,
  L2_DATA_FILE,
  RUN_BYTES,
  RUN_COMPRESSED,
  RUN_DATA,
  RUN_INVALID,
  RUN_UNALLOCATED,
  RUN_UNALLOCATED_SUBCLUSTER,
  RUN_ZERO_ALLOCATED,
  RUN_ZERO_PLAIN,
} from './abi';
import { loadBE64, swapLanes64 } from './bytes';
import {
  attributesOf,
  COMPRESSED_FLAG,
  endOfFile,
  OFFSET_MASK,
  offsetFault,
  storeCompressed,
  storeRun,
} from './l2';

// @ts-ignore: decorator
@inline const SUBCLUSTERS: u32 = 32;

/** Joins a run to the record `last` if it continues it, else starts the next; the open record. */
// @ts-ignore: decorator
@inline
function append(
  last: usize,
  out: usize,
  kind: u32,
  first: u32,
  units: u32,
  aux: u32,
  host: u64,
  unitBytes: u64,
): usize {
  if (last >= out && load<u32>(last) == kind && load<u32>(last, 12) == aux) {
    const before = load<u32>(last, 8);
    const hasHost = kind != RUN_UNALLOCATED && kind != RUN_ZERO_PLAIN;
    if (!hasHost || load<f64>(last, 16) + <f64>(<i64>(before * unitBytes)) == <f64>(<i64>host)) {
      store<u32>(last, before + units, 8);
      return last;
    }
  }
  last += RUN_BYTES;
  storeRun(last, kind, first, units, aux, <f64>(<i64>host));
  return last;
}

/** Kind of a subcluster with these bits (not both set); without a host `alloc` is 0. */
// @ts-ignore: decorator
@inline
function subclusterKind(alloc: u32, zero: u32, hasHost: u32): u32 {
  if (!hasHost) return zero ? RUN_ZERO_PLAIN : RUN_UNALLOCATED;
  if (alloc) return RUN_DATA;
  return zero ? RUN_ZERO_ALLOCATED : RUN_UNALLOCATED_SUBCLUSTER;
}

/** The `INVALID_*` code that poisons a whole cluster which is not compressed, or 0. */
// @ts-ignore: decorator
@inline
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
  const unitBytes: u64 = (<u64>1) << (cluster_bits - 5);
  const end = endOfFile(host_size);
  const isDataFile = u32((flags & L2_DATA_FILE) != 0);
  let guest = <u64>guest_base;
  let last = out - RUN_BYTES;
  let p = table + (<usize>first << 4);
  const stop = first + count;

  for (let i = first; i < stop; i++) {
    // A cluster is never split: the caller resumes at whole entries.
    const used = <u32>((last + RUN_BYTES - out) / RUN_BYTES);
    if (capacity - used < SUBCLUSTERS || capacity < used) break;
    let entry: u64, bitmap: u64;
    if (ASC_FEATURE_SIMD) {
      const both = swapLanes64(v128.load(p));
      entry = i64x2.extract_lane(both, 0);
      bitmap = i64x2.extract_lane(both, 1);
    } else {
      entry = loadBE64(p);
      bitmap = loadBE64(p + 8);
    }
    const unit = i * SUBCLUSTERS;
    if ((entry & COMPRESSED_FLAG) != 0) {
      last += RUN_BYTES;
      storeCompressed(last, entry, bitmap, unit, SUBCLUSTERS, cluster_bits, flags, end);
    } else {
      const offset = entry & OFFSET_MASK;
      const hasHost = u32(offset != 0) | (isDataFile & <u32>(entry >> 63));
      const alloc = <u32>bitmap;
      const zero = <u32>(bitmap >> 32);
      const fault = clusterFault(offset, alloc, zero, hasHost, guest, cluster_bits, flags, end);
      if (fault != 0) {
        last += RUN_BYTES;
        storeRun(last, RUN_INVALID, unit, SUBCLUSTERS, fault, <f64>offset);
      } else {
        const aux = attributesOf(entry, hasHost, attributes);
        let k: u32 = 0;
        while (k < SUBCLUSTERS) {
          const a = (alloc >> k) & 1;
          const z = (zero >> k) & 1;
          // Bits that differ from subcluster k, and one behind the last subcluster.
          const changes = (alloc ^ (0 - a)) | (zero ^ (0 - z));
          const units = <u32>ctz<u64>((<u64>changes | ((<u64>1) << SUBCLUSTERS)) >> k);
          const host = hasHost ? offset + k * unitBytes : 0;
          const kind = subclusterKind(a, z, hasHost);
          last = append(last, out, kind, unit + k, units, aux, host, unitBytes);
          k += units;
        }
      }
    }
    guest += (<u64>1) << cluster_bits;
    p += 16;
  }
  return <u32>((last + RUN_BYTES - out) / RUN_BYTES);
}
