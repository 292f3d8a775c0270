import { Qcow2Error } from '../errors.ts';
import {
  ZSTD_CHECKSUM,
  ZSTD_INVALID,
  ZSTD_LONG,
  ZSTD_OK,
  ZSTD_SCRATCH_BYTES,
  ZSTD_SHORT,
  ZSTD_TRUNCATED,
  ZSTD_UNSUPPORTED,
} from '../kernel/abi.ts';
import type { Region } from '../kernel/arena.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { badStream } from './bad-stream.ts';
import type { Codec } from './codec.ts';
import type { ZstdCompressor } from './zstd-compressor.ts';

/** What the codecs of a kernel decode in; no two of them do it at the same time. */
const scratches = new WeakMap<Kernel, Region>();

/** Compression type 1: zstd frames (format section 8). */
export class ZstdCodec implements Codec {
  readonly type = 1;
  readonly name = 'zstd';
  readonly #kernel: Kernel;
  readonly #compressor: ZstdCompressor | undefined;
  readonly #scratch: Region;
  #inputCopy: Region | undefined;
  #outputCopy: Region | undefined;

  /**
   * May grow the kernel's memory, and so detach views of it.
   * @param compressor without it `compress` is UNSUPPORTED
   */
  constructor(kernel: Kernel, compressor: ZstdCompressor | undefined) {
    this.#kernel = kernel;
    this.#compressor = compressor;
    let scratch = scratches.get(kernel);
    if (scratch === undefined) {
      scratch = kernel.arena.allocate(ZSTD_SCRATCH_BYTES);
      scratches.set(kernel, scratch);
    }
    this.#scratch = scratch;
  }

  /**
   * Decodes frames until `output` is full; the last one must end exactly there. What follows it in
   * `input` is ignored. Without copies if both views lie in kernel memory. Otherwise through regions
   * of this codec, and taking those, at the first call for a cluster size, may grow the memory and so
   * detach views of it.
   * @throws Qcow2Error BAD_DATA
   */
  decompress(input: Uint8Array, output: Uint8Array): void {
    const { arena, exports } = this.#kernel;
    const { length } = output;
    const inputLength = input.length;
    const isDirect = arena.contains(output);
    // Addresses before regions are taken: they survive growth, views do not.
    let source = arena.contains(input) ? arena.pointer(input) : -1;
    let target = isDirect ? arena.pointer(output) : -1;
    if (source < 0) {
      // The entry of an L2 table can tell up to twice a cluster of input.
      this.#inputCopy = arena.fit(this.#inputCopy, Math.max(inputLength, 2 * length));
      this.#inputCopy.bytes.set(input);
      source = this.#inputCopy.ptr;
    }
    if (target < 0) {
      this.#outputCopy = arena.fit(this.#outputCopy, length);
      target = this.#outputCopy.ptr;
    }
    const scratch = this.#scratch.ptr;
    const status = exports.zstd_decompress(source, inputLength, target, length, scratch);
    if (status !== ZSTD_OK) throw badStream('zstd', reasonOf(status, inputLength, length));
    if (!isDirect) output.set(arena.u8.subarray(target, target + length));
  }

  /** @throws Qcow2Error UNSUPPORTED: the codec was loaded for decoding alone */
  compress(input: Uint8Array, output: Uint8Array): number {
    if (this.#compressor === undefined) {
      throw new Qcow2Error(
        'UNSUPPORTED',
        'this zstd codec only decodes: load it with {compress: true}, which needs Node 22.15 or newer, or `npm install @bokuweb/zstd-wasm`',
      );
    }
    const frame = this.#compressor.compressFrame(input);
    if (frame.length > output.length) return -1;
    output.set(frame);
    return frame.length;
  }
}

function reasonOf(status: number, inputLength: number, length: number): string {
  switch (status) {
    case ZSTD_SHORT:
      return `its frames hold less than the ${length} bytes of a cluster`;
    case ZSTD_LONG:
      return `its frames hold more than the ${length} bytes of a cluster`;
    case ZSTD_TRUNCATED:
      return `its frames do not end within its ${inputLength} bytes`;
    case ZSTD_CHECKSUM:
      return 'the checksum of a frame does not match its content';
    case ZSTD_UNSUPPORTED:
      return 'a frame needs a dictionary or a window above 128 MiB';
    case ZSTD_INVALID:
      return 'its bytes are no zstd frames';
    default:
      return `zstd_decompress reports status ${status}`;
  }
}
