// zstd frames (RFC 8878, 3) into a buffer of known length (format section 8).
import {
  ZSTD_CHECKSUM,
  ZSTD_INVALID,
  ZSTD_LONG,
  ZSTD_OK,
  ZSTD_SCRATCH_BYTES,
  ZSTD_SHORT,
  ZSTD_TRUNCATED,
  ZSTD_UNSUPPORTED,
} from '../abi';
import { fillWeightEntries } from './huffman';
import { BLOCK_MAX, SCRATCH_END, setScratch } from './layout';
import { forgetTree, literals, literalsLength, readLiterals } from './literals';
import { fillSequenceEntries, forgetTables, readSequencesHeader } from './sequence-tables';
import { literalsAt, outputAt, resetDistances, runSequences } from './sequences';
import { xxh64 } from './xxh64';

// @ts-ignore: decorator
@inline const MAGIC: u32 = 0xfd2fb528;
/** The last digit may be any. */
// @ts-ignore: decorator
@inline const SKIPPABLE_MAGIC: u32 = 0x184d2a50;
/** Largest window of a frame without a content size, as in zstd's streaming decoder. */
// @ts-ignore: decorator
@inline const WINDOW_MAX: u64 = 128 << 20;

// @ts-ignore: decorator
@inline const RAW: u32 = 0;
// @ts-ignore: decorator
@inline const RLE: u32 = 1;
// @ts-ignore: decorator
@inline const RESERVED: u32 = 3;

let next: usize = 0;
let inputEnd: usize = 0;
let output: usize = 0;
let outputEnd: usize = 0;

// The frame being decoded.
let frameStart: usize = 0;
/** Where the content must or, if its size is unknown, may end. */
let frameEnd: usize = 0;
let hasSize: bool = false;
let hasChecksum: bool = false;
/** Most bytes of a block, stored or decoded. */
let blockMax: usize = 0;

fillWeightEntries();
fillSequenceEntries();

export function zstd_decompress(
  src: usize,
  src_length: usize,
  out: usize,
  out_length: usize,
  scratch: usize,
): i32 {
  assert(SCRATCH_END <= <usize>ZSTD_SCRATCH_BYTES && out_length <= 16 << 20);
  next = src;
  inputEnd = src + src_length;
  output = out;
  outputEnd = out + out_length;
  setScratch(scratch);
  let status = ZSTD_OK;
  while (output < outputEnd && status == ZSTD_OK) {
    if (next == inputEnd) return ZSTD_SHORT;
    if (inputEnd - next < 4) return ZSTD_TRUNCATED;
    const magic = load<u32>(next);
    if (magic == MAGIC) status = decodeFrame();
    else if ((magic & ~15) == SKIPPABLE_MAGIC) status = skipFrame();
    else status = ZSTD_INVALID;
  }
  return status;
}

function skipFrame(): i32 {
  const left = inputEnd - next;
  if (left < 8) return ZSTD_TRUNCATED;
  const length = <usize>load<u32>(next, 4);
  if (length > left - 8) return ZSTD_TRUNCATED;
  next += 8 + length;
  return ZSTD_OK;
}

function decodeFrame(): i32 {
  let status = readFrameHeader();
  if (status != ZSTD_OK) return status;
  forgetTree();
  forgetTables();
  resetDistances();
  let isLast: u32 = 0;
  while (!isLast) {
    if (inputEnd - next < 3) return ZSTD_TRUNCATED;
    const header = <u32>load<u16>(next) | (<u32>load<u8>(next, 2) << 16);
    next += 3;
    isLast = header & 1;
    status = decodeBlock((header >> 1) & 3, header >> 3);
    if (status != ZSTD_OK) return status;
  }
  if (hasSize && output != frameEnd) return ZSTD_INVALID;
  if (!hasChecksum) return ZSTD_OK;
  if (inputEnd - next < 4) return ZSTD_TRUNCATED;
  const checksum = load<u32>(next);
  next += 4;
  return <u32>xxh64(frameStart, output - frameStart) == checksum ? ZSTD_OK : ZSTD_CHECKSUM;
}

/** Reads a frame header (RFC 8878, 3.1.1.1). */
function readFrameHeader(): i32 {
  const left = inputEnd - next;
  if (left < 5) return ZSTD_TRUNCATED;
  const descriptor = <u32>load<u8>(next, 4);
  const isSingleSegment = (descriptor & 0x20) != 0;
  hasChecksum = (descriptor & 0x04) != 0;
  const sizeFlag = descriptor >> 6;
  const dictionaryFlag = descriptor & 3;
  const sizeBytes: usize = sizeFlag == 0 ? <usize>isSingleSegment : (<usize>1) << sizeFlag;
  const dictionaryBytes: usize = dictionaryFlag == 3 ? 4 : dictionaryFlag;
  const dictionaryAt: usize = isSingleSegment ? 5 : 6;
  const length = dictionaryAt + dictionaryBytes + sizeBytes;
  if (left < length) return ZSTD_TRUNCATED;
  if (descriptor & 0x08) return ZSTD_INVALID;
  if (littleEndian(next + dictionaryAt, dictionaryBytes) != 0) return ZSTD_UNSUPPORTED;

  hasSize = sizeBytes != 0;
  frameStart = output;
  frameEnd = outputEnd;
  blockMax = BLOCK_MAX;
  if (hasSize) {
    // Two bytes count from 256 on: smaller sizes have the one-byte form.
    let size = littleEndian(next + length - sizeBytes, sizeBytes);
    if (sizeBytes == 2) size += 256;
    if (size > <u64>(outputEnd - output)) return ZSTD_LONG;
    frameEnd = output + <usize>size;
  } else {
    const window = windowSize(load<u8>(next, 5));
    if (window > WINDOW_MAX) return ZSTD_UNSUPPORTED;
    // zstd holds blocks to the window only when it does not decode in one go.
    blockMax = min(blockMax, <usize>window);
  }
  next += length;
  return ZSTD_OK;
}

/** The `count` (0 to 8) bytes at `at` as a number. */
function littleEndian(at: usize, count: usize): u64 {
  return count == 0 ? 0 : load<u64>(at) & (<u64>-1 >> (64 - (<u64>count << 3)));
}

/** Exponent in the high five bits, eighths to add in the low three (RFC 8878, 3.1.1.1.2). */
function windowSize(descriptor: u32): u64 {
  const base = (<u64>1) << (10 + (descriptor >> 3));
  return base + (base >> 3) * <u64>(descriptor & 7);
}

/** Decodes the block of `size` at `next` (RFC 8878, 3.1.1.2). */
function decodeBlock(type: u32, size: usize): i32 {
  if (type == RESERVED || size > blockMax) return ZSTD_INVALID;
  const stored: usize = type == RLE ? 1 : size;
  if (stored > inputEnd - next) return ZSTD_TRUNCATED;
  const src = next;
  next += stored;
  if (type != RAW && type != RLE) return decodeCompressed(src, next);
  if (size > frameEnd - output) return hasSize ? ZSTD_INVALID : ZSTD_LONG;
  if (type == RAW) memory.copy(output, src, size);
  else memory.fill(output, load<u8>(src), size);
  output += size;
  return ZSTD_OK;
}

/** Decodes a compressed block (RFC 8878, 3.1.1.3). */
function decodeCompressed(src: usize, end: usize): i32 {
  // It is too long for the block, or for what remains of the output.
  const room = min(blockMax, frameEnd - output);
  const tooLong = hasSize || room == blockMax ? ZSTD_INVALID : ZSTD_LONG;
  const sequencesAt = readLiterals(src, end);
  if (sequencesAt == 0) return ZSTD_INVALID;
  if (literalsLength > room) return tooLong;
  const count = readSequencesHeader(sequencesAt, end);
  if (count < 0) return ZSTD_INVALID;
  let from = literals;
  const literalsEnd = literals + literalsLength;
  const outEnd = output + room;
  if (count > 0) {
    const status = runSequences(count, end, from, literalsEnd, frameStart, output, outEnd, tooLong);
    if (status != ZSTD_OK) return status;
    from = literalsAt;
    output = outputAt;
  }
  const rest = literalsEnd - from;
  if (rest > outEnd - output) return tooLong;
  memory.copy(output, from, rest);
  output += rest;
  return ZSTD_OK;
}
