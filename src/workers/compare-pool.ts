import { Worker } from 'node:worker_threads';
import { type CompareExecutor, inlineCompareExecutor } from '../operations/compare.ts';
import type { CompareJob } from '../operations/compare-plan.ts';
import type { CompareFiles, CompareReply, CompareRequest } from './compare-messages.ts';
import { revive } from './convert-pool.ts';

/** Jobs handed to a thread ahead, so that it never waits for the next. */
const AHEAD = 2;
/** Up to so many compressed jobs the calling thread is done sooner than threads would have started. */
const INLINE_JOBS = 8;

type Finished = (job: CompareJob) => void | Promise<void>;

/**
 * Compares on the calling thread, as long as bytes only have to be read: threads would wait for the
 * same memory. From the first jobs on that need decompression, on `threads` worker threads.
 */
export function threadedCompareExecutor(files: CompareFiles, threads: number): CompareExecutor {
  if (threads <= 1) return inlineCompareExecutor;
  return {
    async run(jobs, images, finished) {
      const iterator = jobs[Symbol.asyncIterator]();
      let left = INLINE_JOBS;
      let hasEnded = false;
      async function* inline(): AsyncGenerator<CompareJob> {
        while (left > 0) {
          const next = await iterator.next();
          hasEnded = next.done === true;
          if (next.done) return;
          if (next.value.isCompressed) left--;
          yield next.value;
        }
      }
      const offset = await inlineCompareExecutor.run(inline(), images, finished);
      if (offset >= 0 || hasEnded) return offset;
      const rest = { [Symbol.asyncIterator]: () => iterator };
      return new ComparePool(files, threads).run(rest, finished);
    },
  };
}

/** How a job ended that found a difference, or failed. */
type Outcome = { offset: number } | { error: unknown };

class ComparePool {
  readonly #workers: Worker[];
  readonly #pending: number[];
  readonly #open = new Map<number, CompareJob>();
  /** The earliest job that decides the comparison. */
  #decided: { sequence: number; outcome: Outcome } | undefined;
  /** Woken when a job has ended. */
  #wake: () => void = () => {};
  #reporting: Promise<void> = Promise.resolve();

  constructor(files: CompareFiles, threads: number) {
    const url = new URL('./compare-worker.js', import.meta.url);
    this.#workers = Array.from({ length: threads }, () => new Worker(url, { workerData: files }));
    this.#pending = this.#workers.map(() => 0);
  }

  async run(jobs: AsyncIterable<CompareJob>, finished: Finished): Promise<number> {
    this.#workers.forEach((worker, index) => {
      worker.on('message', (reply: CompareReply) => this.#receive(reply, index, finished));
      worker.on('error', (error) => this.#fail(error));
      worker.on('exit', () => {
        if (this.#pending[index]! > 0) this.#fail(new Error('a comparing thread ended early'));
      });
    });
    try {
      let sequence = 0;
      try {
        for await (const job of jobs) {
          const index = await this.#freeWorker();
          if (this.#decided) break;
          this.#pending[index]!++;
          this.#open.set(sequence, job);
          const request: CompareRequest = { sequence: sequence++, job };
          this.#workers[index]!.postMessage(request);
        }
      } catch (error) {
        this.#decide(sequence, { error });
      }
      // Jobs before the one that decides can still find an earlier difference.
      while (this.#isUndecided()) await this.#change();
      await this.#reporting;
      const outcome = this.#decided?.outcome ?? { offset: -1 };
      if ('error' in outcome) throw outcome.error;
      return outcome.offset;
    } finally {
      await Promise.all(this.#workers.map((worker) => worker.terminate()));
    }
  }

  #isUndecided(): boolean {
    const before = this.#decided?.sequence ?? Number.POSITIVE_INFINITY;
    for (const sequence of this.#open.keys()) if (sequence < before) return true;
    return false;
  }

  /** The thread with the fewest jobs, once it has room, or the comparison is decided. */
  async #freeWorker(): Promise<number> {
    while (true) {
      const least = Math.min(...this.#pending);
      if (least < AHEAD || this.#decided) return this.#pending.indexOf(least);
      await this.#change();
    }
  }

  #change(): Promise<void> {
    return new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
  }

  #receive(reply: CompareReply, index: number, finished: Finished): void {
    const { sequence } = reply;
    const job = this.#open.get(sequence)!;
    this.#pending[index]!--;
    this.#open.delete(sequence);
    if ('error' in reply) this.#decide(sequence, { error: revive(reply.error) });
    else if (reply.offset >= 0) this.#decide(sequence, { offset: reply.offset });
    else
      this.#reporting = this.#reporting
        .then(() => finished(job))
        .catch((error: unknown) => this.#fail(error));
    this.#wake();
  }

  #decide(sequence: number, outcome: Outcome): void {
    if (this.#decided && this.#decided.sequence < sequence) return;
    this.#decided = { sequence, outcome };
  }

  /** What is not the fault of a job: ends the comparison whatever was found. */
  #fail(error: unknown): void {
    this.#decide(-1, { error });
    this.#wake();
  }
}
