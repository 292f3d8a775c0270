import { Qcow2Error } from '../errors.ts';
import type { HostZlib } from './host-zlib.ts';
import { startZstdLibrary, type ZstdLibrary } from './zstd-library.ts';

/** zstd of single frames; what is behind it differs from host to host. */
export interface ZstdBackend {
  /**
   * Decodes one whole frame, neither cut off nor followed by other bytes. Allocates in proportion to
   * `limit`, if neither the window nor the content size of the frame's header is far above it.
   * @param limit most bytes the frame may decode to, at least 1
   * @throws any error: the frame is broken or decodes to more than `limit` bytes
   */
  decompressFrame(frame: Uint8Array, limit: number): Uint8Array;
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
export async function loadZstdBackend(
  zlib: HostZlib | undefined,
  importLibrary: () => Promise<ZstdLibrary>,
): Promise<ZstdBackend> {
  const native = nativeBackend(zlib);
  if (native !== undefined) return native;
  try {
    return await startZstdLibrary(await importLibrary(), LEVEL, START_TIMEOUT);
  } catch (cause) {
    throw new Qcow2Error(
      'UNSUPPORTED',
      'compression type 1 (zstd) needs Node 22.15 or newer, or the package @bokuweb/zstd-wasm: run `npm install @bokuweb/zstd-wasm`',
      { structure: 'header', value: 1 },
      { cause },
    );
  }
}

function nativeBackend(zlib: HostZlib | undefined): ZstdBackend | undefined {
  const { zstdCompressSync: compress, zstdDecompressSync: decompress } = zlib ?? {};
  const level = zlib?.constants.ZSTD_c_compressionLevel;
  if (!compress || !decompress || level === undefined) return undefined;
  return {
    // One byte more than the limit: zlib makes another chunk whenever one is filled exactly.
    decompressFrame: (frame, limit) =>
      decompress(frame, { maxOutputLength: limit, chunkSize: Math.max(limit + 1, 64) }),
    compressFrame: (input) =>
      compress(input, { params: { [level]: LEVEL }, pledgedSrcSize: input.length }),
  };
}
