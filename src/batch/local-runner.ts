import * as os from 'node:os';
import { Worker } from 'node:worker_threads';
import { Qcow2Error } from '../errors.ts';
import { shownName } from '../storage/http-url.ts';
import type { BatchEvent, BatchSummary, JobFailed, JobFiles, JobFinished } from './events.ts';
import { type BatchJob, requireIndependent } from './jobs.ts';
import type { BatchWorkerReply, BatchWorkerRequest, BatchWorkerStart } from './messages.ts';
import { startOrder, threadShare, type WaitingJob } from './schedule.ts';

/** Most threads of a batch. */
export const MAX_CONCURRENCY = 256;

/** What a batch obeys and reports to. */
export interface BatchOptions {
  /** Threads at work, and so the most images at a time: 1 to 256. Default one per core. */
  concurrency?: number | undefined;
  /** A job is finished when its target is on the disk; default true. False: when it is written. */
  durable?: boolean | undefined;
  signal?: AbortSignal | undefined;
  /** Called in order, as things happen. If it throws, the batch is aborted and fails with that. */
  onEvent?: (event: BatchEvent) => void;
}

/**
 * Converts many images on worker threads of this process. A failed job never stops the others. The
 * largest begin first; threads that nothing waits for help with the images that are left. Memory
 * depends on the concurrency, not on the number or size of the images.
 *
 * An abort stops running jobs, removes what they wrote, and reports all others as aborted; the
 * summary comes as always.
 * @throws Qcow2Error INVALID_ARGUMENT: no jobs, concurrency out of range, or a job writes what
 *   another reads or writes
 * @example
 * import { runBatch } from 'qcow2';
 *
 * const { succeeded, results } = await runBatch(
 *   ['disk', 'overlay'].map((name) => ({
 *     inputs: [{ path: `${name}.qcow2` }],
 *     target: `${name}.img`,
 *     targetFormat: 'raw',
 *   })),
 *   { concurrency: 2, onEvent: ({ event }) => console.log(event) },
 * );
 * console.log(succeeded, results.map(({ target }) => target));
 */
export async function runBatch(
  jobs: readonly BatchJob[],
  options: BatchOptions = {},
): Promise<BatchSummary> {
  const concurrency = options.concurrency ?? Math.min(os.availableParallelism(), MAX_CONCURRENCY);
  if (!Number.isInteger(concurrency) || concurrency < 1 || concurrency > MAX_CONCURRENCY) {
    const text = `concurrency ${concurrency} is not possible: 1 to ${MAX_CONCURRENCY} are`;
    throw new Qcow2Error('INVALID_ARGUMENT', text);
  }
  if (jobs.length === 0) throw new Qcow2Error('INVALID_ARGUMENT', 'a batch needs at least one job');
  requireIndependent(jobs);
  return new LocalRunner(structuredClone(jobs), concurrency, options).run();
}

type Outcome =
  | Pick<JobFinished, 'bytesVirtual' | 'bytesWritten'>
  | Pick<JobFailed, 'code' | 'message'>;

/** A thread and what it does. */
interface Slot {
  readonly worker: Worker;
  current: { index: number; threads: number } | undefined;
  /** Jobs begun and not finished, with the time they began: the current one and those being synced. */
  readonly open: Map<number, number>;
  /** What it died of. */
  cause: Error | undefined;
}

class LocalRunner {
  readonly #jobs: readonly BatchJob[];
  readonly #concurrency: number;
  readonly #options: BatchOptions;
  readonly #abort = new Int32Array(new SharedArrayBuffer(4));
  readonly #slots = new Set<Slot>();
  readonly #results: (JobFinished | JobFailed)[] = [];
  #waiting: WaitingJob[];
  #waitingWeight: number;
  /** Threads not given to any job. */
  #free: number;
  #open: number;
  #listenerError: { error: unknown } | undefined;
  #allDone: () => void = () => {};

  constructor(jobs: readonly BatchJob[], concurrency: number, options: BatchOptions) {
    this.#jobs = jobs;
    this.#concurrency = this.#free = concurrency;
    this.#options = options;
    this.#open = jobs.length;
    // The last is the next: taking it away is cheap.
    this.#waiting = startOrder(jobs).reverse();
    this.#waitingWeight = this.#waiting.reduce((sum, { weight }) => sum + weight, 0);
  }

  async run(): Promise<BatchSummary> {
    const { signal } = this.#options;
    const began = performance.now();
    const total = this.#jobs.length;
    const stop = (): void => this.#stop();
    const done = new Promise<void>((resolve) => {
      this.#allDone = resolve;
    });
    signal?.addEventListener('abort', stop, { once: true });
    try {
      this.#emit({ event: 'batch-started', total, concurrency: this.#concurrency });
      if (signal?.aborted) this.#stop();
      this.#startJobs();
      await done;
    } finally {
      signal?.removeEventListener('abort', stop);
      await Promise.all([...this.#slots].map(({ worker }) => worker.terminate()));
    }
    const failed = this.#results.filter(({ event }) => event === 'job-failed').length;
    const counts = { succeeded: total - failed, failed, seconds: secondsSince(began) };
    this.#emit({ event: 'batch-finished', ...counts });
    if (this.#listenerError) throw this.#listenerError.error;
    return { ...counts, results: this.#results };
  }

  #startJobs(): void {
    while (this.#free > 0 && this.#open > 0) {
      const next = this.#waiting.pop();
      if (next === undefined) return;
      const { index, weight } = next;
      const threads = threadShare(this.#free, weight, this.#waitingWeight);
      this.#waitingWeight -= weight;
      this.#free -= threads;
      const slot = this.#idleSlot();
      slot.current = { index, threads };
      slot.open.set(index, performance.now());
      this.#emit({ event: 'job-started', ...this.#files(index), threads });
      const request: BatchWorkerRequest = { index, job: this.#jobs[index]!, threads };
      slot.worker.postMessage(request);
    }
  }

  #idleSlot(): Slot {
    for (const slot of this.#slots) if (slot.current === undefined) return slot;
    const { durable = true } = this.#options;
    const workerData: BatchWorkerStart = { abort: this.#abort, durable };
    const worker = new Worker(new URL('./batch-worker.js', import.meta.url), { workerData });
    const slot: Slot = { worker, current: undefined, open: new Map(), cause: undefined };
    this.#slots.add(slot);
    worker.on('message', (reply: BatchWorkerReply) => this.#receive(slot, reply));
    worker.on('error', (error) => {
      slot.cause = error;
    });
    worker.on('exit', () => this.#lose(slot));
    return slot;
  }

  #receive(slot: Slot, { index, ...reply }: BatchWorkerReply): void {
    if ('progress' in reply) {
      this.#emit({ event: 'job-progress', job: index, ...reply.progress });
      return;
    }
    if (slot.current?.index === index) {
      this.#free += slot.current.threads;
      slot.current = undefined;
    }
    if ('finished' in reply) this.#settle(slot, index, reply.finished);
    else if ('failed' in reply) this.#settle(slot, index, reply.failed);
    this.#startJobs();
  }

  /** A thread that ended by itself takes its jobs with it, and a new one takes its place. */
  #lose(slot: Slot): void {
    this.#slots.delete(slot);
    this.#free += slot.current?.threads ?? 0;
    slot.current = undefined;
    const why = slot.cause ? `: ${slot.cause.message}` : '';
    const message = `the converting thread died${why}`;
    for (const index of [...slot.open.keys()])
      this.#settle(slot, index, { code: 'INTERNAL', message });
    this.#startJobs();
  }

  #settle(slot: Slot, index: number, outcome: Outcome): void {
    const began = slot.open.get(index)!;
    slot.open.delete(index);
    this.#record(index, outcome, began);
  }

  #record(index: number, outcome: Outcome, began: number): void {
    const files = this.#files(index);
    const result: JobFinished | JobFailed =
      'code' in outcome
        ? { event: 'job-failed', ...files, ...outcome }
        : { event: 'job-finished', ...files, seconds: secondsSince(began), ...outcome };
    this.#results[index] = result;
    this.#open--;
    this.#emit(result);
    if (this.#open === 0) this.#allDone();
  }

  /** Running jobs find out by themselves; what waits has failed now. */
  #stop(): void {
    if (Atomics.exchange(this.#abort, 0, 1) !== 0) return;
    const waiting = this.#waiting.reverse();
    this.#waiting = [];
    const outcome = { code: 'ABORTED', message: 'the batch was aborted' } as const;
    for (const { index } of waiting) this.#record(index, outcome, 0);
  }

  #files(job: number): JobFiles {
    const { inputs, target } = this.#jobs[job]!;
    return { job, inputs: inputs.map((input) => shownName(input.path)), target };
  }

  #emit(event: BatchEvent): void {
    if (this.#listenerError) return;
    try {
      this.#options.onEvent?.(event);
    } catch (error) {
      this.#listenerError = { error };
      this.#stop();
    }
  }
}

function secondsSince(began: number): number {
  return Math.round(performance.now() - began) / 1000;
}
