import { Qcow2Error } from '../errors.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Codec } from './codec.ts';
import { DeflateCodec, type DeflateLevel } from './deflate.ts';
import { hostZlib } from './host-zlib.ts';
import { ZstdCodec } from './zstd.ts';
import { loadZstdCompressor, type ZstdCompressor } from './zstd-compressor.ts';

let zstdCompressor: Promise<ZstdCompressor> | undefined;

export interface CodecOptions {
  /** Whether `compress` will be called, for which zstd needs Node 22.15 or the optional package. */
  readonly compress?: boolean;
  /** Of deflate; zstd has one level. */
  readonly level?: DeflateLevel;
}

/**
 * The codec for a value of the header's compression_type (format section 3). A codec belongs to
 * one kernel and, like it, to one thread. Making it may grow the kernel's memory.
 * @throws Qcow2Error UNSUPPORTED: unknown type, or the host cannot compress to it
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
      return new ZstdCodec(kernel, options.compress ? await sharedZstdCompressor() : undefined);
    default:
      throw new Qcow2Error(
        'UNSUPPORTED',
        `compression type ${type} in the header is not known: 0 (zlib) and 1 (zstd) are; convert the image with the program that made it`,
        { structure: 'header', offset: 104, value: type },
      );
  }
}

/** One for the program: the library behind it may be started only once. */
function sharedZstdCompressor(): Promise<ZstdCompressor> {
  zstdCompressor ??= loadZstdCompressor(hostZlib(), () => import('@bokuweb/zstd-wasm')).catch(
    (error) => {
      zstdCompressor = undefined;
      throw error;
    },
  );
  return zstdCompressor;
}
