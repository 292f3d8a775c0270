import { Qcow2Error } from '../errors.ts';
import type { ZstdCompressor } from './zstd-compressor.ts';

/** The functions of the optional package `@bokuweb/zstd-wasm` that are used. */
export interface ZstdLibrary {
  init(): Promise<void>;
  createCCtx(): number;
  compressUsingDict(
    context: number,
    input: Uint8Array,
    dictionary: Uint8Array,
    level: number,
  ): Uint8Array;
}

const NO_DICTIONARY = new Uint8Array(0);

/**
 * zstd of the optional library. Its instance is one per program, and a second `init()`, ours or that
 * of other code, leaves it with the functions of the first instance and the memory of the second:
 * it then returns wrong bytes without an error. So a library that works is not initialised again,
 * and four bytes are compressed before each cluster to see that it still works.
 * @param timeout most milliseconds to wait: without its .wasm file the library never reports back
 * @throws any error: the library cannot be started
 */
export async function startZstdLibrary(
  library: ZstdLibrary,
  level: number,
  timeout: number,
): Promise<ZstdCompressor> {
  let context = tryContext(library);
  if (context === undefined) {
    await within(timeout, library.init());
    context = tryContext(library);
    if (context === undefined) throw new Error('@bokuweb/zstd-wasm fails a trial');
  }
  return new LibraryCompressor(library, context, level);
}

/** A context that lives as long as the program: one for each cluster costs a quarter of the speed. */
function tryContext(library: ZstdLibrary): number | undefined {
  try {
    const context = library.createCCtx();
    return compressesProbe(library, context, 1) ? context : undefined;
  } catch {
    // Not initialised yet: the functions are missing.
    return undefined;
  }
}

class LibraryCompressor implements ZstdCompressor {
  readonly #library: ZstdLibrary;
  readonly #context: number;
  readonly #level: number;
  #probes = 1;
  #broken = false;

  constructor(library: ZstdLibrary, context: number, level: number) {
    this.#library = library;
    this.#context = context;
    this.#level = level;
  }

  compressFrame(input: Uint8Array): Uint8Array {
    this.#probes = (this.#probes + 1) >>> 0;
    this.#broken ||= !compressesProbe(this.#library, this.#context, this.#probes);
    if (this.#broken) {
      throw new Qcow2Error(
        'UNSUPPORTED',
        'zstd stopped working because other code called init() of @bokuweb/zstd-wasm again: call it once, before opening images, or not at all',
      );
    }
    return this.#library.compressUsingDict(this.#context, input, NO_DICTIONARY, this.#level);
  }
}

/**
 * Compresses `probe` and compares the frame: magic number, single segment of four bytes, one raw
 * block, which is the last (RFC 8878). A new number each time, so that left-over bytes cannot pass.
 */
function compressesProbe(library: ZstdLibrary, context: number, probe: number): boolean {
  const content = new Uint8Array(4);
  new DataView(content.buffer).setUint32(0, probe);
  try {
    const frame = library.compressUsingDict(context, content, NO_DICTIONARY, 1);
    const expected = Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0x20, 4, 0x21, 0, 0, ...content);
    return frame.length === expected.length && expected.every((byte, i) => byte === frame[i]);
  } catch {
    return false;
  }
}

async function within(milliseconds: number, work: Promise<void>): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('its .wasm file did not load')), milliseconds);
  });
  try {
    await Promise.race([work, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
