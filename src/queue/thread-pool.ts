import { Worker } from 'node:worker_threads';
import type { BatchJob } from '../batch/jobs.ts';
import { THREAD_HEAP } from '../batch/memory.ts';
import type { JobFailure } from '../batch/messages.ts';
import type { JobResult, PhaseProgress } from '../batch/run-job.ts';
import type { Http } from '../batch/source-identity.ts';
import type { ThreadMessage, ThreadReply } from './messages.ts';
import type { SourceVersion } from './queued-job.ts';

/** What a job on a thread obeys and reports to. */
export interface PoolJob {
  job: BatchJob;
  sources: readonly SourceVersion[];
  http: Http;
  partialTag: string;
  signal: AbortSignal;
  onProgress(progress: PhaseProgress): void;
  /** Asked when the target is whole and durable. */
  mayPublish(): Promise<boolean>;
}

/** How a job ended. */
export type PoolOutcome = { finished: JobResult; seconds: number } | { failed: JobFailure };

/** Threads that do jobs. There are as many as there were jobs at a time. */
export class ThreadPool {
  readonly #idle: Worker[] = [];
  readonly #all = new Set<Worker>();
  readonly #hasLimit: boolean;

  /** @param hasLimit the memory of a thread is limited; one that needs more ends, and its job fails */
  constructor(hasLimit: boolean) {
    this.#hasLimit = hasLimit;
  }

  run({ signal, onProgress, mayPublish, ...request }: PoolJob): Promise<PoolOutcome> {
    const worker = this.#idle.pop() ?? this.#start();
    const post = (message: ThreadMessage): void => worker.postMessage(message);
    const abort = new Int32Array(new SharedArrayBuffer(4));
    const stop = (): void => {
      Atomics.store(abort, 0, 1);
      post({ mayPublish: false });
    };
    return new Promise((resolve) => {
      let cause: Error | undefined;
      const heard = (message: ThreadReply): void => {
        if ('progress' in message) onProgress(message.progress);
        else if ('written' in message) void mayPublish().then((may) => post({ mayPublish: may }));
        else {
          end(message);
          this.#idle.push(worker);
        }
      };
      const failed = (error: Error): void => {
        cause = error;
      };
      const died = (): void => {
        this.#all.delete(worker);
        const message = `the converting thread died${cause ? `: ${cause.message}` : ''}`;
        end({ failed: { code: 'INTERNAL', message, isTransient: false } });
      };
      const end = (outcome: PoolOutcome): void => {
        signal.removeEventListener('abort', stop);
        worker.off('message', heard).off('error', failed).off('exit', died);
        resolve(outcome);
      };
      worker.on('message', heard).on('error', failed).on('exit', died);
      signal.addEventListener('abort', stop, { once: true });
      post({ ...request, abort });
      if (signal.aborted) stop();
    });
  }

  async close(): Promise<void> {
    await Promise.all([...this.#all].map((worker) => worker.terminate()));
  }

  #start(): Worker {
    const url = new URL('./queue-worker.js', import.meta.url);
    const worker = new Worker(url, { ...(this.#hasLimit && { resourceLimits: THREAD_HEAP }) });
    this.#all.add(worker);
    return worker;
  }
}
