import { createRequire } from 'node:module';
import { pipeline, Readable, type Transform } from 'node:stream';
import * as zlib from 'node:zlib';
import { Qcow2Error } from '../errors.ts';
import type { Storage } from '../storage/storage.ts';
import type { Packing } from './packing.ts';
import { wholeFrames } from './zstd-frames.ts';

/** Packed bytes read, and unpacked ones handed on, at a time. */
const PIECE_BYTES = 256 * 1024;

/**
 * What a packed file holds, from the first byte to the last.
 * @throws Qcow2Error TRUNCATED, BAD_DATA; UNSUPPORTED: nothing here unpacks it; those of the storage
 */
export async function* unpacked(storage: Storage, packing: Packing): AsyncGenerator<Uint8Array> {
  const unpack = UNPACKERS[packing];
  try {
    yield* unpack(storage);
  } catch (cause) {
    throw cause instanceof Qcow2Error ? cause : damaged(cause, storage, packing);
  }
}

async function* piecesOf(storage: Storage): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < storage.size; ) {
    const piece = Buffer.allocUnsafe(Math.min(PIECE_BYTES, storage.size - at));
    const length = await storage.read(at, piece);
    if (length === 0) return;
    yield piece.subarray(0, length);
    at += length;
  }
}

const UNPACKERS: Record<Packing, (storage: Storage) => AsyncIterable<Uint8Array>> = {
  gzip: gunzipped,
  zstd(storage) {
    // Node has it from 22.15 on.
    const { createZstdDecompress } = zlib as typeof zlib & {
      createZstdDecompress?: (options: zlib.ZlibOptions) => Transform;
    };
    if (createZstdDecompress === undefined)
      throw cannot(
        `this Node (${process.version}) unpacks no .zst files; use 22.15 or above, or zstd -dc FILE | qcow2 convert - ...`,
      );
    const frames = wholeFrames(piecesOf(storage), storage.name ?? 'file');
    return through(frames, createZstdDecompress({ chunkSize: PIECE_BYTES }));
  },
  xz: unxzed,
};

/** Several gzip files may follow one another, and zeros the last of them. */
async function* gunzipped(storage: Storage): AsyncGenerator<Uint8Array> {
  const gunzip = zlib.createGunzip({ chunkSize: PIECE_BYTES });
  yield* through(piecesOf(storage), gunzip);
  const rest = new Uint8Array(PIECE_BYTES);
  for (let at = gunzip.bytesWritten; at < storage.size; at += rest.length) {
    const length = await storage.read(at, rest);
    if (rest.subarray(0, length).some((byte) => byte !== 0))
      throw new Error('bytes follow that are not gzip');
  }
}

/** The output of a transformation; an error of its input is one of it. */
function through(packed: AsyncIterable<Uint8Array>, unpacker: Transform): Transform {
  return pipeline(Readable.from(packed, { objectMode: false }), unpacker, () => {});
}

async function* unxzed(storage: Storage): AsyncGenerator<Uint8Array> {
  const reader = new (xzStream())(webStream(piecesOf(storage))).getReader();
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
  } finally {
    // Given up when all was unpacked and not yet taken, it fails.
    await reader.cancel().catch(() => {});
  }
}

/** Not `Readable.toWeb`: what it makes throws where nobody can catch it if it is given up as it ends. */
function webStream(pieces: AsyncGenerator<Uint8Array>): ReadableStream<Uint8Array> {
  const source = {
    async pull(controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> {
      const { done, value } = await pieces.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    async cancel(): Promise<void> {
      await pieces.return(undefined);
    },
  };
  return new ReadableStream(source, { highWaterMark: 0 });
}

type XzStream = new (packed: ReadableStream<Uint8Array>) => ReadableStream<Uint8Array>;

function xzStream(): XzStream {
  try {
    return createRequire(import.meta.url)('xz-decompress').XzReadableStream;
  } catch {
    throw cannot(
      'unpacking .xz files takes the package xz-decompress (npm install xz-decompress), or xz -dc FILE | qcow2 convert - ...',
    );
  }
}

function cannot(text: string): Qcow2Error {
  return new Qcow2Error('UNSUPPORTED', text);
}

/** Codes and words of what unpackers say about input that ends too early. */
const ENDS_EARLY = /Z_BUF_ERROR|unexpected end|error code 8\b/;
const UNKNOWN = /error code [26]\b/;
const WINDOW = /error code 4\b|Frame requires too much memory|window/i;

function damaged(cause: unknown, { name = 'file' }: Storage, packing: Packing): Qcow2Error {
  const { code = '', message = String(cause) } = cause as Partial<NodeJS.ErrnoException>;
  const said = `${code} ${message}`;
  const file = { file: name };
  if (ENDS_EARLY.test(said)) {
    const text = `Could not unpack '${name}': its ${packing} data ends early or is followed by other bytes; get a whole copy of it`;
    return new Qcow2Error('TRUNCATED', text, file, { cause });
  }
  if (WINDOW.test(said)) {
    const text = `Could not unpack '${name}': its ${packing} data needs more memory than is given to unpacking; unpack it first`;
    return new Qcow2Error('UNSUPPORTED', text, file, { cause });
  }
  if (UNKNOWN.test(said)) {
    const text = `Could not unpack '${name}': its ${packing} data has a filter or a check that is not known here: unpack it first`;
    return new Qcow2Error('UNSUPPORTED', text, file, { cause });
  }
  const text = `Could not unpack '${name}': its ${packing} data is damaged (${message})`;
  return new Qcow2Error('BAD_DATA', text, file, { cause });
}
