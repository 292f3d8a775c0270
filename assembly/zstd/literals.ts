// The literals section of a block (RFC 8878, 3.1.1.3.1).
import { decodeFour, decodeOne, readTree } from './huffman';
import { BLOCK_MAX, LITERALS, scratch } from './layout';

// @ts-ignore: decorator
@inline const RAW: u32 = 0;
// @ts-ignore: decorator
@inline const RLE: u32 = 1;
// @ts-ignore: decorator
@inline const COMPRESSED: u32 = 2;

/** The literals of the last section read: in the input, or in the scratch memory. */
export let literals: usize = 0;
export let literalsLength: usize = 0;
/** Whether an earlier block of the frame left a decode table. */
let hasTable: bool = false;

/** Forgets the table: frames do not share it. */
export function forgetTree(): void {
  hasTable = false;
}

/**
 * Reads a section, which may lie within the block that ends at `end`.
 * @returns where it ends, or 0 if it is invalid
 */
export function readLiterals(src: usize, end: usize): usize {
  if (src >= end) return 0;
  const header = load<u64>(src);
  const type = <u32>header & 3;
  const format = <u32>(header >> 2) & 3;
  if (type == RAW || type == RLE) {
    // Sizes of 5, 12 or 20 bits; bit 0 of the format belongs to the shortest.
    const headerLength: usize = (format & 1) != 0 ? <usize>(format + 3) >> 1 : 1;
    if (headerLength > end - src) return 0;
    literalsLength =
      headerLength == 1
        ? <usize>(header >> 3) & 0x1f
        : <usize>(header >> 4) & (headerLength == 2 ? 0xfff : 0xfffff);
    return type == RAW ? useRaw(src + headerLength, end) : fillRle(src + headerLength, end);
  }
  const sizeBits: u64 = format < 2 ? 10 : format == 2 ? 14 : 18;
  const headerLength: usize = format < 2 ? 3 : <usize>format + 2;
  if (headerLength > end - src) return 0;
  const mask = ((<u64>1) << sizeBits) - 1;
  literalsLength = <usize>((header >> 4) & mask);
  const length = <usize>((header >> (4 + sizeBits)) & mask);
  const from = src + headerLength;
  if (literalsLength > BLOCK_MAX || length > end - from) return 0;
  return readHuffman(from, from + length, type == COMPRESSED, format == 0);
}

function useRaw(src: usize, end: usize): usize {
  if (literalsLength > end - src) return 0;
  literals = src;
  return src + literalsLength;
}

function fillRle(src: usize, end: usize): usize {
  if (src >= end || literalsLength > BLOCK_MAX) return 0;
  literals = scratch(LITERALS);
  memory.fill(literals, load<u8>(src), literalsLength);
  return src + 1;
}

function readHuffman(src: usize, end: usize, hasTree: bool, isSingle: bool): usize {
  let from = src;
  if (hasTree) {
    const length = readTree(src, end);
    if (length == 0) return 0;
    hasTable = true;
    from += length;
  }
  if (!hasTable) return 0;
  literals = scratch(LITERALS);
  const isValid = isSingle
    ? decodeOne(from, end, literals, literalsLength)
    : decodeFour(from, end, literals, literalsLength);
  return isValid ? end : 0;
}
