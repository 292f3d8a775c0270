import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { Qcow2Error, type Qcow2ErrorCode } from '../errors.ts';
import type { ChunkRecord } from '../image/target.ts';
import { type ChunkExecutor, type Conversion, inlineExecutor } from '../operations/convert.ts';
import type {
  InputFiles,
  TargetPath,
  WorkerReply,
  WorkerRequest,
  WorkerStart,
} from './messages.ts';

/** Chunks handed to a thread ahead, so that it never waits for the next. */
const AHEAD = 2;
/** Up to so many chunks the calling thread is done sooner than threads would have started. */
const INLINE_CHUNKS = 8;
const MAX_THREADS = 16;

type Finished = (start: number, record: ChunkRecord | null) => Promise<void>;

/** Where the target is, for threads that open it themselves. */
export interface TargetPaths {
  target: TargetPath;
  /** The external data file, or the target itself. */
  data: TargetPath;
}

/**
 * Converts on worker threads; small conversions run on the calling one.
 * @param threads absent: one per core where there is compressing or decompressing to do. Plain copies
 *   into one file do not get faster by threads, which wait for each other in the file system.
 */
export function threadedExecutor(
  files: InputFiles,
  paths: TargetPaths,
  threads: number | undefined,
): ChunkExecutor {
  return {
    sharesState: threads !== 1,
    async run(chunks, conversion, finished) {
      const iterator = chunks[Symbol.asyncIterator]();
      const first: number[] = [];
      while (threads !== 1 && first.length <= INLINE_CHUNKS) {
        const next = await iterator.next();
        if (next.done) break;
        first.push(next.value);
      }
      const rest = resume(first, iterator);
      const wanted = threads ?? (usesCodec(conversion) ? availableParallelism() : 1);
      if (wanted <= 1 || first.length <= INLINE_CHUNKS)
        return inlineExecutor.run(rest, conversion, finished);
      const pool = new ConvertPool(files, paths, conversion, Math.min(wanted, MAX_THREADS));
      return pool.run(rest, finished);
    },
  };
}

function usesCodec({ source, step: { target } }: Conversion): boolean {
  const compresses = target.format === 'qcow2' && target.compressionType !== null;
  return compresses || source.sawCompressed;
}

async function* resume(
  first: readonly number[],
  iterator: AsyncIterator<number>,
): AsyncGenerator<number> {
  yield* first;
  while (true) {
    const next = await iterator.next();
    if (next.done) return;
    yield next.value;
  }
}

class ConvertPool {
  readonly #workers: Worker[];
  readonly #pending: number[];
  #failure: unknown;
  /** Woken when a thread has room, or has failed. */
  #wake: () => void = () => {};
  #recording: Promise<void> = Promise.resolve();
  #open = 0;

  constructor(files: InputFiles, paths: TargetPaths, conversion: Conversion, threads: number) {
    const {
      step,
      allocatorState,
      source: { range },
    } = conversion;
    const turn = new Int32Array(new SharedArrayBuffer(4));
    const workerData: WorkerStart = { files, ...paths, range, step, allocatorState, turn };
    const url = new URL('./convert-worker.js', import.meta.url);
    this.#workers = Array.from({ length: threads }, () => new Worker(url, { workerData }));
    this.#pending = this.#workers.map(() => 0);
  }

  async run(chunks: AsyncIterable<number>, finished: Finished): Promise<void> {
    this.#workers.forEach((worker, index) => {
      worker.on('message', (reply: WorkerReply) => this.#receive(reply, index, finished));
      worker.on('error', (error) => this.#fail(error));
      // Threads wait for chunks until they are terminated.
      worker.on('exit', () => this.#fail(new Error('a converting thread ended early')));
    });
    try {
      let sequence = 0;
      for await (const start of chunks) {
        const index = await this.#freeWorker();
        const request: WorkerRequest = { sequence: sequence++, start };
        this.#pending[index]!++;
        this.#open++;
        this.#workers[index]!.postMessage(request);
      }
      while (this.#open > 0) await this.#change();
      await this.#recording;
      if (this.#failure !== undefined) throw this.#failure;
    } finally {
      // Threads may be blocked waiting for a turn that will not come.
      await Promise.all(this.#workers.map((worker) => worker.terminate()));
    }
  }

  /** The thread with the fewest chunks, once it has room. */
  async #freeWorker(): Promise<number> {
    while (true) {
      if (this.#failure !== undefined) throw this.#failure;
      const least = Math.min(...this.#pending);
      if (least < AHEAD) return this.#pending.indexOf(least);
      await this.#change();
    }
  }

  async #change(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    if (this.#failure !== undefined) throw this.#failure;
  }

  #receive(reply: WorkerReply, index: number, finished: Finished): void {
    if ('error' in reply) this.#fail(revive(reply.error));
    if (!('start' in reply)) return;
    this.#recording = this.#recording
      .then(() => finished(reply.start, reply.record))
      .then(() => {
        this.#pending[index]!--;
        this.#open--;
        this.#wake();
      })
      .catch((error: unknown) => this.#fail(error));
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    this.#wake();
  }
}

/** An error that came from another thread. */
export function revive(error: Extract<WorkerReply, { error: unknown }>['error']): Error {
  if (error.code === 'INTERNAL') return new Error(error.stack ?? error.message);
  return new Qcow2Error(error.code as Qcow2ErrorCode, error.message, error.details);
}
