// Copies of earlier output. They write in whole words, up to 32 bytes past the end of the match.

/** For distances 1 to 15: 16 indices `i mod distance`, and the bytes that repeat in 16. */
const PATTERNS = memory.data(16 << 4, 16);
const STRIDES = memory.data(16);

/** Fills the pattern tables; runs when the module starts. */
export function fillPatterns(): void {
  for (let distance: u32 = 1; distance < 16; distance++) {
    store<u8>(STRIDES + distance, 16 - (16 % distance));
    for (let i: u32 = 0; i < 16; i++) {
      store<u8>(PATTERNS + (distance << 4) + i, i % distance);
    }
  }
}

/** Copies `length` (at least 3) bytes to `out` from `distance` bytes before it; the two may overlap. */
// @ts-ignore: decorator
@inline
export function copyMatch(out: usize, distance: usize, length: usize): void {
  assert(distance >= 1 && length >= 3);
  let from = out - distance;
  let to = out;
  const end = out + length;
  if (ASC_FEATURE_SIMD) {
    if (distance >= 16) {
      v128.store(to, v128.load(from));
      v128.store(to, v128.load(from, 16), 16);
      while (to + 32 < end) {
        to += 32;
        from += 32;
        v128.store(to, v128.load(from));
        v128.store(to, v128.load(from, 16), 16);
      }
    } else {
      const pattern = v128.swizzle(v128.load(from), v128.load(PATTERNS + (distance << 4)));
      const stride = <usize>load<u8>(STRIDES + distance);
      do {
        v128.store(to, pattern);
        to += stride;
      } while (to < end);
    }
  } else if (distance >= 8) {
    do {
      store<u64>(to, load<u64>(from));
      store<u64>(to, load<u64>(from, 8), 8);
      to += 16;
      from += 16;
    } while (to < end);
  } else if (distance == 1) {
    const pattern = <u64>load<u8>(from) * 0x0101_0101_0101_0101;
    do {
      store<u64>(to, pattern);
      to += 8;
    } while (to < end);
  } else {
    // The bytes before `out` stay as they are, so each store begins with one whole period.
    do {
      store<u64>(to, load<u64>(from));
      to += distance;
    } while (to < end);
  }
}
