import {
  ZSTD_CHECKSUM,
  ZSTD_ENCODE_SCRATCH_BYTES,
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

/** What the codecs of a kernel work in; no two of them do it at the same time. */
const decodeScratches = new WeakMap<Kernel, Region>();
const encodeScratches = new WeakMap<Kernel, Region>();

export interface ZstdOptions {
  /** Takes the memory that `compress` works in at once; else its first call may grow the memory. */
  readonly compress?: boolean;
}

/** Compression type 1: zstd frames (format section 8). */
export class ZstdCodec implements Codec {
  readonly type = 1;
  readonly name = 'zstd';
  readonly #kernel: Kernel;
  readonly #decodeScratch: Region;
  #encodeScratch: Region | undefined;
  #inputCopy: Region | undefined;
  #outputCopy: Region | undefined;

  /** May grow the kernel's memory, and so detach views of it. */
  constructor(kernel: Kernel, options: ZstdOptions = {}) {
    this.#kernel = kernel;
    this.#decodeScratch = shared(decodeScratches, kernel, ZSTD_SCRATCH_BYTES);
    if (options.compress) this.#encodeScratch = encodeScratch(kernel);
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
    const scratch = this.#decodeScratch.ptr;
    const status = exports.zstd_decompress(source, inputLength, target, length, scratch);
    if (status !== ZSTD_OK) throw badStream('zstd', reasonOf(status, inputLength, length));
    if (!isDirect) output.set(arena.u8.subarray(target, target + length));
  }

  /**
   * Compresses to one frame with its content size and without a checksum, as QEMU writes them.
   * Without copies if both views lie in kernel memory; what lies behind them stays as it is. Like
   * `decompress`, may grow the memory when it takes regions.
   */
  compress(input: Uint8Array, output: Uint8Array): number {
    const { arena, exports } = this.#kernel;
    const { length } = input;
    const isDirect = arena.contains(output);
    let source = arena.contains(input) ? arena.pointer(input) : -1;
    let target = isDirect ? arena.pointer(output) : -1;
    // Stored blocks add 3 bytes to at most 128 KiB, the frame 9: no frame is longer than this.
    const capacity = Math.min(output.length, length + (length >> 8) + 64);
    this.#encodeScratch ??= encodeScratch(this.#kernel);
    const scratch = this.#encodeScratch.ptr;
    if (source < 0) {
      this.#inputCopy = arena.fit(this.#inputCopy, length);
      this.#inputCopy.bytes.set(input);
      source = this.#inputCopy.ptr;
    }
    if (target < 0) {
      this.#outputCopy = arena.fit(this.#outputCopy, capacity);
      target = this.#outputCopy.ptr;
    }
    const written = exports.zstd_compress(source, length, target, capacity, scratch);
    if (!isDirect && written > 0) output.set(arena.u8.subarray(target, target + written));
    return written;
  }
}

function encodeScratch(kernel: Kernel): Region {
  return shared(encodeScratches, kernel, ZSTD_ENCODE_SCRATCH_BYTES);
}

/** The region of a kernel that its codecs share; taking it may grow the memory. */
function shared(regions: WeakMap<Kernel, Region>, kernel: Kernel, length: number): Region {
  let region = regions.get(kernel);
  // A kernel that was reset has taken it back.
  if (region === undefined || !kernel.arena.holds(region)) {
    region = kernel.arena.allocate(length);
    regions.set(kernel, region);
  }
  return region;
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
