// The compressor's scratch memory, and its stream of bits.
//
// Offsets in bytes; the end is ZSTD_ENCODE_SCRATCH_BYTES of src/kernel/abi.ts.

/** Most bytes of a block (RFC 8878, 3.1.1.2.4). */
// @ts-ignore: decorator
@inline export const BLOCK_BYTES: usize = 128 << 10;
/** Shortest match that is looked for. */
// @ts-ignore: decorator
@inline export const MIN_MATCH: usize = 4;
// @ts-ignore: decorator
@inline const MAX_SEQUENCES: usize = BLOCK_BYTES / MIN_MATCH;

/** Newest position of each hash of 8 bytes: up to 2^17 u32. */
// @ts-ignore: decorator
@inline export const LONG_TABLE: usize = 0;
/** Newest position of each hash of 4 or 5 bytes: up to 2^16 u32. */
// @ts-ignore: decorator
@inline export const SHORT_TABLE: usize = LONG_TABLE + (4 << 17);
/** Literals of a block, one behind the other. */
// @ts-ignore: decorator
@inline export const LITERALS: usize = SHORT_TABLE + (4 << 16);
/** Sequences (u64), as the parser and later the coder leave them. */
// @ts-ignore: decorator
@inline export const SEQUENCES: usize = LITERALS + BLOCK_BYTES + 64;
/** Codes of the sequences (u32). */
// @ts-ignore: decorator
@inline export const CODES: usize = SEQUENCES + (MAX_SEQUENCES << 3);
/** End of the map. */
// @ts-ignore: decorator
@inline export const ENCODE_SCRATCH_END: usize = CODES + (MAX_SEQUENCES << 2);

// A sequence of the parser (u64):
//   bits 0-17    literals in front of the match
//   bits 18-35   length of the match - 3
//   bits 36-     offset value (RFC 8878, 3.1.1.3.2.1.1)
// @ts-ignore: decorator
@inline export const LENGTH_SHIFT: u64 = 18;
// @ts-ignore: decorator
@inline export const OFFSET_SHIFT: u64 = 36;
// @ts-ignore: decorator
@inline export const LENGTH_MASK: u32 = 0x3ffff;

// @ts-ignore: decorator
@inline
export function word(table: usize, index: u32): u32 {
  return load<u32>(table + (<usize>index << 2));
}

// @ts-ignore: decorator
@inline
export function setWord(table: usize, index: u32, value: u32): void {
  store<u32>(table + (<usize>index << 2), value);
}

// @ts-ignore: decorator
@inline
export function increase(table: usize, index: u32): void {
  const at = table + (<usize>index << 2);
  store<u32>(at, load<u32>(at) + 1);
}

/** Place of the highest bit set in `value`, which is not 0. */
// @ts-ignore: decorator
@inline
export function highBit(value: u32): u32 {
  return 31 - clz<u32>(value);
}
