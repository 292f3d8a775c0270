import { badStream } from './bad-stream.ts';

/** Magic number of a data frame, read little-endian (RFC 8878, 3.1.1). */
const DATA_MAGIC = 0xfd2fb528;
/** Magic numbers of skippable frames end in any hexadecimal digit (RFC 8878, 3.1.2). */
const SKIPPABLE_MAGIC = 0x184d2a50;
/** Most bytes of a block, stored or decoded (RFC 8878, 3.1.1.2.4). */
export const ZSTD_BLOCK_MAX = 128 * 1024;
/**
 * Largest window in bytes of a frame that does not tell its content size: what zstd itself, and so
 * QEMU, accepts without being asked for more.
 */
export const ZSTD_WINDOW_MAX = 128 * 1024 * 1024;

const BLOCK_RLE = 1;
const BLOCK_RESERVED = 3;

/** A frame to hand to a decoder, or one to step over. All lengths are in bytes. */
export type ZstdFrame = ZstdDataFrame | ZstdSkippableFrame;

export interface ZstdSkippableFrame {
  readonly kind: 'skippable';
  /** Length of the whole frame. */
  readonly length: number;
}

export interface ZstdDataFrame extends ZstdFrameHeader {
  readonly kind: 'data';
  /** Length of the whole frame: magic number, header, blocks, checksum. */
  readonly length: number;
}

/** Frame header of a data frame (RFC 8878, 3.1.1.1). */
export interface ZstdFrameHeader {
  /** Length of magic number and header. */
  readonly headerLength: number;
  /** Decoded length of the frame, when the header tells it. Above 2^53 it is rounded. */
  readonly contentSize: number | undefined;
  /** How far back matches may reach. Without a window descriptor this is the content size. */
  readonly windowSize: number;
  /** Whether the header has a window descriptor; it is then the byte at offset 5 of the frame. */
  readonly hasWindowDescriptor: boolean;
  /** Whether four checksum bytes follow the last block. */
  readonly hasChecksum: boolean;
}

/**
 * Finds the extent of the zstd frame at `offset` from its header and block headers; no content is
 * decoded. `input` may go on behind the frame.
 * @throws Qcow2Error BAD_DATA: not a frame, cut off, or asking for a dictionary
 */
export function parseZstdFrame(input: Uint8Array, offset: number): ZstdFrame {
  const view = new DataView(input.buffer, input.byteOffset + offset, input.length - offset);
  if (view.byteLength < 4) throw truncated(view, 'a magic number');
  const magic = view.getUint32(0, true);
  if (magic === DATA_MAGIC) {
    const header = parseFrameHeader(view);
    // zstd, and so QEMU, holds blocks to the window only when it cannot decode in one go.
    const window = header.contentSize === undefined ? header.windowSize : ZSTD_BLOCK_MAX;
    const blockLimit = Math.min(window, ZSTD_BLOCK_MAX);
    const blocksEnd = endOfBlocks(view, header.headerLength, blockLimit);
    const end = blocksEnd + (header.hasChecksum ? 4 : 0);
    if (end > view.byteLength) throw truncated(view, 'the checksum');
    return { kind: 'data', length: end, ...header };
  }
  if ((magic & ~0xf) === SKIPPABLE_MAGIC) {
    if (view.byteLength < 8) throw truncated(view, 'the length of a skippable frame');
    const length = 8 + view.getUint32(4, true);
    if (length > view.byteLength) throw truncated(view, 'a skippable frame');
    return { kind: 'skippable', length };
  }
  throw badStream('zstd', `no zstd frame at byte ${offset} of the stream`);
}

function parseFrameHeader(view: DataView): ZstdFrameHeader {
  if (view.byteLength < 5) throw truncated(view, 'a frame header');
  const descriptor = view.getUint8(4);
  if (descriptor & 0x08) throw badStream('zstd', 'reserved bit 3 of a frame header is set');
  const sizeFlag = descriptor >> 6;
  const singleSegment = (descriptor & 0x20) !== 0;
  const hasChecksum = (descriptor & 0x04) !== 0;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 0x03] as number;
  const sizeBytes = sizeFlag === 0 ? (singleSegment ? 1 : 0) : 1 << sizeFlag;

  const dictionaryAt = singleSegment ? 5 : 6;
  const sizeAt = dictionaryAt + dictionaryBytes;
  const headerLength = sizeAt + sizeBytes;
  if (view.byteLength < headerLength) throw truncated(view, 'a frame header');

  if (littleEndian(view, dictionaryAt, dictionaryBytes) !== 0) {
    throw badStream('zstd', 'a frame needs a dictionary, which qcow2 has none of');
  }
  // Two bytes count from 256 on: smaller sizes have the one-byte form.
  const contentSize =
    sizeBytes === 0
      ? undefined
      : littleEndian(view, sizeAt, sizeBytes) + (sizeBytes === 2 ? 256 : 0);
  const windowSize = singleSegment ? (contentSize as number) : decodeWindow(view.getUint8(5));
  return {
    headerLength,
    contentSize,
    windowSize,
    hasWindowDescriptor: !singleSegment,
    hasChecksum,
  };
}

/** Exponent in the high five bits, eighths to add in the low three (RFC 8878, 3.1.1.1.2). */
function decodeWindow(descriptor: number): number {
  const base = 2 ** (10 + (descriptor >> 3));
  return base + (base / 8) * (descriptor & 0x07);
}

/**
 * Walks the block headers from `position` on; returns the position behind the last block.
 * @param limit most bytes of a block, stored or decoded
 */
function endOfBlocks(view: DataView, position: number, limit: number): number {
  for (;;) {
    if (position + 3 > view.byteLength) throw truncated(view, 'a block header');
    const header = littleEndian(view, position, 3);
    const type = (header >> 1) & 0x03;
    const size = header >> 3;
    if (type === BLOCK_RESERVED) {
      throw badStream('zstd', `block of the reserved type 3 at byte ${position} of a frame`);
    }
    if (size > limit) {
      throw badStream(
        'zstd',
        `block of ${size} bytes at byte ${position} of a frame (limit ${limit})`,
      );
    }
    position += 3 + (type === BLOCK_RLE ? 1 : size);
    if (position > view.byteLength) throw truncated(view, 'a block');
    if (header & 1) return position;
  }
}

/** The `count` (0 to 8) bytes at `position` as a number; above 2^53 it is rounded. */
function littleEndian(view: DataView, position: number, count: number): number {
  let value = 0;
  for (let i = count - 1; i >= 0; i--) value = value * 256 + view.getUint8(position + i);
  return value;
}

function truncated(view: DataView, where: string) {
  return badStream(
    'zstd',
    `the input ends inside ${where} (${view.byteLength} bytes from the frame's start)`,
  );
}
