import { availableParallelism } from 'node:os';
import type { Worker } from 'node:worker_threads';
import { Qcow2Error, type Qcow2ErrorCode } from '../errors.ts';
import type { WorkShare } from './work-share.ts';

/** Most threads of one operation. */
export const MAX_THREADS = 16;

/** Steps this thread lists without a pause. */
const LISTED_AT_ONCE = 1024;

/** So long a thread that takes part works alone: starting others takes longer. */
const ALONE_MILLISECONDS = 20;

/** How a step ended. */
export type Outcome<Result> = { value: Result } | { error: unknown };

/** An error on its way between threads, which classes do not survive. */
export interface SentError {
  code: string;
  message: string;
  details: object;
  stack?: string | undefined;
}

/** From a thread: a step has ended, or something broke before or between steps. */
export type ThreadReply<Result> =
  | { sequence: number; value: Result }
  | { sequence: number; error: SentError };

/** What an operation does with its steps. */
export interface PoolWork<Step, Result> {
  /** Steps in order, every time it is called; the worker threads list the same. */
  steps: () => AsyncIterable<Step>;
  /** Does a step on the calling thread, which then takes part. */
  own?: ((step: Step, sequence: number) => Promise<Result>) | undefined;
  /**
   * Called once per step, one call at a time, in any order. Returns true when nothing behind this
   * step matters any more; what it throws ends the operation.
   */
  ended: (sequence: number, outcome: Outcome<Result>) => boolean | Promise<boolean>;
}

/** Threads to use when nobody says how many. */
export function defaultThreads(): number {
  return Math.min(availableParallelism(), MAX_THREADS);
}

/** Does the steps of an operation on worker threads, and on the calling one if it takes part. */
export class WorkerPool<Step, Result> {
  readonly #share: WorkShare;
  readonly #work: PoolWork<Step, Result>;
  readonly #start: () => readonly Worker[];
  readonly #exits: Promise<unknown>[] = [];
  /** Every step before this one has ended; those behind it that have, too. */
  #low = 0;
  readonly #high = new Set<number>();
  /** Steps from here on do not exist, or do not matter. */
  #limit = Number.POSITIVE_INFINITY;
  #reporting: Promise<void> = Promise.resolve();
  #settle!: { resolve: () => void; reject: (error: unknown) => void };
  readonly #settled = new Promise<void>((resolve, reject) => {
    this.#settle = { resolve, reject };
  });

  /** @param start starts the worker threads, with `share` */
  constructor(share: WorkShare, work: PoolWork<Step, Result>, start: () => readonly Worker[]) {
    this.#share = share;
    this.#work = work;
    this.#start = start;
  }

  /** @throws what a step, listing the steps, or `ended` throws */
  async run(): Promise<void> {
    if (!this.#work.own) this.#startWorkers();
    const listed = this.#list().catch((error: unknown) => this.#fail(error));
    try {
      await Promise.all([listed, this.#settled]);
    } finally {
      this.#share.stop();
      // Threads end by themselves: native code must not be ended while it is being loaded or called.
      await Promise.all([listed, ...this.#exits]);
    }
  }

  #startWorkers(): void {
    for (const worker of this.#start()) {
      worker.on('message', ({ sequence, ...reply }: ThreadReply<Result>) => {
        const error = 'error' in reply ? revive(reply.error) : undefined;
        this.#receive(sequence, error ? { error } : (reply as Outcome<Result>));
      });
      worker.on('error', (error) => this.#fail(error));
      this.#exits.push(
        new Promise((resolve) => {
          worker.on('exit', (code) => {
            if (code !== 0) this.#fail(new Error('a thread ended early'));
            resolve(code);
          });
        }),
      );
    }
  }

  /** Counts the steps, and does those this thread takes. */
  async #list(): Promise<void> {
    let count = 0;
    async function* counted(steps: AsyncIterable<Step>): AsyncGenerator<Step> {
      for await (const step of steps) {
        count++;
        yield step;
      }
    }
    const steps = counted(this.#work.steps());
    const { own } = this.#work;
    const began = performance.now();
    if (own) {
      for await (const { sequence, step } of this.#share.mine(steps)) {
        const outcome = await own(step, sequence).then(
          (value) => ({ value }),
          (error: unknown) => ({ error }),
        );
        this.#receive(sequence, outcome);
        await this.#reporting;
        if (this.#exits.length === 0 && performance.now() - began > ALONE_MILLISECONDS)
          this.#startWorkers();
        await events();
      }
    }
    for await (const _ of steps) {
      if (count % LISTED_AT_ONCE === 0) await events();
      if (this.#isDecided) return;
    }
    // Who has stopped has not listed all.
    if (!this.#isDecided) this.#limitTo(count);
  }

  #receive(sequence: number, outcome: Outcome<Result>): void {
    this.#reporting = this.#reporting
      .then(async () => {
        if (await this.#work.ended(sequence, outcome)) {
          this.#share.stop();
          this.#limitTo(sequence);
        }
        this.#high.add(sequence);
        while (this.#high.delete(this.#low)) this.#low++;
        this.#share.ended();
        if (this.#low >= this.#limit) this.#settle.resolve();
      })
      .catch((error: unknown) => this.#fail(error));
  }

  get #isDecided(): boolean {
    return this.#limit !== Number.POSITIVE_INFINITY;
  }

  #limitTo(limit: number): void {
    if (limit >= this.#limit) return;
    this.#limit = limit;
    if (this.#low >= limit) this.#settle.resolve();
  }

  #fail(error: unknown): void {
    this.#limit = 0;
    this.#share.stop();
    this.#settle.reject(error);
  }
}

/** Lets what other threads sent, signals and timers in. */
function events(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** An error that came from another thread. */
function revive(error: SentError): Error {
  if (error.code === 'INTERNAL') return new Error(error.stack ?? error.message);
  return new Qcow2Error(error.code as Qcow2ErrorCode, error.message, error.details);
}
