import { ZSTD_ENCODE_SCRATCH_BYTES, ZSTD_ENCODE_SLACK } from '../../src/kernel/abi.ts';
import type { TestKernel } from './backends.ts';

const GUARD = 64;
const MAX_SOURCE = 2 ** 21;

/** Room for any frame of `length` bytes: its header, and one for each block. */
export function roomFor(length: number): number {
  return length + 9 + 3 * Math.max(1, Math.ceil(length / 2 ** 17));
}

/** Runs a kernel's `zstd_compress` between guard bytes, with rubbish behind the source. */
export class ZstdEncoder {
  readonly #kernel: TestKernel;
  readonly #source;
  readonly #target;
  readonly #scratch;
  #calls = 0;

  constructor(kernel: TestKernel, longest = MAX_SOURCE) {
    this.#kernel = kernel;
    this.#source = kernel.arena.allocate(longest + ZSTD_ENCODE_SLACK);
    this.#target = kernel.arena.allocate(2 * GUARD + roomFor(longest) + ZSTD_ENCODE_SLACK);
    this.#scratch = kernel.arena.allocate(GUARD + ZSTD_ENCODE_SCRATCH_BYTES + GUARD);
    this.#scratch.bytes.fill(0xc3);
  }

  /** The frame, or null if it does not fit. */
  run(plain: Uint8Array, capacity = roomFor(plain.length)): Buffer | null {
    // Neither the rubbish nor what an earlier call left may change the frame.
    const source = this.#source.bytes;
    source.set(plain);
    source.fill(this.#calls++ & 255, plain.length, plain.length + ZSTD_ENCODE_SLACK);
    const { bytes } = this.#target;
    bytes.fill(0xc3, 0, capacity + 2 * GUARD);
    const length = this.#kernel.exports.zstd_compress(
      this.#source.ptr,
      plain.length,
      this.#target.ptr + GUARD,
      capacity,
      this.#scratch.ptr + GUARD,
    );
    checkGuards(bytes, capacity);
    checkGuards(this.#scratch.bytes, ZSTD_ENCODE_SCRATCH_BYTES);
    if (Buffer.compare(source.subarray(0, plain.length), plain) !== 0) {
      throw new Error('source changed');
    }
    if (length > capacity || length < -1) throw new Error(`length ${length} of ${capacity}`);
    return length < 0 ? null : Buffer.from(bytes.subarray(GUARD, GUARD + length));
  }
}

function checkGuards(bytes: Uint8Array, length: number): void {
  for (let i = 0; i < GUARD; i++) {
    if (bytes[i] !== 0xc3 || bytes[GUARD + length + i] !== 0xc3) {
      throw new Error('guard bytes changed');
    }
  }
}

/** What the blocks of a frame of the encoder are made of. */
export interface FrameParts {
  contentSize: number;
  /** Blocks stored as they are. */
  raw: number;
  /** Of each compressed block: type and streams of the literals (RFC 8878, 3.1.1.3.1.1). */
  literals: { type: number; streams: number }[];
  /** Of each compressed block with sequences: modes of the three tables, literal lengths first. */
  modes: number[][];
}

/** Takes a frame apart; throws unless it is a single segment with a size and without a checksum. */
export function partsOf(frame: Uint8Array): FrameParts {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  const descriptor = frame[4] as number;
  if (view.getUint32(0, true) !== 0xfd2fb528 || (descriptor & 0x3f) !== 0x20) {
    throw new Error(`frame header descriptor ${descriptor}`);
  }
  const format = descriptor >> 6;
  const contentSize =
    format === 0
      ? view.getUint8(5)
      : format === 1
        ? view.getUint16(5, true) + 256
        : view.getUint32(5, true);
  const parts: FrameParts = { contentSize, raw: 0, literals: [], modes: [] };
  let at = [6, 7, 9][format] as number;
  for (let isLast = false; !isLast; ) {
    const header = view.getUint16(at, true) + view.getUint8(at + 2) * 65536;
    isLast = (header & 1) === 1;
    const type = (header >> 1) & 3;
    if (type === 0) parts.raw++;
    else if (type === 2) readBlock(view, at + 3, parts);
    else throw new Error(`block type ${type}`);
    at += 3 + (header >> 3);
  }
  if (at !== frame.length) throw new Error(`${frame.length - at} bytes behind the last block`);
  return parts;
}

function readBlock(view: DataView, at: number, parts: FrameParts): void {
  const first = view.getUint8(at);
  const type = first & 3;
  const format = (first >> 2) & 3;
  parts.literals.push({ type, streams: type < 2 ? 0 : format === 0 ? 1 : 4 });
  const headerBytes = (type < 2 ? [1, 2, 1, 3] : [3, 3, 4, 5])[format] as number;
  let header = 0;
  for (let i = 0; i < headerBytes; i++) header += view.getUint8(at + i) * 256 ** i;
  const width = [10, 10, 14, 18][format] as number;
  const size = Math.floor(header / (type < 2 ? (headerBytes === 1 ? 8 : 16) : 2 ** (4 + width)));
  let next = at + headerBytes + (type === 1 ? 1 : size);
  const count = view.getUint8(next);
  if (count === 0) return;
  next += count === 255 ? 3 : count >= 128 ? 2 : 1;
  const modes = view.getUint8(next);
  parts.modes.push([modes >> 6, (modes >> 4) & 3, (modes >> 2) & 3]);
}
