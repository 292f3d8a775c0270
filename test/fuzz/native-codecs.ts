import { createRequire } from 'node:module';

/** Room for streams and for what they decode to, in bytes. */
export const MAX_STREAM = 1 << 18;
export const MAX_OUTPUT = 1 << 18;

/** Memory outside of JavaScript, with a view of it. */
interface NativeMemory {
  readonly address: bigint;
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

const koffi = createRequire(import.meta.url)('koffi');
/** Node has a zlib and a libzstd of its own, whose functions a library's must not be mistaken for. */
const LOAD = { deep: true };

function allocate(length: number): NativeMemory {
  const address: bigint = koffi.alloc('uint8_t', length);
  const buffer: ArrayBuffer = koffi.view(address, length);
  return { address, bytes: new Uint8Array(buffer), view: new DataView(buffer) };
}

/** What a library makes of a stream. */
export interface NativeDecoder {
  /**
   * Exactly `length` bytes as QEMU reads a cluster, or undefined where it reports an error. The bytes
   * are those of the library's memory: use them before the next call.
   */
  decode(stream: Uint8Array, length: number): Uint8Array | undefined;
}

const Z_OK = 0;
const Z_FINISH = 4;
const WINDOW_BITS = 15;

/** Offsets in a z_stream where long and pointers have 8 bytes, and its length. */
const Z_STREAM = { nextIn: 0, availIn: 8, nextOut: 24, availOut: 32, length: 112 } as const;

/** zlib, the library qemu-img links. */
export class NativeInflate implements NativeDecoder {
  readonly #input = allocate(MAX_STREAM);
  readonly #output = allocate(MAX_OUTPUT);
  readonly #stream = allocate(Z_STREAM.length);
  readonly #reset: (stream: bigint) => number;
  readonly #inflate: (stream: bigint, flush: number) => number;

  constructor() {
    const zlib = koffi.load('libz.so.1', LOAD);
    const version = zlib.func('const char *zlibVersion()')();
    const init = zlib.func('int inflateInit2_(void *s, int bits, const char *version, int size)');
    this.#reset = zlib.func('int inflateReset(void *stream)');
    this.#inflate = zlib.func('int inflate(void *stream, int flush)');
    this.#stream.bytes.fill(0);
    const status = init(this.#stream.address, -WINDOW_BITS, version, Z_STREAM.length);
    if (status !== Z_OK) throw new Error(`inflateInit2_: ${status}`);
  }

  /** Output that is full ends a cluster, whatever the stream holds behind. */
  decode(stream: Uint8Array, length: number): Uint8Array | undefined {
    const { view } = this.#stream;
    this.#reset(this.#stream.address);
    this.#input.bytes.set(stream);
    view.setBigUint64(Z_STREAM.nextIn, this.#input.address, true);
    view.setUint32(Z_STREAM.availIn, stream.length, true);
    view.setBigUint64(Z_STREAM.nextOut, this.#output.address, true);
    view.setUint32(Z_STREAM.availOut, length, true);
    this.#inflate(this.#stream.address, Z_FINISH);
    const isFull = view.getUint32(Z_STREAM.availOut, true) === 0;
    return isFull ? this.#output.bytes.subarray(0, length) : undefined;
  }
}

/** ZSTD_inBuffer and ZSTD_outBuffer: address, length, and how far it is used. */
class Span {
  readonly memory: NativeMemory;
  readonly #struct = allocate(24);

  constructor(length: number) {
    this.memory = allocate(length);
    this.#struct.view.setBigUint64(0, this.memory.address, true);
  }

  get address(): bigint {
    return this.#struct.address;
  }

  /** Starts again with `length` bytes. */
  reset(length: number): void {
    this.#struct.view.setBigUint64(8, BigInt(length), true);
    this.#struct.view.setBigUint64(16, 0n, true);
  }

  get position(): number {
    return Number(this.#struct.view.getBigUint64(16, true));
  }
}

const ZSTD_RESET_SESSION = 1;
const ZSTD_E_FLUSH = 1;
const ZSTD_E_END = 2;
const ZSTD_C_LEVEL = 100;
const ZSTD_C_CHECKSUM = 201;

/** libzstd, the library qemu-img links. */
export class NativeZstd implements NativeDecoder {
  readonly #input = new Span(MAX_STREAM);
  readonly #output = new Span(MAX_OUTPUT);
  readonly #library = koffi.load('libzstd.so.1', LOAD);
  readonly #isError: (code: number) => number;
  readonly #resetDecoder: (context: bigint, what: number) => number;
  readonly #decompress: (context: bigint, output: bigint, input: bigint) => number;
  readonly #decoder: bigint;
  readonly #encoder: bigint;

  constructor() {
    const library = this.#library;
    this.#isError = library.func('unsigned int ZSTD_isError(size_t code)');
    this.#resetDecoder = library.func('size_t ZSTD_DCtx_reset(void *context, int what)');
    this.#decompress = library.func('size_t ZSTD_decompressStream(void *c, void *out, void *in)');
    this.#decoder = library.func('void *ZSTD_createDCtx()')();
    this.#encoder = library.func('void *ZSTD_createCCtx()')();
  }

  /** Frames until the output is full; the last must end there. */
  decode(stream: Uint8Array, length: number): Uint8Array | undefined {
    this.#resetDecoder(this.#decoder, ZSTD_RESET_SESSION);
    this.#input.memory.bytes.set(stream);
    this.#input.reset(stream.length);
    this.#output.reset(length);
    let before = -1;
    let left = 1;
    while (this.#output.position < length) {
      // No progress: the input is used up.
      if (this.#input.position === before) return undefined;
      before = this.#input.position;
      left = this.#decompress(this.#decoder, this.#output.address, this.#input.address);
      if (this.#isError(left)) return undefined;
    }
    return left === 0 ? this.#output.memory.bytes.subarray(0, length) : undefined;
  }

  /** One frame of parts, each flushed and so in blocks of its own, which lean on those before. */
  encode(parts: readonly Uint8Array[], level: number, hasChecksum: boolean): Uint8Array {
    const set = this.#library.func('size_t ZSTD_CCtx_setParameter(void *c, int what, int value)');
    const compress = this.#library.func(
      'size_t ZSTD_compressStream2(void *c, void *out, void *in, int end)',
    );
    set(this.#encoder, ZSTD_C_LEVEL, level);
    set(this.#encoder, ZSTD_C_CHECKSUM, hasChecksum ? 1 : 0);
    this.#output.reset(MAX_OUTPUT);
    for (const [index, part] of parts.entries()) {
      this.#input.memory.bytes.set(part);
      this.#input.reset(part.length);
      const end = index === parts.length - 1 ? ZSTD_E_END : ZSTD_E_FLUSH;
      const left = compress(this.#encoder, this.#output.address, this.#input.address, end);
      if (left !== 0) throw new Error(`ZSTD_compressStream2: ${left}`);
    }
    return this.#output.memory.bytes.slice(0, this.#output.position);
  }
}
