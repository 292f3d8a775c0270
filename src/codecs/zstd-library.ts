import { Qcow2Error } from '../errors.ts';
import type { ZstdBackend } from './zstd-backend.ts';

/** The functions of the optional package `@bokuweb/zstd-wasm` that are used. */
export interface ZstdLibrary {
  init(): Promise<void>;
  createCCtx(): number;
  createDCtx(): number;
  compressUsingDict(
    context: number,
    input: Uint8Array,
    dictionary: Uint8Array,
    level: number,
  ): Uint8Array;
  decompressUsingDict(
    context: number,
    input: Uint8Array,
    dictionary: Uint8Array,
    options: { defaultHeapSize: number },
  ): Uint8Array;
}

const NO_DICTIONARY = new Uint8Array(0);
/** Offset of the content in `probeFrame`, and its length, in bytes. */
const PROBE_CONTENT = 9;
const PROBE_LENGTH = 4;

/**
 * zstd of the optional library. Its instance is one per program, and a second `init()`, ours or that
 * of other code, leaves it with the functions of the first instance and the memory of the second:
 * it then returns wrong bytes without an error. So a library that works is not initialised again,
 * and a four-byte frame is decoded before each cluster to see that it still works.
 * @param timeout most milliseconds to wait: without its .wasm file the library never reports back
 * @throws any error: the library cannot be started
 */
export async function startZstdLibrary(
  library: ZstdLibrary,
  level: number,
  timeout: number,
): Promise<ZstdBackend> {
  let contexts = tryContexts(library);
  if (contexts === undefined) {
    await within(timeout, library.init());
    contexts = tryContexts(library);
    if (contexts === undefined) throw new Error('@bokuweb/zstd-wasm fails a trial');
  }
  return new LibraryBackend(library, contexts, level);
}

/** Contexts that live as long as the program: one for each cluster costs a quarter of the speed. */
interface Contexts {
  readonly compression: number;
  readonly decompression: number;
}

function tryContexts(library: ZstdLibrary): Contexts | undefined {
  try {
    const contexts = {
      compression: library.createCCtx(),
      decompression: library.createDCtx(),
    };
    // Compress too: the library ties itself to an instance function by function, at the first call.
    const probe = Uint8Array.of(0x71, 0x63, 0x6f, 0x77);
    const frame = library.compressUsingDict(contexts.compression, probe, NO_DICTIONARY, 1);
    const works =
      sameBytes(frame.subarray(-PROBE_LENGTH), probe) &&
      decodesProbe(library, contexts.decompression, 1);
    return works ? contexts : undefined;
  } catch {
    // Not initialised yet: the functions are missing.
    return undefined;
  }
}

class LibraryBackend implements ZstdBackend {
  readonly #library: ZstdLibrary;
  readonly #contexts: Contexts;
  readonly #level: number;
  #probes = 1;
  #broken = false;

  constructor(library: ZstdLibrary, contexts: Contexts, level: number) {
    this.#library = library;
    this.#contexts = contexts;
    this.#level = level;
  }

  decompressFrame(frame: Uint8Array, limit: number): Uint8Array {
    this.#assertWorking();
    // The library allocates the frame's content size, or this number of bytes if it tells none.
    return this.#library.decompressUsingDict(this.#contexts.decompression, frame, NO_DICTIONARY, {
      defaultHeapSize: limit,
    });
  }

  compressFrame(input: Uint8Array): Uint8Array {
    this.#assertWorking();
    return this.#library.compressUsingDict(
      this.#contexts.compression,
      input,
      NO_DICTIONARY,
      this.#level,
    );
  }

  #assertWorking(): void {
    this.#probes = (this.#probes + 1) >>> 0;
    this.#broken ||= !decodesProbe(this.#library, this.#contexts.decompression, this.#probes);
    if (this.#broken) {
      throw new Qcow2Error(
        'UNSUPPORTED',
        'zstd stopped working because other code called init() of @bokuweb/zstd-wasm again: call it once, before opening images, or not at all',
      );
    }
  }
}

/** Decodes a frame that holds `probe`; a new number each time, so that left-over bytes cannot pass. */
function decodesProbe(library: ZstdLibrary, context: number, probe: number): boolean {
  const frame = probeFrame(probe);
  try {
    const content = library.decompressUsingDict(context, frame, NO_DICTIONARY, {
      defaultHeapSize: PROBE_LENGTH,
    });
    return sameBytes(content, frame.subarray(PROBE_CONTENT));
  } catch {
    return false;
  }
}

/** Magic number, single segment of four bytes, one raw block, which is the last (RFC 8878). */
function probeFrame(probe: number): Uint8Array {
  const frame = Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0x20, PROBE_LENGTH, 0x21, 0, 0, 0, 0, 0, 0);
  new DataView(frame.buffer).setUint32(PROBE_CONTENT, probe);
  return frame;
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
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
