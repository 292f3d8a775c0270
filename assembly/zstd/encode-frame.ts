// Makes a zstd frame (RFC 8878, 3.1.1) of one cluster: a single segment that tells its content size,
// without a checksum.
import { ZSTD_ENCODE_SCRATCH_BYTES } from '../abi';
import { fillCosts } from './encode-fse';
import {
  BLOCK_BYTES,
  CODES,
  ENCODE_SCRATCH_END,
  LITERALS,
  LONG_TABLE,
  SEQUENCES,
  SHORT_TABLE,
} from './encode-layout';
import { writeLiterals } from './encode-literals';
import {
  distance0,
  distance1,
  literalsEnd,
  parse,
  sequencesEnd,
  setDistances,
} from './encode-match';
import { fillSequenceCodes, writeSequences } from './encode-sequences';

// @ts-ignore: decorator
@inline const MAGIC: u32 = 0xfd2fb528;
// @ts-ignore: decorator
@inline const RAW: u32 = 0;
// @ts-ignore: decorator
@inline const COMPRESSED: u32 = 2;
// @ts-ignore: decorator
@inline const BLOCK_HEADER: usize = 3;
/** Up to this length the short table, but for usual clusters, is of 4 bytes. */
// @ts-ignore: decorator
@inline const SHORT_SOURCE: usize = 1 << 18;
/** `tableBits` for usual clusters. */
// @ts-ignore: decorator
@inline const USUAL_BITS: u32 = 15;

fillCosts();
fillSequenceCodes();

/** Bits of the index of the long table; the short one has one less. */
let tableBits: u32 = 0;

export function zstd_compress(
  src: usize,
  src_length: usize,
  out: usize,
  out_capacity: usize,
  scratch: usize,
): i32 {
  assert(ENCODE_SCRATCH_END <= <usize>ZSTD_ENCODE_SCRATCH_BYTES && src_length <= 16 << 20);
  if (out_capacity < 9) return -1;
  // The frame is stored in whole words: what lies behind the output is put back at the end.
  const outEnd = out + out_capacity;
  const a = load<u64>(outEnd);
  const b = load<u64>(outEnd, 8);
  const c = load<u64>(outEnd, 16);
  const d = load<u64>(outEnd, 24);
  clearTables(src_length, scratch);
  setDistances(1, 4);
  const end = writeBlocks(src, src + src_length, writeHeader(out, src_length), outEnd, scratch);
  store<u64>(outEnd, a);
  store<u64>(outEnd, b, 8);
  store<u64>(outEnd, c, 16);
  store<u64>(outEnd, d, 24);
  return end == 0 ? -1 : <i32>(end - out);
}

/** Whether positions of two bytes will do, and the tables have the size that is known beforehand. */
// @ts-ignore: decorator
@inline
function isUsual(length: usize): bool {
  return length > 1 << 14 && length <= 1 << 16;
}

/** Clears as much of the tables as a source of `length` is worth. */
function clearTables(length: usize, scratch: usize): void {
  tableBits = min<u32>(32 - clz<u32>((<u32>length - 1) | 1023), 17);
  if (isUsual(length)) tableBits = USUAL_BITS;
  const width: u32 = isUsual(length) ? 1 : 2;
  memory.fill(scratch + LONG_TABLE, 0, (<usize>1) << (tableBits + width));
  memory.fill(scratch + SHORT_TABLE, 0, (<usize>1) << (tableBits - 1 + width));
}

/** Writes the frame header (RFC 8878, 3.1.1.1); where it ends. */
function writeHeader(out: usize, length: usize): usize {
  store<u32>(out, MAGIC);
  if (length < 256) {
    store<u16>(out, 0x20 | (length << 8), 4);
    return out + 6;
  }
  if (length < 65536 + 256) {
    store<u8>(out, 0x60, 4);
    store<u16>(out, length - 256, 5);
    return out + 7;
  }
  store<u8>(out, 0xa0, 4);
  store<u32>(out, length, 5);
  return out + 9;
}

function writeBlockHeader(out: usize, type: u32, size: usize, isLast: bool): void {
  const header = u32(isLast) | (type << 1) | (<u32>size << 3);
  store<u16>(out, header);
  store<u8>(out, header >> 16, 2);
}

/** Writes the source block by block; where the frame ends, or 0 if it does not fit. */
function writeBlocks(src: usize, end: usize, out: usize, outEnd: usize, scratch: usize): usize {
  let at = src;
  do {
    const length = min(end - at, BLOCK_BYTES);
    const isLast = at + length == end;
    if (outEnd < out + BLOCK_HEADER) return 0;
    const first = distance0;
    const second = distance1;
    const content = out + BLOCK_HEADER;
    const blockEnd = writeCompressed(src, end, at, at + length, content, outEnd, scratch);
    if (blockEnd != 0) {
      writeBlockHeader(out, COMPRESSED, blockEnd - content, isLast);
      out = blockEnd;
    } else {
      // No decoder sees the sequences that were found.
      setDistances(first, second);
      if (length + BLOCK_HEADER > outEnd - out) return 0;
      writeBlockHeader(out, RAW, length, isLast);
      memory.copy(content, at, length);
      out = content + length;
    }
    at += length;
  } while (at < end);
  return out;
}

/** Writes what is in a compressed block; where it ends, or 0 if it saves little or does not fit. */
function writeCompressed(
  src: usize,
  sourceEnd: usize,
  at: usize,
  end: usize,
  out: usize,
  outEnd: usize,
  scratch: usize,
): usize {
  const length = end - at;
  const gain = (length >> 6) + 2;
  if (length <= gain) return 0;
  outEnd = min(outEnd, out + length - gain);
  parseBlock(src, sourceEnd, at, end, scratch);
  const literals = scratch + LITERALS;
  const sequencesAt = writeLiterals(out, outEnd, literals, literalsEnd - literals);
  if (sequencesAt == 0) return 0;
  const sequences = scratch + SEQUENCES;
  return writeSequences(sequencesAt, outEnd, sequences, sequencesEnd, scratch + CODES);
}

function parseBlock(src: usize, sourceEnd: usize, at: usize, end: usize, scratch: usize): void {
  const long = scratch + LONG_TABLE;
  const short = scratch + SHORT_TABLE;
  const literals = scratch + LITERALS;
  const sequences = scratch + SEQUENCES;
  if (isUsual(sourceEnd - src)) {
    // With constant shifts the loop has registers enough.
    const shift: u64 = 64 - USUAL_BITS;
    parse<u16>(long, short, shift, shift + 1, 24, src, at, end, literals, sequences);
  } else {
    const shift = <u64>(64 - tableBits);
    // Short sources have few matches of 5 bytes, and long ones too many of 4.
    const skip: u64 = sourceEnd - src <= SHORT_SOURCE ? 32 : 24;
    parse<u32>(long, short, shift, shift + 1, skip, src, at, end, literals, sequences);
  }
}
