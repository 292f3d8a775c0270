// Counters of refcount blocks, `1 << order` bits each (format section 6). Orders 0 to 2 pack from the
// least significant bit of each byte, 4 to 6 are big-endian.
import { loadBE16, loadBE32, loadBE64, storeBE16, storeBE32, storeBE64 } from './bytes';
import { first_difference } from './difference';

// @ts-ignore: decorator
@inline
export function maximum(order: u32): u64 {
  return (<u64>-1) >> (64 - (<u64>1 << order));
}

// @ts-ignore: decorator
@inline
export function get(block: usize, order: u32, index: u32): u64 {
  if (order == 4) return loadBE16(block + (<usize>index << 1));
  if (order == 3) return load<u8>(block + index);
  if (order == 5) return loadBE32(block + (<usize>index << 2));
  if (order == 6) return loadBE64(block + (<usize>index << 3));
  const bit = index << order;
  return (load<u8>(block + (bit >> 3)) >> (bit & 7)) & <u32>maximum(order);
}

// @ts-ignore: decorator
@inline
function set(block: usize, order: u32, index: u32, value: u64): void {
  if (order == 4) storeBE16(block + (<usize>index << 1), <u32>value);
  else if (order == 3) store<u8>(block + index, <u32>value);
  else if (order == 5) storeBE32(block + (<usize>index << 2), <u32>value);
  else if (order == 6) storeBE64(block + (<usize>index << 3), value);
  else {
    const bit = index << order;
    const at = block + (bit >> 3);
    const mask = <u32>maximum(order) << (bit & 7);
    store<u8>(at, (load<u8>(at) & ~mask) | (<u32>value << (bit & 7)));
  }
}

export function refcount_unpack(block: usize, order: u32, first: u32, count: u32, out: usize): void {
  assert(order <= 6);
  for (let i: u32 = 0; i < count; i++) {
    store<u64>(out + (<usize>i << 3), get(block, order, first + i));
  }
}

export function refcount_pack(block: usize, order: u32, first: u32, count: u32, values: usize): i32 {
  assert(order <= 6);
  const max = maximum(order);
  for (let i: u32 = 0; i < count; i++) {
    if (load<u64>(values + (<usize>i << 3)) > max) return first + i;
  }
  for (let i: u32 = 0; i < count; i++) {
    set(block, order, first + i, load<u64>(values + (<usize>i << 3)));
  }
  return -1;
}

export function refcount_fill(block: usize, order: u32, first: u32, count: u32, value: f64): i32 {
  assert(order <= 6);
  // 2^64 itself would saturate to a value that looks right.
  if (!(value >= 0 && value < 18446744073709551616.0)) return 1;
  const counter = <u64>value;
  if (<f64>counter != value || counter > maximum(order)) return 1;
  for (let i: u32 = 0; i < count; i++) set(block, order, first + i, counter);
  return 0;
}

export function refcount_add(block: usize, order: u32, first: u32, count: u32, delta: f64): i32 {
  assert(order <= 6);
  const change = <u64>(<i64>delta);
  const isNegative = <i64>change < 0;
  // Counters in this range stay in 0..max.
  const least = isNegative ? 0 - change : 0;
  const max = maximum(order);
  if (!isNegative && change > max) return count != 0 ? first : -1;
  const greatest = isNegative ? max : max - change;
  return addWithin(block, order, first, count, change, least, greatest);
}

/** Adds to counters that are all in this range; returns -1, or the index of the first that is not. */
// @ts-ignore: decorator
@inline
export function addWithin(
  block: usize,
  order: u32,
  first: u32,
  count: u32,
  change: u64,
  least: u64,
  greatest: u64,
): i32 {
  for (let i: u32 = 0; i < count; i++) {
    const counter = get(block, order, first + i);
    if (counter < least || counter > greatest) return first + i;
  }
  for (let i: u32 = 0; i < count; i++) {
    set(block, order, first + i, get(block, order, first + i) + change);
  }
  return -1;
}

/** Bits `[from, to)` of the byte at bit offset `at` (a multiple of 8), as a mask. */
// @ts-ignore: decorator
@inline
function maskOfByte(at: u32, from: u32, to: u32): u32 {
  let mask: u32 = 0xff;
  if (at < from) mask &= 0xff << (from - at);
  if (at + 8 > to) mask &= 0xff >> (at + 8 - to);
  return mask;
}

/** Index of the counter that holds the lowest differing bit of one byte, or -1. */
// @ts-ignore: decorator
@inline
function differenceIn(a: usize, b: usize, at: u32, order: u32, from: u32, to: u32): i32 {
  const bits = (load<u8>(a + at) ^ load<u8>(b + at)) & maskOfByte(at << 3, from, to);
  return bits != 0 ? ((at << 3) + ctz<u32>(bits)) >> order : -1;
}

/** Both blocks stay packed: the first differing bit tells the counter. */
export function refcount_compare(a: usize, b: usize, order: u32, first: u32, count: u32): i32 {
  assert(order <= 6);
  if (count == 0) return -1;
  const from = first << order;
  const to = (first + count) << order;
  let at = from >> 3;
  if ((from & 7) != 0) {
    const counter = differenceIn(a, b, at++, order, from, to);
    if (counter >= 0) return counter;
  }
  if (to >> 3 > at) {
    const found = first_difference(a + at, b + at, (to >> 3) - at);
    if (found >= 0) return differenceIn(a, b, at + found, order, from, to);
    at = to >> 3;
  }
  return at << 3 < to ? differenceIn(a, b, at, order, from, to) : -1;
}

/** Whether one of the counters in these 8 packed bytes is zero. */
// @ts-ignore: decorator
@inline
function hasZeroCounter(word: u64, order: u32): bool {
  if (order == 0) return word != <u64>-1;
  if (order == 1) return ((word | (word >> 1)) & 0x5555_5555_5555_5555) != 0x5555_5555_5555_5555;
  if (order == 6) return word == 0;
  const low = order == 2 ? 0x1111_1111_1111_1111
    : order == 3 ? 0x0101_0101_0101_0101
    : order == 4 ? 0x0001_0001_0001_0001
    : <u64>0x0000_0001_0000_0001;
  // The classic test: subtracting 1 borrows out of the top bit of a counter only if one is zero.
  const top = low << ((<u64>1 << order) - 1);
  return ((word - low) & ~word & top) != 0;
}

export function refcount_scan(block: usize, order: u32, first: u32, count: u32, zero: u32): i32 {
  assert(order <= 6);
  let index = first;
  const end = first + count;
  const perWord: u32 = 64 >> order;
  while (index < end) {
    // Whole words without a hit are skipped at once.
    if ((index & (perWord - 1)) == 0) {
      while (end - index >= perWord) {
        const word = load<u64>(block + ((index << order) >> 3));
        if (zero ? hasZeroCounter(word, order) : word != 0) break;
        index += perWord;
      }
      if (index == end) break;
    }
    if ((get(block, order, index) == 0) == (zero != 0)) return index;
    index++;
  }
  return -1;
}
