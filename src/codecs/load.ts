import { Qcow2Error } from '../errors.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Codec } from './codec.ts';
import { DeflateCodec, type DeflateLevel } from './deflate.ts';
import { ZstdCodec } from './zstd.ts';

export interface CodecOptions {
  /** Takes the memory that `compress` works in at once; else its first call may grow the memory. */
  readonly compress?: boolean;
  /** Of deflate; zstd has one level. */
  readonly level?: DeflateLevel;
}

/**
 * The codec for a value of the header's compression_type (format section 3). A codec belongs to
 * one kernel and, like it, to one thread. Making it may grow the kernel's memory.
 * @throws Qcow2Error UNSUPPORTED: unknown type
 */
export async function loadCodec(
  type: number,
  kernel: Kernel,
  options: CodecOptions = {},
): Promise<Codec> {
  switch (type) {
    case 0:
      return new DeflateCodec(kernel, options);
    case 1:
      return new ZstdCodec(kernel, options);
    default:
      throw new Qcow2Error(
        'UNSUPPORTED',
        `compression type ${type} in the header is not known: 0 (zlib) and 1 (zstd) are; convert the image with the program that made it`,
        { structure: 'header', offset: 104, value: type },
      );
  }
}
