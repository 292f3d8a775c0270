import {
  INFLATE_INPUT_SLACK,
  INFLATE_OK,
  INFLATE_OUTPUT_SLACK,
  ZSTD_OK,
  ZSTD_SCRATCH_BYTES,
} from '../../src/kernel/abi.ts';
import type { Region } from '../../src/kernel/arena.ts';
import type { TestKernel } from '../kernel/backends.ts';
import { MAX_OUTPUT, MAX_STREAM } from './native-codecs.ts';

/** Bytes before and behind whatever a kernel may write to. */
const GUARD = 1024;
const PATTERN = new Uint8Array(GUARD).fill(0xc3);
/** Behind the stream: must not matter. */
const RUBBISH = new Uint8Array(INFLATE_INPUT_SLACK);

/** A kernel's function for decoding, between guards. */
export class GuardedDecoder {
  readonly name: string;
  readonly #kernel: TestKernel;
  readonly #isZstd: boolean;
  readonly #input: Region;
  readonly #output: Region;
  readonly #scratch: Region;

  constructor(name: string, kernel: TestKernel, codec: 'deflate' | 'zstd') {
    this.name = name;
    this.#kernel = kernel;
    this.#isZstd = codec === 'zstd';
    this.#input = kernel.arena.allocate(MAX_STREAM + INFLATE_INPUT_SLACK);
    this.#output = kernel.arena.allocate(GUARD + MAX_OUTPUT + INFLATE_OUTPUT_SLACK + GUARD);
    this.#scratch = kernel.arena.allocate(GUARD + ZSTD_SCRATCH_BYTES + GUARD);
    this.#scratch.bytes.fill(0xc3);
  }

  /**
   * Decodes to `length` bytes; `bytes` is undefined where the kernel reports an error, and else a view
   * of its memory.
   * @throws Error it wrote where it must not
   */
  run(stream: Uint8Array, length: number, behind: number) {
    const input = this.#input.bytes;
    const output = this.#output.bytes;
    const rubbish = RUBBISH.fill(behind);
    input.set(stream);
    input.set(rubbish, stream.length);
    const guarded = length + INFLATE_OUTPUT_SLACK;
    output.fill(0xc3, 0, GUARD + guarded + GUARD);
    const status = this.#decode(stream.length, length);
    expectGuards('output', output, guarded);
    if (this.#isZstd) expectGuards('scratch memory', this.#scratch.bytes, ZSTD_SCRATCH_BYTES);
    const isSame =
      Buffer.compare(input.subarray(0, stream.length), stream) === 0 &&
      Buffer.compare(input.subarray(stream.length, stream.length + rubbish.length), rubbish) === 0;
    if (!isSame) throw new Error('the input was changed');
    const isGood = status === (this.#isZstd ? ZSTD_OK : INFLATE_OK);
    return { status, bytes: isGood ? output.subarray(GUARD, GUARD + length) : undefined };
  }

  #decode(streamLength: number, length: number): number {
    const { exports } = this.#kernel;
    const target = this.#output.ptr + GUARD;
    if (!this.#isZstd) return exports.inflate(this.#input.ptr, streamLength, target, length);
    const scratch = this.#scratch.ptr + GUARD;
    return exports.zstd_decompress(this.#input.ptr, streamLength, target, length, scratch);
  }
}

function expectGuards(what: string, bytes: Uint8Array, length: number): void {
  const behind = bytes.subarray(GUARD + length, GUARD + length + GUARD);
  const isIntact =
    Buffer.compare(bytes.subarray(0, GUARD), PATTERN) === 0 &&
    Buffer.compare(behind, PATTERN) === 0;
  if (!isIntact) throw new Error(`bytes outside the ${what} were changed`);
}
