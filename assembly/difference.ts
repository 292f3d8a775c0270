// Comparison of two buffers. Like zero detection it is memory-bound: one test per 64 bytes.

// @ts-ignore: decorator
@inline
function xor16(a: usize, b: usize, offset: usize): v128 {
  return v128.xor(v128.load(a + offset), v128.load(b + offset));
}

/** Bytes from `a` and `b` on, in whole steps, that are equal; at most `length`. */
function skipEqual(a: usize, b: usize, length: usize): usize {
  let at: usize = 0;
  if (ASC_FEATURE_SIMD) {
    while (length - at >= 64) {
      const low = v128.or(xor16(a, b, at), xor16(a, b, at + 16));
      const high = v128.or(xor16(a, b, at + 32), xor16(a, b, at + 48));
      if (v128.any_true(v128.or(low, high))) return at;
      at += 64;
    }
  } else {
    while (length - at >= 32) {
      const p = a + at;
      const q = b + at;
      const low = (load<u64>(p) ^ load<u64>(q)) | (load<u64>(p, 8) ^ load<u64>(q, 8));
      const high = (load<u64>(p, 16) ^ load<u64>(q, 16)) | (load<u64>(p, 24) ^ load<u64>(q, 24));
      if ((low | high) != 0) return at;
      at += 32;
    }
  }
  return at;
}

/** Index of the first byte that differs between the `length` bytes at `a` and at `b`, or -1. */
export function first_difference(a: usize, b: usize, length: usize): i32 {
  let at = skipEqual(a, b, length);
  while (length - at >= 8) {
    const bits = load<u64>(a + at) ^ load<u64>(b + at);
    if (bits != 0) return <i32>(at + (<usize>ctz(bits) >> 3));
    at += 8;
  }
  for (; at < length; at++) {
    if (load<u8>(a + at) != load<u8>(b + at)) return <i32>at;
  }
  return -1;
}
