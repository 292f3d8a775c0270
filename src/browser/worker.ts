/** Entry of the worker that converts: one conversion, then it is of no use any more. */
import { isQcow2Error } from '../errors.ts';
import { Image } from '../image/image.ts';
import { type OutsideResolver, refusal } from '../image/open-gate.ts';
import type { OpenOptions } from '../image/open-options.ts';
import { createKernel } from '../kernel/kernel.ts';
import { init } from '../kernel/load.ts';
import { Sha256 } from '../kernel/sha256.ts';
import { planStream } from '../operations/stream.ts';
import { PIECE_BYTES, type Piece } from '../operations/stream-parts.ts';
import { HttpStorage } from '../storage/http.ts';
import { OpfsStorage, type SyncFileHandle } from '../storage/opfs.ts';
import type { ImageSource } from '../storage/source.ts';
import {
  PIECES_UNDER_WAY,
  type PieceTaken,
  type SentError,
  type SentSource,
  type WorkerMessage,
  type WorkerStart,
} from './messages.ts';

/** What is used of a `DedicatedWorkerGlobalScope`. */
interface WorkerScope {
  onmessage: ((event: { data: unknown }) => void) | null;
  onmessageerror: (() => void) | null;
  postMessage(message: WorkerMessage, transfer?: ArrayBuffer[]): void;
}

/** Progress is told at most every so many milliseconds. */
const PROGRESS_MILLISECONDS = 100;

const scope = globalThis as unknown as WorkerScope;

scope.onmessage = ({ data }) => {
  convert(data as WorkerStart).then(
    (message) => scope.postMessage(message),
    (error) => scope.postMessage({ kind: 'failed', error: sent(error) }),
  );
};

/** Memory that is used again: engines may take seconds to notice that it is not used any more. */
class PiecePool {
  readonly #free: ArrayBuffer[] = [];

  readonly newPiece = (length: number): Piece => {
    const memory = length === PIECE_BYTES ? this.#free.pop() : undefined;
    return new Uint8Array(memory ?? new ArrayBuffer(length));
  };

  give(memory: ArrayBuffer): void {
    if (memory.byteLength === PIECE_BYTES) this.#free.push(memory);
  }
}

// Firefox hands no compiled module to a worker that may not compile one itself.
scope.onmessageerror = () => {
  const message =
    'the worker cannot take what it was sent: a compiled module, where its content security policy forbids WebAssembly; leave it out';
  scope.postMessage({ kind: 'failed', error: { code: 'UNSUPPORTED', message, details: {} } });
};

/** Where the bytes of the new image go, front to back. */
interface Sink {
  /** The memory of a piece belongs to the sink, or goes back to the pool. */
  write(piece: Piece): void | Promise<void>;
  /** All of it is where it belongs when this settles. */
  end(): void | Promise<void>;
}

async function convert(start: WorkerStart): Promise<WorkerMessage> {
  if (start.module) init(start.module);
  const kernel = createKernel(start.backend === undefined ? {} : { backend: start.backend });
  const resolver = among(start.files);
  const { source, sourceFormat: format, snapshot } = start;
  const open: OpenOptions = { kernel, resolver, ...(format && { format }) };
  if (snapshot !== undefined) open.snapshot = snapshot;
  const image = await Image.open(await sourceOf(source), open);
  // What grows the kernel's memory must not happen with a read under way.
  await image.chain();
  const hash = new Sha256(kernel);
  const pool = new PiecePool();
  const { newPiece } = pool;
  const onProgress = progress();
  const stream = await planStream(image, { ...start.options, kernel, newPiece, onProgress });
  scope.postMessage({ kind: 'length', length: stream.length });
  const sink = start.target ? await openFile(start.target, pool) : page(pool);
  for await (const piece of stream.pieces()) {
    hash.update(piece);
    await sink.write(piece);
  }
  await sink.end();
  await image.close();
  const memoryBytes = kernel.arena.u8.length;
  return { kind: 'done', sha256: hash.digest(), backend: kernel.backend, memoryBytes };
}

/** The gate: names are looked up as they are, then without their folders, which a page knows nothing of. */
function among(files: Readonly<Record<string, SentSource>>): OutsideResolver {
  const given = new Map(Object.entries(files));
  return (file) => {
    const found = given.get(file.name) ?? given.get(file.name.replace(/^.*[/\\]/, ''));
    if (found === undefined) throw refusal(file, 'give it in files, under this name');
    return sourceOf(found);
  };
}

function sourceOf(source: SentSource): ImageSource | Promise<ImageSource> {
  return typeof source === 'string' ? HttpStorage.open(source) : source;
}

function progress(): (done: number, total: number) => void {
  let last = Number.NEGATIVE_INFINITY;
  return (done, total) => {
    const now = performance.now();
    if (done < total && now - last < PROGRESS_MILLISECONDS) return;
    last = now;
    scope.postMessage({ kind: 'progress', done, total });
  };
}

/** A file of the page's own file system. */
async function openFile(file: SyncFileHandle, pool: PiecePool): Promise<Sink> {
  const storage = await OpfsStorage.open(file);
  storage.truncate(0);
  let at = 0;
  return {
    write(piece) {
      storage.write(at, piece);
      at += piece.length;
      pool.give(piece.buffer);
    },
    end() {
      storage.flush();
      storage.close();
    },
  };
}

/** The page, which says when it has taken a piece. */
function page(pool: PiecePool): Sink {
  let room = PIECES_UNDER_WAY;
  let wake: () => void = () => undefined;
  scope.onmessage = ({ data }) => {
    const { memory } = data as PieceTaken;
    if (memory) pool.give(memory);
    room++;
    wake();
  };
  return {
    async write(piece) {
      scope.postMessage({ kind: 'piece', piece }, [piece.buffer]);
      room--;
      while (room === 0)
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
    },
    end: () => undefined,
  };
}

function sent(error: unknown): SentError {
  if (isQcow2Error(error))
    return { code: error.code, message: error.message, details: error.details };
  return { code: undefined, message: String(error), details: {} };
}
