// Zero detection. Memory-bound, so one simple loop with one test per 128 bytes is enough.

// @ts-ignore: decorator
@inline
function or128(p: usize): v128 {
  const a = v128.or(v128.load(p), v128.load(p, 16));
  const b = v128.or(v128.load(p, 32), v128.load(p, 48));
  const c = v128.or(v128.load(p, 64), v128.load(p, 80));
  const d = v128.or(v128.load(p, 96), v128.load(p, 112));
  return v128.or(v128.or(a, b), v128.or(c, d));
}

/** First address in `[p, end)` of the 128-byte steps that hold a set bit, or of the rest. */
function skipZeros(p: usize, end: usize): usize {
  if (ASC_FEATURE_SIMD) {
    while (end - p >= 128) {
      if (v128.any_true(or128(p))) return p;
      p += 128;
    }
  } else {
    while (end - p >= 32) {
      const a = load<u64>(p) | load<u64>(p, 8);
      const b = load<u64>(p, 16) | load<u64>(p, 24);
      if ((a | b) != 0) return p;
      p += 32;
    }
  }
  return p;
}

/** 1 if all `length` bytes at `ptr` are zero. */
export function zero_range(ptr: usize, length: usize): i32 {
  const end = ptr + length;
  // Data nearly always shows in its first word: leave before the set-up of the loop.
  if (length >= 8) {
    if (load<u64>(ptr) != 0) return 0;
    let p = skipZeros(ptr, end);
    while (end - p >= 8) {
      if (load<u64>(p) != 0) return 0;
      p += 8;
    }
    return i32(load<u64>(end - 8) == 0);
  }
  for (let p = ptr; p < end; p++) {
    if (load<u8>(p) != 0) return 0;
  }
  return 1;
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
