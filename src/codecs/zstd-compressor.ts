import { Qcow2Error } from '../errors.ts';
import type { HostZlib } from './host-zlib.ts';
import { startZstdLibrary, type ZstdLibrary } from './zstd-library.ts';

/** Makes zstd frames; what is behind it differs from host to host. */
export interface ZstdCompressor {
  /** One frame with its content size and without a checksum, as QEMU writes them. */
  compressFrame(input: Uint8Array): Uint8Array;
}

/** The level QEMU writes with, zstd's own default. */
const LEVEL = 3;
/** In milliseconds. */
const START_TIMEOUT = 30_000;

/**
 * zstd of the host's node:zlib if it has one, else of the optional library.
 * @throws Qcow2Error UNSUPPORTED: neither is there
 */
export async function loadZstdCompressor(
  zlib: HostZlib | undefined,
  importLibrary: () => Promise<ZstdLibrary>,
): Promise<ZstdCompressor> {
  const native = nativeCompressor(zlib);
  if (native !== undefined) return native;
  try {
    return await startZstdLibrary(await importLibrary(), LEVEL, START_TIMEOUT);
  } catch (cause) {
    throw new Qcow2Error(
      'UNSUPPORTED',
      'compressing with zstd needs Node 22.15 or newer, or the package @bokuweb/zstd-wasm: run `npm install @bokuweb/zstd-wasm`, or choose compression type zlib',
      { structure: 'header', value: 1 },
      { cause },
    );
  }
}

function nativeCompressor(zlib: HostZlib | undefined): ZstdCompressor | undefined {
  const compress = zlib?.zstdCompressSync;
  const level = zlib?.constants.ZSTD_c_compressionLevel;
  if (!compress || level === undefined) return undefined;
  return {
    compressFrame: (input) =>
      compress(input, { params: { [level]: LEVEL }, pledgedSrcSize: input.length }),
  };
}
