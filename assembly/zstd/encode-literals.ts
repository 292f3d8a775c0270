// The literals section of a compressed block (RFC 8878, 3.1.1.3.1), for the compressor.
import { buildCode, count, describeTree, mostFrequent, TREE, writeStream } from './encode-huffman';

/** Fewer literals are stored: a code's description alone takes about as much. */
// @ts-ignore: decorator
@inline const LEAST_CODED: usize = 64;
/** From here on there are four streams. */
// @ts-ignore: decorator
@inline const LEAST_FOUR: usize = 256;

// @ts-ignore: decorator
@inline const RAW: u32 = 0;
// @ts-ignore: decorator
@inline const RLE: u32 = 1;
// @ts-ignore: decorator
@inline const COMPRESSED: u32 = 2;

/** Writes the header of literals that are raw or all the same. */
function writePlainHeader(out: usize, type: u32, length: usize): usize {
  if (length < 32) {
    store<u8>(out, type | (length << 3));
    return out + 1;
  }
  const isShort = length < 4096;
  store<u32>(out, type | (isShort ? 4 : 12) | (length << 4));
  return out + (isShort ? 2 : 3);
}

/** Bytes of the header of coded literals. */
// @ts-ignore: decorator
@inline
function codedHeaderBytes(length: usize): usize {
  return length < 1024 ? 3 : length < 16384 ? 4 : 5;
}

/** Writes the header of `length` literals that became `coded` bytes, which follow it already. */
function writeCodedHeader(out: usize, length: usize, coded: usize): void {
  const format: u64 = length < LEAST_FOUR ? 0 : length < 1024 ? 1 : length < 16384 ? 2 : 3;
  const width: u64 = format < 2 ? 10 : (format << 2) + 6;
  const header = <u64>COMPRESSED | (format << 2) | (<u64>length << 4) | (<u64>coded << (4 + width));
  for (let i: usize = 0; i < codedHeaderBytes(length); i++) {
    store<u8>(out + i, <u8>(header >> (<u64>i << 3)));
  }
}

function writeRaw(out: usize, outEnd: usize, from: usize, length: usize): usize {
  const at = writePlainHeader(out, RAW, length);
  if (at + length > outEnd) return 0;
  memory.copy(at, from, length);
  return at + length;
}

/** Writes four streams behind the table of their lengths (RFC 8878, 3.1.1.3.1.6). */
function writeFour(out: usize, from: usize, to: usize): usize {
  const quarter = (to - from + 3) >> 2;
  let at = out + 6;
  for (let i: usize = 0; i < 3; i++) {
    const end = writeStream(at, from, from + quarter);
    store<u16>(out + (i << 1), <u16>(end - at));
    from += quarter;
    at = end;
  }
  return writeStream(at, from, to);
}

/**
 * Writes the section of the `length` literals from `from` on, in whole words: up to 24 bytes behind
 * `outEnd` change.
 * @returns where it ends, or 0 if it does not fit
 */
export function writeLiterals(out: usize, outEnd: usize, from: usize, length: usize): usize {
  if (length < LEAST_CODED) return writeRaw(out, outEnd, from, length);
  count(from, from + length);
  if (mostFrequent == length) {
    const at = writePlainHeader(out, RLE, length);
    store<u8>(at, load<u8>(from));
    return at < outEnd ? at + 1 : 0;
  }
  // Values about equally frequent: no code would shorten them.
  if (mostFrequent <= (length >> 7) + 4) return writeRaw(out, outEnd, from, length);
  const bits = buildCode(length);
  const tree = describeTree();
  const header = codedHeaderBytes(length);
  const least = header + tree + (bits >> 3);
  if (tree == 0 || least + (length >> 6) + 2 >= length) return writeRaw(out, outEnd, from, length);
  if (least > outEnd - out) return 0;
  memory.copy(out + header, TREE, tree);
  const streams = out + header + tree;
  const to = from + length;
  const end = length < LEAST_FOUR ? writeStream(streams, from, to) : writeFour(streams, from, to);
  if (end > outEnd) return 0;
  writeCodedHeader(out, length, end - out - header);
  return end;
}
