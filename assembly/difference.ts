// Comparison of two buffers. A test covers 96 bytes: twelve loads are what the vector registers of a
// usual machine hold at a time.

/** The bits in which the 32 bytes at `a` and at `b` differ, one half over the other. */
// @ts-ignore: decorator
@inline
function xor32(a: usize, b: usize): v128 {
  const low = v128.xor(v128.load(a), v128.load(b));
  const high = v128.xor(v128.load(a, 16), v128.load(b, 16));
  return v128.or(low, high);
}

/** Whether the 96 bytes at `a` and at `b` differ. */
// @ts-ignore: decorator
@inline
function differ96(a: usize, b: usize): bool {
  return v128.any_true(v128.or(v128.or(xor32(a, b), xor32(a + 32, b + 32)), xor32(a + 64, b + 64)));
}

/** Bytes from `a` and `b` on, in whole steps, that are equal; at most `length`. */
function skipEqual(a: usize, b: usize, length: usize): usize {
  const start = a;
  const end = a + length;
  if (ASC_FEATURE_SIMD) {
    for (const last = end - (length % 384); a < last; a += 384, b += 384) {
      if (differ96(a, b)) return a - start;
      if (differ96(a + 96, b + 96)) return a + 96 - start;
      if (differ96(a + 192, b + 192)) return a + 192 - start;
      if (differ96(a + 288, b + 288)) return a + 288 - start;
    }
    for (; end - a >= 96; a += 96, b += 96) {
      if (differ96(a, b)) break;
    }
  } else {
    for (const last = end - (length & 31); a < last; a += 32, b += 32) {
      const low = (load<u64>(a) ^ load<u64>(b)) | (load<u64>(a, 8) ^ load<u64>(b, 8));
      const high = (load<u64>(a, 16) ^ load<u64>(b, 16)) | (load<u64>(a, 24) ^ load<u64>(b, 24));
      if ((low | high) != 0) break;
    }
  }
  return a - start;
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
