import {
  DEFLATE_BEST,
  DEFLATE_DEFAULT,
  DEFLATE_FAST,
  DEFLATE_SCRATCH_BYTES,
  INFLATE_INVALID,
  INFLATE_OK,
  INFLATE_SHORT,
  INFLATE_TRUNCATED,
} from '../kernel/abi.ts';
import type { Region } from '../kernel/arena.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { badStream } from './bad-stream.ts';
import type { Codec } from './codec.ts';

/** How much time to spend on compressing. */
export type DeflateLevel = 'fast' | 'default' | 'best';

const LEVELS: Readonly<Record<DeflateLevel, number>> = {
  fast: DEFLATE_FAST,
  default: DEFLATE_DEFAULT,
  best: DEFLATE_BEST,
};

export interface DeflateOptions {
  /** Takes the memory that `compress` works in at once; else its first call may grow the memory. */
  readonly compress?: boolean;
  readonly level?: DeflateLevel;
}

/** Compression type 0: raw deflate (RFC 1951) without header or checksum (format section 8). */
export class DeflateCodec implements Codec {
  readonly type = 0;
  readonly name = 'zlib';
  readonly #kernel: Kernel;
  readonly #level: number;
  #inputScratch: Region | undefined;
  #outputScratch: Region | undefined;
  #compressScratch: Region | undefined;

  constructor(kernel: Kernel, options: DeflateOptions = {}) {
    this.#kernel = kernel;
    this.#level = LEVELS[options.level ?? 'default'];
    if (options.compress) this.#compressScratch = kernel.arena.allocate(DEFLATE_SCRATCH_BYTES);
  }

  /**
   * Decodes to exactly `output.length` bytes; what a stream holds beyond them is dropped. Without
   * copies if both views lie in kernel memory. Otherwise through regions of this codec, and taking
   * those, at the first call for a cluster size, may grow the memory and so detach views of it.
   * @throws Qcow2Error BAD_DATA
   */
  decompress(input: Uint8Array, output: Uint8Array): void {
    const { arena, exports } = this.#kernel;
    const { length } = output;
    const direct = arena.contains(output);
    // Addresses before regions are taken: they survive growth, views do not.
    let source = arena.contains(input) ? arena.pointer(input) : -1;
    let target = direct ? arena.pointer(output) : -1;
    const inputLength = input.length;
    if (source < 0) {
      // The entry of an L2 table can tell up to twice a cluster of input.
      const room = Math.max(inputLength, 2 * length);
      const region = arena.fit(this.#inputScratch, room);
      this.#inputScratch = region;
      region.bytes.set(input);
      source = region.ptr;
    }
    if (target < 0) {
      this.#outputScratch = arena.fit(this.#outputScratch, length);
      target = this.#outputScratch.ptr;
    }
    const status = exports.inflate(source, inputLength, target, length);
    if (status !== INFLATE_OK) throw badStream('zlib', reasonOf(status, inputLength, length));
    if (!direct) output.set(arena.u8.subarray(target, target + length));
  }

  /**
   * Compresses with distances of at most 4 KiB, which every reader takes. Without copies if both
   * views lie in kernel memory; what lies behind them stays as it is. Like `decompress`, may grow
   * the memory when it takes regions of its own.
   */
  compress(input: Uint8Array, output: Uint8Array): number {
    const { arena, exports } = this.#kernel;
    const direct = arena.contains(output);
    let source = arena.contains(input) ? arena.pointer(input) : -1;
    let target = direct ? arena.pointer(output) : -1;
    const { length } = input;
    // Stored blocks add 6 bytes to at least 8 KiB: no stream is longer than this.
    const capacity = Math.min(output.length, length + (length >> 8) + 64);
    this.#compressScratch ??= arena.allocate(DEFLATE_SCRATCH_BYTES);
    if (source < 0) {
      const region = arena.fit(this.#inputScratch, length);
      this.#inputScratch = region;
      region.bytes.set(input);
      source = region.ptr;
    }
    if (target < 0) {
      this.#outputScratch = arena.fit(this.#outputScratch, capacity);
      target = this.#outputScratch.ptr;
    }
    const scratch = this.#compressScratch.ptr;
    const written = exports.deflate(source, length, target, capacity, this.#level, scratch);
    if (!direct && written > 0) output.set(arena.u8.subarray(target, target + written));
    return written;
  }
}

function reasonOf(status: number, inputLength: number, length: number): string {
  switch (status) {
    case INFLATE_SHORT:
      return `the stream holds less than the ${length} bytes of a cluster`;
    case INFLATE_TRUNCATED:
      return `the stream does not end within its ${inputLength} bytes`;
    case INFLATE_INVALID:
      return 'its bytes are no deflate stream';
    default:
      return `inflate reports status ${status}`;
  }
}
