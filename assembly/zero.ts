// Zero detection. Out of cache it is bound by memory, which one stream front to back reads fastest;
// four tests a turn, each of 128 bytes, are for what is in cache.

/** Whether the 128 bytes at `p` hold a set bit. */
// @ts-ignore: decorator
@inline
function isUsed128(p: usize): bool {
  const a = v128.or(v128.load(p), v128.load(p, 16));
  const b = v128.or(v128.load(p, 32), v128.load(p, 48));
  const c = v128.or(v128.load(p, 64), v128.load(p, 80));
  const d = v128.or(v128.load(p, 96), v128.load(p, 112));
  return v128.any_true(v128.or(v128.or(a, b), v128.or(c, d)));
}

/** Whether the `length` bytes at `p`, in whole steps of 128, hold a set bit. */
// @ts-ignore: decorator
@inline
function isUsed(p: usize, length: usize): bool {
  for (const end = p + (length & ~511); p < end; p += 512) {
    if (isUsed128(p)) return true;
    if (isUsed128(p + 128)) return true;
    if (isUsed128(p + 256)) return true;
    if (isUsed128(p + 384)) return true;
  }
  for (const end = p + (length & 384); p < end; p += 128) {
    if (isUsed128(p)) return true;
  }
  return false;
}

/** The same without vectors, in whole steps of 32. */
// @ts-ignore: decorator
@inline
function isUsedScalar(p: usize, length: usize): bool {
  for (const end = p + (length & ~31); p < end; p += 32) {
    const a = load<u64>(p) | load<u64>(p, 8);
    const b = load<u64>(p, 16) | load<u64>(p, 24);
    if ((a | b) != 0) return true;
  }
  return false;
}

/** 1 if all `length` bytes at `ptr` are zero. */
export function zero_range(ptr: usize, length: usize): i32 {
  const end = ptr + length;
  if (length < 8) {
    for (let p = ptr; p < end; p++) {
      if (load<u8>(p) != 0) return 0;
    }
    return 1;
  }
  // Data nearly always shows in its first word: leave before the set-up of the loops.
  if (load<u64>(ptr) != 0) return 0;
  let p = ptr;
  if (ASC_FEATURE_SIMD) {
    if (isUsed(p, length)) return 0;
    p += length & ~127;
  } else {
    if (isUsedScalar(p, length)) return 0;
    p += length & ~31;
  }
  for (; end - p >= 8; p += 8) {
    if (load<u64>(p) != 0) return 0;
  }
  return i32(load<u64>(end - 8) == 0);
}

/** Bitmap of the units of `1 << unit_bits` bytes that hold a byte other than zero; their number. */
export function nonzero_bitmap(ptr: usize, length: usize, unit_bits: u32, out: usize): u32 {
  const unit: u64 = (<u64>1) << min<u32>(unit_bits, 32);
  const end = <u64>ptr + <u64>length;
  let bits: u32 = 0;
  let index: u32 = 0;
  let total: u32 = 0;
  for (let p = <u64>ptr; p < end; p += unit) {
    const used: u32 = 1 - zero_range(<usize>p, <usize>min<u64>(unit, end - p));
    bits |= used << (index & 7);
    total += used;
    if ((++index & 7) == 0) {
      store<u8>(out++, bits);
      bits = 0;
    }
  }
  if ((index & 7) != 0) store<u8>(out, bits);
  return total;
}
