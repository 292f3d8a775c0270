import { readFileSync } from 'node:fs';
import * as library from '@bokuweb/zstd-wasm';
import {
  INFLATE_INPUT_SLACK,
  INFLATE_OUTPUT_SLACK,
  ZSTD_OK,
  ZSTD_SCRATCH_BYTES,
} from '../../src/kernel/abi.ts';
import type { TestKernel } from './backends.ts';

await library.init();
const context = library.createDCtx();

const MAX_STREAM = 2 ** 21 + 65_536;
const MAX_OUTPUT = 2 ** 21;
const GUARD = 64;

/** Runs the kernel between guard bytes, with rubbish behind the stream. */
export class ZstdDecoder {
  readonly #kernel: TestKernel;
  readonly #input;
  readonly #output;
  readonly #scratch;

  constructor(kernel: TestKernel) {
    this.#kernel = kernel;
    this.#scratch = kernel.arena.allocate(GUARD + ZSTD_SCRATCH_BYTES + GUARD);
    this.#input = kernel.arena.allocate(MAX_STREAM + INFLATE_INPUT_SLACK);
    this.#output = kernel.arena.allocate(GUARD + MAX_OUTPUT + INFLATE_OUTPUT_SLACK + GUARD);
    this.#scratch.bytes.fill(0xc3);
  }

  run(stream: Uint8Array, length: number, behind = 0xa5): { status: number; bytes?: Buffer } {
    const input = this.#input.bytes;
    input.set(stream);
    input.fill(behind, stream.length, stream.length + INFLATE_INPUT_SLACK);
    const output = this.#output.bytes;
    output.fill(0xc3, 0, GUARD + length + INFLATE_OUTPUT_SLACK + GUARD);
    const start = this.#output.ptr + GUARD;
    const status = this.#kernel.exports.zstd_decompress(
      this.#input.ptr,
      stream.length,
      start,
      length,
      this.#scratch.ptr + GUARD,
    );
    checkGuards(output, length + INFLATE_OUTPUT_SLACK);
    checkGuards(this.#scratch.bytes, ZSTD_SCRATCH_BYTES);
    if (Buffer.compare(input.subarray(0, stream.length), stream) !== 0) {
      throw new Error('input changed');
    }
    if (status !== ZSTD_OK) return { status };
    return { status, bytes: Buffer.from(output.subarray(GUARD, GUARD + length)) };
  }
}

function checkGuards(bytes: Uint8Array, length: number): void {
  for (let i = 0; i < GUARD; i++) {
    if (bytes[i] !== 0xc3 || bytes[GUARD + length + i] !== 0xc3) {
      throw new Error('guard bytes changed');
    }
  }
}

/** A frame of libzstd, with content size and without checksum. */
export function compress(data: Uint8Array, level: number): Uint8Array {
  return library.compress(data, level);
}

/** What libzstd makes of frames, with nothing behind them, that hold `length` bytes. */
export function decodeByLibrary(frames: Uint8Array, length: number): Uint8Array | undefined {
  try {
    const bytes = library.decompressUsingDict(context, frames, new Uint8Array(0), {
      defaultHeapSize: length,
    });
    return bytes.length === length ? bytes : undefined;
  } catch {
    return undefined;
  }
}

/** Length of the frame that `stream` begins with, from its block headers; undefined if it is cut. */
export function frameLength(stream: Uint8Array): number | undefined {
  const descriptor = stream[4] ?? 0;
  let at = headerLength(descriptor);
  for (let isLast = false; !isLast; ) {
    if (at + 3 > stream.length) return undefined;
    const header = stream[at]! + stream[at + 1]! * 256 + stream[at + 2]! * 65_536;
    at += 3 + (((header >> 1) & 3) === 1 ? 1 : header >> 3);
    isLast = (header & 1) === 1;
  }
  if (descriptor & 4) at += 4;
  return at <= stream.length ? at : undefined;
}

function headerLength(descriptor: number): number {
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const sizeBytes = [isSingleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6]!;
  return 5 + (isSingleSegment ? 0 : 1) + [0, 1, 2, 4][descriptor & 3]! + sizeBytes;
}

/** A frame of libzstd with another header: a window of 8 MiB and no content size. */
export function withoutSize(frame: Uint8Array): Uint8Array {
  const blocks = frame.subarray(headerLength(frame[4]!));
  return Buffer.concat([Buffer.from('28b52ffd0068', 'hex'), blocks]);
}

/** A frame of libzstd and, as told in its header, a checksum. */
export function withChecksum(frame: Uint8Array, checksum: bigint): Uint8Array {
  const result = Buffer.concat([frame, Buffer.alloc(4)]);
  result[4]! |= 4;
  result.writeUInt32LE(Number(checksum & 0xffffffffn), frame.length);
  return result;
}

/** Texts, code, tables, noise and long runs; `length` bytes each. */
export function contents(length: number): Uint8Array[] {
  const file = (name: string) => readFileSync(new URL(`../../${name}`, import.meta.url));
  const repeated = (unit: Uint8Array) =>
    Buffer.concat(new Array<Uint8Array>(Math.ceil(length / unit.length)).fill(unit)).subarray(
      0,
      length,
    );
  let state = 1;
  const random = () => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return state >>> 8;
  };
  const noise = Buffer.from(Array.from({ length }, () => random()));
  const skewed = Buffer.from(Array.from({ length }, () => 31 - Math.clz32(random() | 1)));
  const sparse = Buffer.alloc(length);
  for (let i = 0; i < length; i += 997) sparse[i] = random();
  const rows = Array.from(
    { length: 1 + length / 8 },
    (_, i) => `${i};${random() % 1000};${i % 13}`,
  );
  const records = Buffer.alloc(length);
  for (let i = 0; i + 16 <= length; i += 16) {
    records.writeUInt32LE(0x1000 + i, i);
    records[i + 4] = random() % 3;
    records.writeUInt16LE(random() & 0x1ff, i + 8);
  }
  const mixed = Buffer.alloc(length);
  const parts = [repeated(file('package.json')), noise, sparse, records, skewed];
  for (let at = 0, turn = 0; at < length; turn++) {
    const size = 1 + (random() % 9000);
    const part = parts[turn % parts.length]!.subarray(at, at + size);
    mixed.set(part, at);
    at += size;
  }
  return [
    repeated(file('src/kernel/exports.ts')),
    repeated(file('build/kernel-debug-simd.wasm')),
    noise,
    skewed,
    sparse,
    Buffer.from(rows.join('\n')).subarray(0, length),
    records,
    mixed,
    repeated(Buffer.from('abcdefghijklmnopqrstuvw')),
    Buffer.alloc(length, 7),
  ];
}

/** A generator of numbers that depends on its seed alone. */
export function makeRandom(seed: number): (limit: number) => number {
  let state = seed | 1;
  return (limit) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % limit;
  };
}

/** Whether a block of the frame has literals in four Huffman streams. */
export function hasFourStreams(frame: Uint8Array): boolean {
  let at = headerLength(frame[4]!);
  for (let isLast = false; !isLast; ) {
    const header = frame[at]! + frame[at + 1]! * 256 + frame[at + 2]! * 65_536;
    const literals = frame[at + 3]!;
    if (((header >> 1) & 3) === 2 && (literals & 3) >= 2 && (literals & 12) !== 0) return true;
    at += 3 + (((header >> 1) & 3) === 1 ? 1 : header >> 3);
    isLast = (header & 1) === 1;
  }
  return false;
}

/** Parts of a block with one sequence, in raw literals and tables of one code. */
export interface OneSequence {
  readonly literals: Uint8Array;
  /** Literals in front of the match; the others follow it. */
  readonly literalLength: number;
  /** 1 to 3 repeat a distance; greater ones are a distance plus 3. */
  readonly offsetValue: number;
  readonly matchLength: number;
  /** Byte with the modes of the three tables; without it, each describes its own. */
  readonly modes?: number;
}

/** Content of a compressed block. */
export function sequenceBlock(sequence: OneSequence): Uint8Array {
  const { literals, literalLength, offsetValue, matchLength, modes = 0x54 } = sequence;
  const offsetCode = 31 - Math.clz32(offsetValue);
  const literal = lengthCode(literalLength, 16, 0, LITERAL_BITS);
  const match = lengthCode(matchLength, 32, 3, MATCH_BITS);
  const bits =
    `1${binary(offsetValue - 2 ** offsetCode, offsetCode)}` +
    binary(match.extra, match.bits) +
    binary(literal.extra, literal.bits);
  const padded = bits.padStart(Math.ceil(bits.length / 8) * 8, '0');
  const stream = padded.match(/.{8}/g)!.map((byte) => Number.parseInt(byte, 2));
  const size = literals.length * 16 + 12;
  return Uint8Array.of(
    ...[size & 255, (size >> 8) & 255, size >> 16],
    ...literals,
    ...[1, modes],
    ...(modes === 0x54 ? [literal.code, offsetCode, match.code] : []),
    ...stream.reverse(),
  );
}

const LITERAL_BITS = [1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
const MATCH_BITS = [1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

function lengthCode(value: number, plain: number, first: number, bits: readonly number[]) {
  let code = 0;
  let base = first;
  const bitsOf = (index: number) => (index < plain ? 0 : bits[index - plain]!);
  while (base + 2 ** bitsOf(code) <= value) base += 2 ** bitsOf(code++);
  return { code, extra: value - base, bits: bitsOf(code) };
}

function binary(value: number, bits: number): string {
  return bits === 0 ? '' : value.toString(2).padStart(bits, '0');
}
