import { Qcow2Error } from '../errors.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Codec } from './codec.ts';
import { DeflateCodec } from './deflate.ts';
import { hostZlib } from './host-zlib.ts';
import { ZstdCodec } from './zstd.ts';
import { loadZstdBackend, type ZstdBackend } from './zstd-backend.ts';

let zstdBackend: Promise<ZstdBackend> | undefined;

/**
 * The codec for a value of the header's compression_type (format section 3). A codec belongs to
 * one kernel and, like it, to one thread.
 * @throws Qcow2Error UNSUPPORTED: unknown type, or zstd on a host that has none
 */
export async function loadCodec(type: number, kernel: Kernel): Promise<Codec> {
  switch (type) {
    case 0:
      return new DeflateCodec(kernel, hostZlib());
    case 1:
      return new ZstdCodec(await sharedZstdBackend());
    default:
      throw new Qcow2Error(
        'UNSUPPORTED',
        `compression type ${type} in the header is not known: 0 (zlib) and 1 (zstd) are; convert the image with the program that made it`,
        { structure: 'header', offset: 104, value: type },
      );
  }
}

/** One backend for the program: the library behind it may be started only once. */
function sharedZstdBackend(): Promise<ZstdBackend> {
  zstdBackend ??= loadZstdBackend(hostZlib(), () => import('@bokuweb/zstd-wasm')).catch((error) => {
    zstdBackend = undefined;
    throw error;
  });
  return zstdBackend;
}
