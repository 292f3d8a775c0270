/** Both 64-bit lanes from big-endian to the machine's order. */
// @ts-ignore: decorator
@inline
export function swapLanes64(v: v128): v128 {
  return v128.swizzle(v, i8x16(7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8));
}

/** The big-endian u64 at `ptr`. WebAssembly has no byte swap: a shuffle is the cheapest one. */
// @ts-ignore: decorator
@inline
export function loadBE64(ptr: usize): u64 {
  if (ASC_FEATURE_SIMD) {
    return <u64>i64x2.extract_lane(swapLanes64(v128.load64_zero(ptr)), 0);
  }
  return bswap<u64>(load<u64>(ptr));
}

// @ts-ignore: decorator
@inline
export function loadBE32(ptr: usize): u32 {
  return bswap<u32>(load<u32>(ptr));
}

// @ts-ignore: decorator
@inline
export function loadBE16(ptr: usize): u32 {
  return <u32>bswap<u16>(load<u16>(ptr));
}

// @ts-ignore: decorator
@inline
export function storeBE64(ptr: usize, value: u64): void {
  store<u64>(ptr, bswap<u64>(value));
}

// @ts-ignore: decorator
@inline
export function storeBE32(ptr: usize, value: u32): void {
  store<u32>(ptr, bswap<u32>(value));
}

// @ts-ignore: decorator
@inline
export function storeBE16(ptr: usize, value: u32): void {
  store<u16>(ptr, bswap<u16>(<u16>value));
}
