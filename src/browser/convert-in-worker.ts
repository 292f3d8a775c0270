import { Qcow2Error } from '../errors.ts';
import type { KernelBackend } from '../kernel/kernel.ts';
import type { ReadableOptions } from '../operations/stream.ts';
import type { SyncFileHandle } from '../storage/opfs.ts';
import type { FileHandle } from '../storage/source.ts';
import type { PieceTaken, SentError, SentSource, WorkerMessage, WorkerStart } from './messages.ts';
import { removeOwnFile } from './partial-file.ts';
import { startWorker, type WorkerPlace, workerFailure } from './start-worker.ts';

/** Something that takes the bytes of an image front to back: `createWritable()` of a file gives one. */
export type ByteSink = WritableStream<Uint8Array<ArrayBuffer>>;

/** A stream, or what makes one when the length of the image in bytes is known. */
export type StreamTarget = ByteSink | ((length: number) => ByteSink | Promise<ByteSink>);

/** What to convert, and where to. The options of the new image are those of `toReadable`. */
export interface WorkerConversion
  extends Omit<ReadableOptions, 'kernel' | 'onProgress' | 'signal' | 'newPiece'> {
  /** The image: a `Blob` or `File`, a handle of a file, or the URL of a file on a server that serves ranges. */
  source: Blob | FileHandle | string | URL;
  /** What the source is. Absent: probed by its first bytes. */
  sourceFormat?: 'qcow2' | 'raw';
  /**
   * Backing and data files, by the names the images have for them, with or without folders. None is
   * read that is not given here.
   */
  files?: Readonly<Record<string, Blob | FileHandle | string | URL>>;
  /** Converts the disk as of this internal snapshot: its id, or else its name. */
  snapshot?: string;
  /**
   * A file of the page's own file system (OPFS), which the worker writes itself, or a stream that takes
   * the image front to back.
   */
  target: SyncFileHandle | StreamTarget;
  /**
   * Whether the stream holds nothing of a piece once its `write` has settled: the memory is used again
   * then, else it piles up until the engine looks for it. Default true for the streams of files, which
   * `createWritable` gives, and false for others.
   */
  reusePieces?: boolean;
}

/** How a conversion is run and watched. */
export interface WorkerOptions extends WorkerPlace {
  /** Guest bytes done, of all (with `compress` they count twice). At most ten times a second. */
  onProgress?: ((done: number, total: number) => void) | undefined;
  /**
   * Ends the conversion at once: the worker is ended, a stream is aborted, and a file of the page's own
   * file system removed.
   */
  signal?: AbortSignal | undefined;
  /** Which kernel the worker runs; default the fastest it may. */
  backend?: KernelBackend;
  /** A module compiled from `qcow2/qcow2.wasm`, for workers that may not compile one (Chromium); see `init`. */
  module?: WebAssembly.Module;
}

/** What was written. */
export interface WorkerResult {
  /** Length of the image in bytes. */
  bytes: number;
  /** SHA-256 of the image, in hexadecimal. */
  sha256: string;
  /** What the worker ran. */
  backend: KernelBackend;
  /** Bytes of memory the worker's kernel took. */
  memoryBytes: number;
}

/** For so long the caller waits for what an aborted conversion leaves to be removed, in milliseconds. */
const CLEANUP_MILLISECONDS = 50;

/**
 * Converts an image in a worker of its own, so that the page goes on meanwhile, without sending it
 * anywhere: front to back, in one go, with memory that does not depend on the image's size. The page
 * needs no isolation (COOP and COEP). Of a content security policy it needs `script-src 'self'
 * 'wasm-unsafe-eval'; worker-src 'self' blob:` (and the package's host in both, where that is another);
 * without `'wasm-unsafe-eval'` it is slower, and without `blob:` it needs `worker: 'file'`.
 * @throws Qcow2Error those of `Image.open` and `toReadable`; ABORTED; REFUSED: the target is one of the
 *   sources; IO: the worker cannot be started, or the target fails. Nothing of the target is left then.
 * @example
 * import { convertInWorker } from 'qcow2/browser';
 *
 * const input = document.querySelector('input');
 * input?.addEventListener('change', async () => {
 *   const folder = await navigator.storage.getDirectory();
 *   const target = await folder.getFileHandle('disk.qcow2', { create: true });
 *   const { bytes, sha256 } = await convertInWorker(
 *     { source: input.files?.[0] ?? new Blob(), format: 'qcow2', compress: true, target },
 *     { onProgress: (done, total) => console.log(done / total), signal: AbortSignal.timeout(60_000) },
 *   );
 *   console.log(bytes, sha256);
 * });
 */
export async function convertInWorker(
  request: WorkerConversion,
  options: WorkerOptions = {},
): Promise<WorkerResult> {
  const {
    source: given,
    sourceFormat,
    files: others = {},
    snapshot,
    target,
    reusePieces,
    ...rest
  } = request;
  const { onProgress, signal, backend, module, ...place } = options;
  requireGoingOn(signal);
  const source = sendable(given);
  const files = Object.fromEntries(
    Object.entries(others).map(([name, other]) => [name, sendable(other)]),
  );
  const { file, stream } = splitTarget(target);
  if (file) await requireOther(file, [source, ...Object.values(files)]);
  const start: WorkerStart = {
    ...{ source, sourceFormat, files, snapshot, target: file, backend, module },
    options: rest,
  };
  const worker = startWorker(place);
  const conversion = new PageSide(worker, stream, reusePieces, onProgress);
  try {
    return await conversion.run(start, signal);
  } catch (error) {
    worker.terminate();
    const cleanup = Promise.all([conversion.abandon(error), file && removeOwnFile(file)]);
    const left = cleanup.catch(() => undefined);
    await (signal?.aborted ? Promise.race([left, pause(CLEANUP_MILLISECONDS)]) : left);
    throw error;
  }
}

/** A conversion as the page sees it. */
class PageSide {
  readonly #worker: Worker;
  readonly #target: StreamTarget | undefined;
  readonly #onProgress: WorkerOptions['onProgress'];
  #writer: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>> | undefined;
  /** Whether the memory of pieces is used again. */
  #reuses: boolean | undefined;
  #length = 0;
  /** What the target was given so far. */
  #written: Promise<void> = Promise.resolve();
  #isOver = false;

  constructor(
    worker: Worker,
    target: StreamTarget | undefined,
    reusePieces: boolean | undefined,
    onProgress: WorkerOptions['onProgress'],
  ) {
    this.#worker = worker;
    this.#target = target;
    this.#reuses = reusePieces;
    this.#onProgress = onProgress;
    if (target !== undefined && typeof target !== 'function') this.#use(target);
  }

  run(start: WorkerStart, signal: AbortSignal | undefined): Promise<WorkerResult> {
    const worker = this.#worker;
    return new Promise<WorkerResult>((resolve, reject) => {
      signal?.addEventListener('abort', () => reject(aborted()), { once: true });
      worker.onerror = (event) => reject(workerFailure(event));
      worker.onmessageerror = () => reject(workerFailure({ message: 'a message was lost' }));
      worker.onmessage = ({ data }: MessageEvent<WorkerMessage>) => {
        this.#take(data).then((result) => result && resolve(result), reject);
      };
      worker.postMessage(start);
    }).finally(() => {
      this.#isOver = true;
    });
  }

  /** Ends the stream that was being written; what it has made of it is thrown away. */
  async abandon(reason: unknown): Promise<void> {
    this.#isOver = true;
    await this.#writer?.abort(reason);
  }

  /** What a message makes of the conversion: its result, when it is the last. */
  async #take(message: WorkerMessage): Promise<WorkerResult | undefined> {
    if (this.#isOver) return undefined;
    switch (message.kind) {
      case 'progress':
        this.#onProgress?.(message.done, message.total);
        return undefined;
      case 'length':
        this.#length = message.length;
        if (typeof this.#target === 'function') this.#written = this.#open(this.#target);
        return this.#settled();
      case 'piece':
        this.#written = this.#written.then(() => this.#write(message.piece));
        return this.#settled();
      case 'done':
        await this.#written;
        await this.#writer?.close().catch(targetFailed);
        this.#worker.terminate();
        return { bytes: this.#length, ...resultOf(message) };
      case 'failed':
        throw received(message.error);
    }
  }

  async #settled(): Promise<undefined> {
    await this.#written;
    return undefined;
  }

  async #open(makeTarget: (length: number) => ByteSink | Promise<ByteSink>): Promise<void> {
    const stream = await makeTarget(this.#length);
    this.#use(stream);
    if (this.#isOver) await this.#writer?.abort();
  }

  #use(stream: ByteSink): void {
    this.#writer = stream.getWriter();
    this.#reuses ??= isFileStream(stream);
  }

  async #write(piece: Uint8Array<ArrayBuffer>): Promise<void> {
    await this.#writer!.write(piece).catch(targetFailed);
    const memory = this.#reuses ? piece.buffer : undefined;
    this.#worker.postMessage({ memory } satisfies PieceTaken, memory ? [memory] : []);
  }
}

function resultOf(message: WorkerMessage & { kind: 'done' }): Omit<WorkerResult, 'bytes'> {
  const { sha256, backend, memoryBytes } = message;
  return { sha256, backend, memoryBytes };
}

/** Relative to the page, which the worker knows nothing of. */
function sendable(source: WorkerConversion['source']): SentSource {
  const isUrl = typeof source === 'string' || source instanceof URL;
  return isUrl ? new URL(source, location.href).href : source;
}

/** Others may hold what was written to them, to send it on later. */
function isFileStream(stream: ByteSink): boolean {
  return (
    typeof FileSystemWritableFileStream === 'function' &&
    stream instanceof FileSystemWritableFileStream
  );
}

function splitTarget(target: WorkerConversion['target']): {
  file?: SyncFileHandle;
  stream?: StreamTarget;
} {
  if (typeof target === 'function' || 'getWriter' in target)
    return { stream: target as StreamTarget };
  return { file: target };
}

/** @throws Qcow2Error REFUSED: the file would be gone before it is read */
async function requireOther(target: SyncFileHandle, sources: readonly SentSource[]): Promise<void> {
  const handle = target as unknown as FileSystemHandle;
  for (const source of sources) {
    if (typeof source === 'string' || !('getFile' in source)) continue;
    if (!(await handle.isSameEntry(source as unknown as FileSystemHandle))) continue;
    const text = `'${target.name}' is read and cannot be written at the same time: choose another target`;
    throw new Qcow2Error('REFUSED', text, { file: target.name });
  }
}

function requireGoingOn(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw aborted();
}

function aborted(): Qcow2Error {
  return new Qcow2Error('ABORTED', 'the conversion was aborted');
}

function targetFailed(cause: unknown): never {
  const why = cause instanceof Error ? cause.message : String(cause);
  throw new Qcow2Error('IO', `Could not write the target: ${why}`, {}, { cause });
}

function received({ code, message, details }: SentError): Error {
  return code === undefined ? new Error(message) : new Qcow2Error(code, message, details);
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
