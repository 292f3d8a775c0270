// The caller's scratch memory, and reads of bits backwards.
//
// Offsets in bytes; the end is ZSTD_SCRATCH_BYTES of src/kernel/abi.ts. The decode table lives here
// from one block to the next, so that a block can use that of its predecessor.

/** Most bytes of a block, stored or decoded (RFC 8878, 3.1.1.2.4). */
// @ts-ignore: decorator
@inline export const BLOCK_MAX: usize = 128 << 10;

/** Decoded literals of a block. */
// @ts-ignore: decorator
@inline export const LITERALS: usize = 0;
/** Decode table of the literals: 2048 u32. */
// @ts-ignore: decorator
@inline export const HUFFMAN_TABLE: usize = LITERALS + BLOCK_MAX + 64;
/** Table of one symbol an entry: 2048 u16, while the other is built. */
// @ts-ignore: decorator
@inline export const SINGLE_TABLE: usize = HUFFMAN_TABLE + (2048 << 2);
/** Entries of the second symbol, at most 1024 u32. */
// @ts-ignore: decorator
@inline export const SECOND_TABLE: usize = SINGLE_TABLE + (2048 << 1) + 64;
/** End of the map. */
// @ts-ignore: decorator
@inline export const SCRATCH_END: usize = SECOND_TABLE + (1024 << 2);

let scratchStart: usize = 0;

export function setScratch(ptr: usize): void {
  scratchStart = ptr;
}

/** Address of a part of the scratch memory. */
// @ts-ignore: decorator
@inline
export function scratch(offset: usize): usize {
  return scratchStart + offset;
}

// A stream that is read backwards (RFC 8878, 4.1) is a position: the index, from the stream's first
// byte on, of the next bit; -1 when all are read. Reads before the first byte give what is there:
// headers, which are longer than any such read. Whoever takes bits asks for the position after.

/** Position of the first bit, which follows the highest one set; -2 if there is none. */
// @ts-ignore: decorator
@inline
export function firstBit(start: usize, end: usize): i32 {
  if (start >= end) return -2;
  const last = <u32>load<u8>(end - 1);
  if (last == 0) return -2;
  return <i32>((end - start) << 3) - 2 - <i32>(clz<u32>(last) - 24);
}

/** The bits from `position` on, most significant first; 57 of them are valid. */
// @ts-ignore: decorator
@inline
export function bitsAt(start: usize, position: i32): u64 {
  return load<u64>(start + <usize>(position >> 3) - 7) << (<u64><u32>~position & 7);
}

/** The first `count` (0 to 63) of `bits`, as a number. Shift counts are taken modulo 64. */
// @ts-ignore: decorator
@inline
export function leading(bits: u64, count: u64): u64 {
  return (bits >> 1) >> ~count;
}
