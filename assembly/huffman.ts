// Decode tables of Huffman codes (RFC 1951, 3.2.2), built for one look-up per symbol.
//
// A table entry (u32):
//   bits 0-7    bits to drop: the rest of the codeword, and the extra bits of a length or distance
//   bits 8-11   length of the codeword alone; of a subtable pointer: bits that index the subtable
//   bit 12      literal
//   bit 13      end of block
//   bit 14      pointer to a subtable
//   bit 15      not a plain symbol: one of the two above, or no symbol at all
//   bits 16-    literal, base of length or distance, or index of the subtable's first entry

// @ts-ignore: decorator
@inline export const END_OF_BLOCK: u32 = 1 << 13;
// @ts-ignore: decorator
@inline export const SUBTABLE: u32 = 1 << 14;
// @ts-ignore: decorator
@inline export const EXCEPTIONAL: u32 = 1 << 15;
// @ts-ignore: decorator
@inline export const LITERAL: u32 = 1 << 12;

// @ts-ignore: decorator
@inline const MAX_LENGTH: u32 = 15;

/** Entries of a symbol before the codeword is known. */
export const LITLEN_SYMBOLS = memory.data(288 << 2, 16);
export const DISTANCE_SYMBOLS = memory.data(32 << 2, 16);
export const PRECODE_SYMBOLS = memory.data(19 << 2, 16);

const COUNTS = memory.data(17 << 2, 16);
const OFFSETS = memory.data(17 << 2, 16);
const SORTED = memory.data(288 << 1, 16);

/** Fills the three symbol tables; runs when the module starts. */
export function fillSymbols(): void {
  for (let i: u32 = 0; i < 256; i++) setSymbol(LITLEN_SYMBOLS, i, LITERAL | (i << 16));
  setSymbol(LITLEN_SYMBOLS, 256, EXCEPTIONAL | END_OF_BLOCK);
  let base: u32 = 3;
  for (let i: u32 = 0; i < 28; i++) {
    const extra: u32 = i < 8 ? 0 : (i >> 2) - 1;
    setSymbol(LITLEN_SYMBOLS, 257 + i, (base << 16) | extra);
    base += 1 << extra;
  }
  setSymbol(LITLEN_SYMBOLS, 285, 258 << 16);
  setSymbol(LITLEN_SYMBOLS, 286, EXCEPTIONAL);
  setSymbol(LITLEN_SYMBOLS, 287, EXCEPTIONAL);
  base = 1;
  for (let i: u32 = 0; i < 30; i++) {
    const extra: u32 = i < 4 ? 0 : (i >> 1) - 1;
    setSymbol(DISTANCE_SYMBOLS, i, (base << 16) | extra);
    base += 1 << extra;
  }
  setSymbol(DISTANCE_SYMBOLS, 30, EXCEPTIONAL);
  setSymbol(DISTANCE_SYMBOLS, 31, EXCEPTIONAL);
  for (let i: u32 = 0; i < 19; i++) setSymbol(PRECODE_SYMBOLS, i, i << 16);
}

// @ts-ignore: decorator
@inline
function setSymbol(symbols: usize, index: u32, entry: u32): void {
  store<u32>(symbols + (<usize>index << 2), entry);
}

// @ts-ignore: decorator
@inline
function setEntry(table: usize, index: u32, entry: u32): void {
  store<u32>(table + (<usize>index << 2), entry);
}

// @ts-ignore: decorator
@inline
function countOf(length: u32): u32 {
  return load<u32>(COUNTS + (<usize>length << 2));
}

/** Entry of the symbol at `position` of the sorted list, whose codeword has `bits` bits left. */
// @ts-ignore: decorator
@inline
function symbolEntry(symbols: usize, position: u32, bits: u32): u32 {
  const symbol = <usize>load<u16>(SORTED + (<usize>position << 1));
  return load<u32>(symbols + (symbol << 2)) + ((bits << 8) | bits);
}

/** Sorts symbols by codeword length. Codewords left over (negative: too many), times 2^15. */
function sortSymbols(lengths: usize, count: u32): i32 {
  memory.fill(COUNTS, 0, 17 << 2);
  for (let i: u32 = 0; i < count; i++) {
    const at = COUNTS + (<usize>load<u8>(lengths + i) << 2);
    store<u32>(at, load<u32>(at) + 1);
  }
  let left: i32 = 1 << MAX_LENGTH;
  let offset: u32 = 0;
  for (let length: u32 = 1; length <= MAX_LENGTH; length++) {
    store<u32>(OFFSETS + (<usize>length << 2), offset);
    offset += countOf(length);
    left -= countOf(length) << (MAX_LENGTH - length);
  }
  if (left < 0) return left;
  for (let i: u32 = 0; i < count; i++) {
    const length = <u32>load<u8>(lengths + i);
    if (length == 0) continue;
    const at = OFFSETS + (<usize>length << 2);
    const position = load<u32>(at);
    store<u16>(SORTED + (<usize>position << 1), i);
    store<u32>(at, position + 1);
  }
  return left;
}

/** A code of one codeword of one bit, or of none: half or all of the table decodes to nothing. */
function fillIncomplete(symbols: usize, used: u32, rootBits: u32, table: usize): void {
  const nothing: u32 = EXCEPTIONAL | (1 << 8) | 1;
  const entry = used != 0 ? symbolEntry(symbols, 0, 1) : nothing;
  for (let i: u32 = 0; i < 1 << rootBits; i += 2) {
    setEntry(table, i, entry);
    setEntry(table, i + 1, nothing);
  }
}

/** Appends a copy of the `size` entries of the table to it. */
// @ts-ignore: decorator
@inline
function doubleTable(table: usize, size: u32): void {
  const bytes = <usize>size << 2;
  for (let at: usize = 0; at < bytes; at += 8) {
    store<u64>(table + bytes + at, load<u64>(table + at));
  }
}

/** The codeword after `code` in `length` bits; codewords are kept bit-reversed, as they are read. */
// @ts-ignore: decorator
@inline
function nextCodeword(code: u32, length: u32): u32 {
  const bit: u32 = 1 << (31 - clz<u32>(code ^ ((1 << length) - 1)));
  return (code & (bit - 1)) | bit;
}

/** Bits that index the subtable whose first codeword has `length` bits, `remaining` of them unused. */
// @ts-ignore: decorator
@inline
function subtableBits(length: u32, remaining: u32, rootBits: u32): u32 {
  let bits = length - rootBits;
  let covered = remaining;
  while (covered < <u32>1 << bits) {
    bits++;
    covered = (covered << 1) + countOf(rootBits + bits);
  }
  return bits;
}

/**
 * Builds the decode table of a canonical code at `table`. Root tables grow by doubling: entries of
 * codewords of n bits are filled in a table of 2^n, copied for each further bit.
 * Only a complete code is accepted, except (as zlib does, unless `mustBeComplete`) one codeword of
 * one bit or no codeword.
 * @returns false if the lengths make no such code
 */
export function buildTable(
  lengths: usize,
  count: u32,
  symbols: usize,
  rootBits: u32,
  table: usize,
  mustBeComplete: bool,
): bool {
  const left = sortSymbols(lengths, count);
  if (left < 0) return false;
  if (left > 0) {
    const used = count - countOf(0);
    if (mustBeComplete || used > 1 || used != countOf(1)) return false;
    fillIncomplete(symbols, used, rootBits, table);
    return true;
  }
  let length: u32 = 1;
  while (countOf(length) == 0) length++;
  let remaining = countOf(length);
  let position: u32 = 0;
  let code: u32 = 0;

  while (length <= rootBits) {
    setEntry(table, code, symbolEntry(symbols, position++, length));
    if (code == ((<u32>1) << length) - 1) {
      for (; length < rootBits; length++) doubleTable(table, 1 << length);
      return true;
    }
    code = nextCodeword(code, length);
    remaining--;
    while (remaining == 0) {
      if (length < rootBits) doubleTable(table, 1 << length);
      remaining = countOf(++length);
    }
  }
  fillSubtables(symbols, rootBits, table, length, remaining, position, code);
  return true;
}

/** The codewords longer than the root, from `code` on. */
function fillSubtables(
  symbols: usize,
  rootBits: u32,
  table: usize,
  length: u32,
  remaining: u32,
  position: u32,
  code: u32,
): void {
  const rootMask: u32 = (1 << rootBits) - 1;
  let prefix: u32 = -1;
  let start: u32 = 0;
  let bits: u32 = 0;
  let free: u32 = 1 << rootBits;
  while (true) {
    if ((code & rootMask) != prefix) {
      prefix = code & rootMask;
      start = free;
      bits = subtableBits(length, remaining, rootBits);
      free += 1 << bits;
      setEntry(table, prefix, EXCEPTIONAL | SUBTABLE | (start << 16) | (bits << 8) | rootBits);
    }
    const entry = symbolEntry(symbols, position++, length - rootBits);
    const step: u32 = 1 << (length - rootBits);
    for (let i = code >> rootBits; i < <u32>1 << bits; i += step) setEntry(table, start + i, entry);
    if (code == ((<u32>1) << length) - 1) return;
    code = nextCodeword(code, length);
    remaining--;
    while (remaining == 0) remaining = countOf(++length);
  }
}
