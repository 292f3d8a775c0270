import { availableParallelism } from 'node:os';
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { Qcow2Error, type Qcow2ErrorCode } from '../errors.ts';
import type { WorkShare } from './work-share.ts';

/** Short-lived objects of a thread are small: the default lets 48 MiB of them gather. */
const THREAD_LIMITS = { maxYoungGenerationSizeMb: 4 };

/** Most threads of one operation. */
const MAX_THREADS = 16;

/** Steps listed and not ended: enough for every thread to find the next one there. */
const MOST_OPEN = 64;

/** So long a thread that takes part works alone: starting others takes longer. */
const ALONE_MILLISECONDS = 20;

/** Who does the work. */
export interface ThreadOptions {
  /**
   * Threads at work, at most 16; 1 stays on the calling thread. Default one per core, and one more to
   * convert compressed data of a server. A function is
   * asked again between steps: more threads may join while the work goes on, none leaves before its end.
   */
  threads?: number | (() => number) | undefined;
  /**
   * The calling thread is one of them: right where nothing else runs on it, since it does not come to
   * its events for up to a tenth of a second. Default false.
   */
  blocking?: boolean | undefined;
}

/** How a step ended. */
export type Outcome<Result> = { value: Result } | { error: unknown };

/** To a thread: steps that follow one another, from sequence number `first` on. */
export interface ListedSteps<Step> {
  first: number;
  steps: readonly Step[];
}

/** An error on its way between threads, which classes do not survive. */
export interface SentError {
  code: string;
  message: string;
  details: object;
  stack?: string | undefined;
}

/** From a thread: a step has ended, or (-1) something broke before the first. */
export type ThreadReply<Result> =
  | { sequence: number; value: Result }
  | { sequence: number; error: SentError };

/** What an operation does with its steps. */
export interface PoolWork<Step, Result> {
  /** In order; survive `structuredClone`. */
  steps: AsyncIterable<Step>;
  /**
   * Steps may be long in coming: each is handed out at once. Giving them up ends the wait for one. The
   * calling thread takes no part.
   */
  comeSlowly?: boolean | undefined;
  /** Does a step on the calling thread, which then takes part. */
  own?: ((step: Step, sequence: number) => Promise<Result>) | undefined;
  /** What threads run, which calls `serve`, and what it is told as `workerData`. */
  thread: { url: URL; data: object };
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

/** Whether the calling thread does all, now and later. */
export function isOne(threads: NonNullable<ThreadOptions['threads']>): boolean {
  return typeof threads === 'number' && threads <= 1;
}

/** Does the steps of an operation on worker threads, and on the calling one if it takes part. */
export class WorkerPool<Step, Result> {
  readonly #share: WorkShare;
  readonly #work: PoolWork<Step, Result>;
  readonly #threads: () => number;
  /** Where each thread finds its steps. */
  readonly #workers: MessagePort[] = [];
  readonly #exits: Promise<unknown>[] = [];
  readonly #iterator: AsyncIterator<Step>;
  /** Every step before this one has ended; those behind it that have, too. */
  #low = 0;
  readonly #high = new Set<number>();
  /** The steps listed from `#low` on. */
  readonly #window: Step[] = [];
  /** Steps from here on do not exist, or do not matter. */
  #limit = Number.POSITIVE_INFINITY;
  #reporting: Promise<void> = Promise.resolve();
  /** Woken when a step has ended. */
  #wake: () => void = () => {};
  #settle!: { resolve: () => void; reject: (error: unknown) => void };
  readonly #settled = new Promise<void>((resolve, reject) => {
    this.#settle = { resolve, reject };
  });

  /** @param threads at work, the calling one included if it takes part */
  constructor(
    share: WorkShare,
    work: PoolWork<Step, Result>,
    threads: NonNullable<ThreadOptions['threads']>,
  ) {
    this.#share = share;
    this.#work = work;
    const wanted = typeof threads === 'number' ? (): number => threads : threads;
    this.#threads = () => Math.min(wanted(), MAX_THREADS);
    this.#iterator = work.steps[Symbol.asyncIterator]();
  }

  /** @throws what a step, listing the steps, or `ended` throws */
  async run(): Promise<void> {
    const { own } = this.#work;
    const working = (own ? this.#takePart(own) : this.#listOnly()).catch((error: unknown) =>
      this.#fail(error),
    );
    try {
      await Promise.all([working, this.#settled]);
    } finally {
      this.#share.stop();
      const givenUp = this.#iterator.return?.();
      // Threads end by themselves: native code must not be ended while it is being loaded or called.
      await Promise.all([working, givenUp, ...this.#exits]);
    }
  }

  async #listOnly(): Promise<void> {
    this.#startWorkers(Math.max(1, this.#threads()));
    while (await this.#list()) {
      await this.#report();
      this.#startWorkers(this.#threads() - this.#workers.length);
    }
  }

  async #takePart(own: (step: Step, sequence: number) => Promise<Result>): Promise<void> {
    const began = performance.now();
    while (true) {
      const sequence = this.#share.take();
      while ((await this.#list()) && sequence >= this.#count) await this.#report();
      if (sequence >= Math.min(this.#count, this.#limit)) return;
      const outcome = await own(this.#window[sequence - this.#low]!, sequence).then(
        (value) => ({ value }),
        (error: unknown) => ({ error }),
      );
      this.#receive(sequence, outcome);
      await this.#reporting;
      if (performance.now() - began > ALONE_MILLISECONDS)
        this.#startWorkers(this.#threads() - 1 - this.#workers.length);
      await events();
    }
  }

  /** Steps listed so far. */
  get #count(): number {
    return this.#low + this.#window.length;
  }

  /** Lists as many steps as may be open; returns whether there may be more. */
  async #list(): Promise<boolean> {
    let first = this.#count;
    let isComplete = false;
    while (!isComplete && !this.#isDecided && this.#window.length < MOST_OPEN) {
      const next = await this.#iterator.next();
      if (next.done) isComplete = true;
      else this.#window.push(next.value);
      if (!this.#work.comeSlowly) continue;
      first = this.#announce(first);
      if (!this.#isDecided) this.#startWorkers(this.#threads() - this.#workers.length);
    }
    this.#announce(first);
    if (isComplete) this.#limitTo(this.#count);
    return !this.#isDecided;
  }

  /** Tells the threads of the steps from `first` on; returns the number of the next one. */
  #announce(first: number): number {
    const steps = this.#window.slice(first - this.#low);
    // Sent before they count: who sees the number finds the steps.
    if (steps.length > 0) for (const port of this.#workers) port.postMessage({ first, steps });
    if (!this.#isDecided) this.#share.list(this.#count);
    return this.#count;
  }

  #startWorkers(count: number): void {
    for (let i = 0; i < count; i++) {
      const { url, data } = this.#work.thread;
      // A port of their own: not every engine lets a thread ask its first one for what has come.
      const { port1: port, port2: steps } = new MessageChannel();
      const worker = new Worker(url, {
        workerData: { ...data, steps },
        transferList: [steps],
        resourceLimits: THREAD_LIMITS,
      });
      port.postMessage({ first: this.#low, steps: this.#window });
      worker.on('message', ({ sequence, ...reply }: ThreadReply<Result>) => {
        const error = 'error' in reply ? revive(reply.error) : undefined;
        this.#receive(sequence, error ? { error } : (reply as Outcome<Result>));
      });
      worker.on('error', (error) => this.#fail(error));
      this.#exits.push(
        new Promise((resolve) => {
          worker.on('exit', (code) => {
            port.close();
            if (code !== 0) this.#fail(new Error('a thread ended early'));
            resolve(code);
          });
        }),
      );
      this.#workers.push(port);
    }
  }

  #receive(sequence: number, outcome: Outcome<Result>): void {
    this.#reporting = this.#reporting
      .then(async () => {
        if (await this.#work.ended(sequence, outcome)) this.#limitTo(sequence);
        this.#high.add(sequence);
        for (; this.#high.delete(this.#low); this.#low++) this.#window.shift();
        if (this.#low >= this.#limit) this.#settle.resolve();
        this.#wake();
      })
      .catch((error: unknown) => this.#fail(error));
  }

  /** Waits until a step has ended. */
  #report(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  get #isDecided(): boolean {
    return this.#limit !== Number.POSITIVE_INFINITY;
  }

  #limitTo(limit: number): void {
    if (limit >= this.#limit) return;
    // -1 is what broke before the first step.
    this.#limit = Math.max(0, limit);
    this.#share.end(this.#limit);
    if (this.#low >= this.#limit) this.#settle.resolve();
  }

  #fail(error: unknown): void {
    this.#settle.reject(error);
    this.#limit = 0;
    this.#share.stop();
    this.#wake();
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
