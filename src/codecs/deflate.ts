import { Qcow2Error } from '../errors.ts';
import { INFLATE_INVALID, INFLATE_OK, INFLATE_SHORT, INFLATE_TRUNCATED } from '../kernel/abi.ts';
import type { Region } from '../kernel/arena.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { badStream } from './bad-stream.ts';
import type { Codec } from './codec.ts';
import type { HostZlib } from './host-zlib.ts';

/** QEMU's parameters: a 4 KiB window, zlib's default level, the largest hash table. */
const DEFLATE_OPTIONS = { windowBits: 12, level: 6, memLevel: 9 } as const;

/** Compression type 0: raw deflate (RFC 1951) without header or checksum (format section 8). */
export class DeflateCodec implements Codec {
  readonly type = 0;
  readonly name = 'zlib';
  readonly #kernel: Kernel;
  readonly #zlib: HostZlib | undefined;
  #inputScratch: Region | undefined;
  #outputScratch: Region | undefined;

  /** @param zlib what `hostZlib` found; without it `compress` is UNSUPPORTED */
  constructor(kernel: Kernel, zlib: HostZlib | undefined) {
    this.#kernel = kernel;
    this.#zlib = zlib;
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
      const region = this.#fit(this.#inputScratch, room);
      this.#inputScratch = region;
      region.bytes.set(input);
      source = region.ptr;
    }
    if (target < 0) {
      this.#outputScratch = this.#fit(this.#outputScratch, length);
      target = this.#outputScratch.ptr;
    }
    const status = exports.inflate(source, inputLength, target, length);
    if (status !== INFLATE_OK) throw badStream('zlib', reasonOf(status, inputLength, length));
    if (!direct) output.set(arena.u8.subarray(target, target + length));
  }

  /**
   * Compresses with a 4 KiB window, which every reader takes.
   * @throws Qcow2Error UNSUPPORTED: the host has no node:zlib
   */
  compress(input: Uint8Array, output: Uint8Array): number {
    if (this.#zlib === undefined) {
      throw new Qcow2Error(
        'UNSUPPORTED',
        'compressing with zlib needs node:zlib, which this host does not have: write the image uncompressed, or with compression type zstd',
      );
    }
    const stream = this.#zlib.deflateRawSync(input, DEFLATE_OPTIONS);
    if (stream.length > output.length) return -1;
    output.set(stream);
    return stream.length;
  }

  /** `region` if it has `length` bytes, else a larger one in its place. */
  #fit(region: Region | undefined, length: number): Region {
    if (region !== undefined && region.length >= length) return region;
    const larger = this.#kernel.arena.allocate(length);
    if (region !== undefined) this.#kernel.arena.release(region);
    return larger;
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
