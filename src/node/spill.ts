import * as fs from 'node:fs';
import * as path from 'node:path';
import { Qcow2Error } from '../errors.ts';
import { type ByteSource, ByteStream } from '../storage/byte-stream.ts';
import { FileStorage, ioError } from '../storage/file.ts';
import { MemoryStorage } from '../storage/memory.ts';
import type { Storage } from '../storage/storage.ts';

/** Where the bytes of a stream are kept that are to be read in any order. */
export interface SpillOptions {
  /** Bytes kept in memory at most. Default 64 MiB. */
  memoryBytes?: number | undefined;
  /** Folder for a temporary file, which takes what is too much for memory. Absent: that is an error. */
  folder?: string | undefined;
  /** Shown in messages. */
  name?: string | undefined;
  /** Ends waiting for bytes with an `ABORTED` error. */
  signal?: AbortSignal | undefined;
  /** Called with the bytes that have come; the stream waits for what it returns. */
  onProgress?: ((done: number) => void | Promise<void>) | undefined;
}

const MEMORY_BYTES = 64 * 2 ** 20;
/** Most bytes written to the file at once. */
const PIECE_BYTES = 2 ** 20;
/** Zeros of so many bytes at a time become holes of the file. */
const HOLE_BYTES = 65536;
const ZEROS = new Uint8Array(HOLE_BYTES);

/**
 * Reads a stream to its end and keeps its bytes, so that they can be read in any order: in memory, or
 * in a temporary file that only this process can reach and that is gone with it.
 * @throws Qcow2Error TOO_LARGE: more bytes than may be kept in memory, and no folder for a file;
 *   INVALID_ARGUMENT, NOT_FOUND, IO, ABORTED
 * @example
 * import { Image, spillStorage } from 'qcow2';
 * import { createReadStream } from 'node:fs';
 * import { tmpdir } from 'node:os';
 *
 * const stream = createReadStream('disk.qcow2'); // or the body of a Response
 * const storage = await spillStorage(stream, { folder: tmpdir() });
 * const image = await Image.open(storage);
 * console.log(image.virtualSize);
 * await image.close();
 */
export async function spillStorage(
  source: ByteSource,
  options: SpillOptions = {},
): Promise<Storage> {
  const { name = 'the stream', signal } = options;
  return spill(new ByteStream(source, name, signal), options);
}

/** `spillStorage` over a stream that was looked into; closes it. */
export async function spill(
  stream: ByteStream,
  options: SpillOptions,
): Promise<FileStorage | MemoryStorage> {
  const { memoryBytes = MEMORY_BYTES, folder, onProgress } = options;
  if (!Number.isSafeInteger(memoryBytes) || memoryBytes < 0) {
    const text = `memoryBytes: ${memoryBytes} is not a whole number of bytes`;
    throw new Qcow2Error('INVALID_ARGUMENT', text, { value: memoryBytes });
  }
  try {
    // Shared with other threads. Pages nothing is written to take no memory.
    const kept = new Uint8Array(new SharedArrayBuffer(memoryBytes));
    let length = 0;
    while (length < memoryBytes && !(await stream.isAtEnd())) {
      length += await stream.readSome(kept.subarray(length));
      await onProgress?.(length);
    }
    if (await stream.isAtEnd()) return new MemoryStorage(kept.subarray(0, length), stream.name);
    if (folder === undefined) throw tooMuch(stream.name, memoryBytes);
    return await spillToFile(stream, kept, folder, onProgress);
  } finally {
    await stream.close();
  }
}

async function spillToFile(
  stream: ByteStream,
  start: Uint8Array,
  folder: string,
  onProgress: SpillOptions['onProgress'],
): Promise<FileStorage> {
  const file = temporaryFile(folder, stream.name);
  try {
    for (let at = 0; at < start.length; at += PIECE_BYTES)
      writeSparsely(file, at, start.subarray(at, at + PIECE_BYTES));
    const piece = new Uint8Array(PIECE_BYTES);
    for (let at = start.length; ; at += piece.length) {
      const length = await stream.read(piece);
      await onProgress?.(at + length);
      writeSparsely(file, at, piece.subarray(0, length));
      if (length < piece.length) {
        file.truncate(at + length);
        return file;
      }
    }
  } catch (error) {
    file.close();
    throw error;
  }
}

/** A file without a name: only who has the descriptor reaches it, and it goes with the last of them. */
function temporaryFile(folder: string, name: string): FileStorage {
  const unique = Math.random().toString(36).slice(2);
  const realPath = path.join(folder, `.qcow2-${unique}.spill`);
  const shown = `temporary file in ${folder}`;
  try {
    const file = new FileStorage(shown, {
      realPath,
      mode: 'create',
      sync: true,
      permissions: 0o600,
    });
    fs.unlinkSync(realPath);
    return file;
  } catch (error) {
    const cause = error instanceof Error ? error.cause : error;
    throw ioError(cause, `Could not keep ${name} in a file in '${folder}'`, folder);
  }
}

/** Writes what is not zeros. */
function writeSparsely(file: FileStorage, offset: number, bytes: Uint8Array): void {
  for (let from = 0; from < bytes.length; ) {
    let to = from;
    while (to < bytes.length && !isZero(bytes.subarray(to, to + HOLE_BYTES))) to += HOLE_BYTES;
    to = Math.min(to, bytes.length);
    if (to > from) file.write(offset + from, bytes.subarray(from, to));
    from = to + HOLE_BYTES;
  }
}

function isZero(bytes: Uint8Array): boolean {
  return Buffer.compare(bytes, ZEROS.subarray(0, bytes.length)) === 0;
}

function tooMuch(name: string, most: number): Qcow2Error {
  const shown = most % 2 ** 20 === 0 ? `${most / 2 ** 20} MiB` : `${most} bytes`;
  const text = `${name} has more than ${shown}, the most kept in memory, and must be read in any order: name a folder for a temporary file (--spill DIR)`;
  return new Qcow2Error('TOO_LARGE', text, { file: name, value: most });
}
