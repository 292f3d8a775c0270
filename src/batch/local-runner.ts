import * as os from 'node:os';
import * as path from 'node:path';
import { Qcow2Error } from '../errors.ts';
import { shownName } from '../storage/http-url.ts';
import type {
  BatchCounts,
  BatchEvent,
  BatchSummary,
  JobEnd,
  JobFailed,
  JobFiles,
} from './events.ts';
import { JobSlot, OpenJob, type SlotListener } from './job-slot.ts';
import { type BatchJob, filesWritten, requireIndependent } from './jobs.ts';
import { type MemoryCeilings, threadsWithin } from './memory.ts';
import type { JobFailure, JobReply, JobThreadSettings } from './messages.ts';
import type { Resumed } from './resume.ts';
import { retryDelay } from './retry.ts';
import type { JobResult } from './run-job.ts';
import { Schedule, weightOf } from './schedule.ts';

/** Most threads of a batch. */
export const MAX_CONCURRENCY = 256;

const RETRY_DELAY = 500;

/** What a batch obeys and reports to. */
export interface BatchOptions extends MemoryCeilings {
  /** Threads at work, and so the most images at a time: 1 to 256. Default one per core. */
  concurrency?: number | undefined;
  /** A job is finished when its target is on the disk; default true. False: when it is written. */
  durable?: boolean | undefined;
  /**
   * The calling thread is one of them: right where nothing else runs on it, since it comes to its
   * events only between steps. Default false.
   */
  blocking?: boolean | undefined;
  /** Path of the journal: what is done is noted there. Targets then are durable always. */
  journal?: string | undefined;
  /** Go on with the journal, if it is there: what is done and unchanged is skipped. Default false. */
  resume?: boolean | undefined;
  /** Attempts after the first for jobs that fail for a reason that may pass; default 0. */
  retries?: number | undefined;
  /** Milliseconds before the second attempt; twice as many before each that follows. Default 500. */
  retryDelay?: number | undefined;
  signal?: AbortSignal | undefined;
  /** Called in order, as things happen. If it throws, the batch is aborted and fails with that. */
  onEvent?: (event: BatchEvent) => void;
}

/**
 * Converts many images on threads of this process. A failed job never stops the others. Small images do
 * not wait for large ones; threads that nothing waits for help with the images that are left. Memory
 * depends on the threads, not on the number or size of the images.
 *
 * An abort stops running jobs, removes what they wrote, and reports all others as aborted; the
 * summary comes as always. With a journal the next run goes on where this one was stopped or killed.
 * @throws Qcow2Error INVALID_ARGUMENT: no jobs, an option out of range, or a job writes what another
 *   reads or writes; REFUSED, IO of the journal
 * @example
 * import { runBatch } from 'qcow2';
 *
 * const { succeeded, results } = await runBatch(
 *   ['disk', 'overlay'].map((name) => ({
 *     inputs: [{ path: `${name}.qcow2` }],
 *     target: `${name}.img`,
 *     targetFormat: 'raw',
 *     verify: true,
 *   })),
 *   { concurrency: 2, retries: 3, onEvent: ({ event }) => console.log(event) },
 * );
 * console.log(succeeded, results.map(({ target }) => target));
 */
export async function runBatch(
  jobs: readonly BatchJob[],
  options: BatchOptions = {},
): Promise<BatchSummary> {
  const concurrency = options.concurrency ?? Math.min(os.availableParallelism(), MAX_CONCURRENCY);
  requireWhole('concurrency', concurrency, 1, MAX_CONCURRENCY);
  requireWhole('number of retries', options.retries ?? 0, 0, Number.MAX_SAFE_INTEGER);
  const { threads, perImage } = threadsWithin(options, concurrency);
  if (jobs.length === 0) throw new Qcow2Error('INVALID_ARGUMENT', 'a batch needs at least one job');
  if (options.resume && options.journal === undefined)
    throw new Qcow2Error('INVALID_ARGUMENT', 'there is nothing to resume without a journal');
  requireIndependent(jobs);
  const { journal: file, resume = false } = options;
  const own = structuredClone(jobs);
  if (file === undefined) return new LocalRunner(own, threads, perImage, options).run();
  const { Journal } = await import('./journal.ts');
  const journal = new Journal(file, resume);
  try {
    const before = await (await import('./resume.ts')).resumed(journal, own);
    return await new LocalRunner(own, threads, perImage, options, before).run();
  } finally {
    journal.close();
  }
}

function requireWhole(what: string, value: number, least: number, most: number): void {
  if (Number.isSafeInteger(value) && value >= least && value <= most) return;
  const text = `${what} ${value} is not possible: ${least} to ${most} are`;
  throw new Qcow2Error('INVALID_ARGUMENT', text);
}

/** What distinguishes the ends of a job, less its files. */
type Outcome = JobEnd extends infer End
  ? End extends JobEnd
    ? Omit<End, keyof JobFiles>
    : never
  : never;

class LocalRunner implements SlotListener {
  readonly #jobs: readonly BatchJob[];
  readonly #threads: number;
  readonly #options: BatchOptions;
  /** Absent: there is no journal. */
  readonly #before: Resumed | undefined;
  readonly #schedule: Schedule;
  readonly #settings: JobThreadSettings;
  readonly #slots = new Set<JobSlot>();
  readonly #attempts: Uint32Array;
  /** Jobs that wait until they are tried again. */
  readonly #timers = new Map<number, NodeJS.Timeout>();
  readonly #results: JobEnd[] = [];
  #unfinished: number;
  /** Of the listener or the journal: ends the batch. */
  #fatal: { error: unknown } | undefined;
  #allDone: () => void = () => {};

  constructor(
    jobs: readonly BatchJob[],
    threads: number,
    perImage: number,
    options: BatchOptions,
    before?: Resumed,
  ) {
    this.#jobs = jobs;
    this.#threads = threads;
    this.#options = options;
    this.#before = before;
    this.#unfinished = jobs.length;
    this.#attempts = new Uint32Array(jobs.length);
    this.#settings = {
      abort: new Int32Array(new SharedArrayBuffer(4)),
      durable: before !== undefined || options.durable !== false,
      identify: before !== undefined,
      partialTag: before?.journal.tag,
    };
    before?.journal.removeLeftovers(jobs.flatMap(filesWritten).map((file) => path.dirname(file)));
    const weights = new Map<number, number>();
    for (const [index, job] of jobs.entries())
      if (!before?.done.has(index)) weights.set(index, weightOf(job));
    this.#schedule = new Schedule(weights, threads, perImage);
  }

  async run(): Promise<BatchSummary> {
    const { signal } = this.#options;
    const began = performance.now();
    const stop = (): void => this.#stop();
    const done = new Promise<void>((resolve) => {
      this.#allDone = resolve;
    });
    signal?.addEventListener('abort', stop, { once: true });
    try {
      this.#emit({
        event: 'batch-started',
        total: this.#jobs.length,
        concurrency: this.#threads,
      });
      for (const [index, source] of this.#before?.untold ?? [])
        this.#emit({ event: 'job-repeated', ...this.#files(index), source });
      for (const [index, { figures }] of this.#before?.done ?? [])
        this.#record(index, { event: 'job-skipped', ...figures });
      if (signal?.aborted) this.#stop();
      this.#startJobs();
      if (this.#unfinished > 0) await done;
    } finally {
      signal?.removeEventListener('abort', stop);
      await Promise.all([...this.#slots].map((slot) => slot.end()));
    }
    const summary = { ...countsOf(this.#results), seconds: secondsSince(began) };
    this.#emit({ event: 'batch-finished', ...summary });
    if (this.#fatal) throw this.#fatal.error;
    return { ...summary, results: this.#results };
  }

  #startJobs(): void {
    const begun: number[] = [];
    for (let job = this.#schedule.next(); job !== undefined; job = this.#schedule.next())
      begun.push(job);
    const grown = this.#schedule.grow();
    for (const index of begun) {
      grown.delete(index);
      this.#begin(index);
    }
    for (const job of grown) {
      const threads = this.#schedule.threadsOf(job);
      const open = this.#slotOf(job)?.open.get(job);
      if (open) Atomics.store(open.threads, 0, threads);
      this.#emit({ event: 'job-threads', job, threads });
    }
    if (grown.size > 0) this.#retireIdle();
  }

  #begin(index: number): void {
    const slot = this.#idleSlot();
    this.#send(slot, index);
    this.#started(slot, index);
  }

  #send(slot: JobSlot, index: number): void {
    const open = new OpenJob();
    slot.send({ index, job: this.#jobs[index]!, threads: open.threads }, open);
  }

  #started(slot: JobSlot, index: number): void {
    const open = slot.open.get(index)!;
    const threads = this.#schedule.threadsOf(index);
    Atomics.store(open.threads, 0, threads);
    slot.current = index;
    const attempt = ++this.#attempts[index]!;
    const files = this.#files(index);
    this.#emit({ event: 'job-started', ...files, threads, thread: slot.number, attempt });
    // This thread works, too, and does not see at once that another one is done.
    if (this.#options.blocking && !slot.isCalling) {
      slot.ahead = this.#schedule.nextBehind(index);
      if (slot.ahead !== undefined) this.#send(slot, slot.ahead);
    }
  }

  #idleSlot(): JobSlot {
    for (const slot of this.#slots) if (slot.isIdle) return slot;
    let number = 0;
    const taken = new Set([...this.#slots].map((slot) => slot.number));
    while (taken.has(number)) number++;
    const { blocking = false, memory } = this.#options;
    const isCalling = blocking && number === 0;
    const slot = new JobSlot(number, this.#settings, this, isCalling, memory !== undefined);
    this.#slots.add(slot);
    return slot;
  }

  #slotOf(job: number): JobSlot | undefined {
    for (const slot of this.#slots) if (slot.current === job) return slot;
    return undefined;
  }

  /** Their threads now work for another image. */
  #retireIdle(): void {
    for (const slot of this.#slots) if (slot.isIdle && slot.open.size === 0) slot.retire();
  }

  reply(slot: JobSlot, { index, ...message }: JobReply): void {
    const open = slot.open.get(index);
    if (open === undefined) return;
    if ('progress' in message) {
      const { phase, done, total } = message.progress;
      const speed = open.meter.update(phase, performance.now(), done, total);
      this.#emit({ event: 'job-progress', job: index, ...message.progress, ...speed });
      return;
    }
    if (slot.current === index) this.#leave(slot);
    if (!('written' in message)) slot.open.delete(index);
    if ('failed' in message) this.#fail(index, message.failed);
    if ('finished' in message) void this.#finish(index, message.finished, message.seconds);
    this.#startJobs();
  }

  /** The thread of a slot is done with the current job and, if there is one ahead, does that. */
  #leave(slot: JobSlot): void {
    this.#schedule.end(slot.current!);
    slot.current = undefined;
    const { ahead } = slot;
    if (ahead === undefined) return;
    slot.ahead = undefined;
    this.#schedule.begin(ahead);
    this.#started(slot, ahead);
  }

  /** A thread that ended by itself takes its job with it, and a new one takes its place. */
  lost(slot: JobSlot, cause: Error | undefined): void {
    this.#slots.delete(slot);
    if (slot.current !== undefined) this.#schedule.end(slot.current);
    const why = cause ? `: ${cause.message}` : '';
    const message = `the converting thread died${why}`;
    // What was sent ahead was not begun; what waited for the disk may not be there after a power cut.
    for (const index of slot.open.keys())
      if (index === slot.current)
        this.#fail(index, { code: 'INTERNAL', message, isTransient: false });
      else this.#waitAgain(index);
    if (this.#unfinished > 0) this.#startJobs();
  }

  async #finish(index: number, result: JobResult, seconds: number): Promise<void> {
    const { phases, sources, targets, ...figures } = result;
    const at = new Date().toISOString();
    try {
      const done = this.#before?.ids[index] ?? '';
      await this.#before?.journal.append({ done, at, figures, sources, targets });
    } catch (error) {
      this.#giveUp(error);
    }
    const ended = { seconds: Math.round(1000 * seconds) / 1000, ...figures, phases };
    this.#record(index, { event: 'job-finished', ...ended, attempts: this.#attempts[index]! });
  }

  #fail(index: number, { isTransient, code, message }: JobFailure): void {
    const { retries = 0, retryDelay: first = RETRY_DELAY } = this.#options;
    const attempt = this.#attempts[index]!;
    if (!isTransient || attempt > retries || this.#isStopped) {
      this.#record(index, { event: 'job-failed', code, message, attempts: attempt });
      return;
    }
    const delay = retryDelay(attempt, first);
    const failure = { attempt, code: code as Exclude<typeof code, 'INTERNAL'>, message };
    const seconds = Math.round(delay) / 1000;
    this.#emit({ event: 'job-retry', ...this.#files(index), ...failure, delay: seconds });
    const again = (): void => {
      this.#timers.delete(index);
      this.#waitAgain(index);
      this.#startJobs();
    };
    this.#timers.set(index, setTimeout(again, delay));
  }

  #waitAgain(index: number): void {
    this.#schedule.retry(index, weightOf(this.#jobs[index]!));
    if (this.#isStopped) this.#abortWaiting();
  }

  #record(index: number, outcome: Outcome): void {
    const result = { ...outcome, ...this.#files(index) } as JobEnd;
    this.#results[index] = result;
    this.#unfinished--;
    this.#emit(result);
    if (this.#unfinished === 0) this.#allDone();
  }

  get #isStopped(): boolean {
    return Atomics.load(this.#settings.abort, 0) !== 0;
  }

  /** Running jobs find out by themselves; what waits has failed now. */
  #stop(): void {
    if (Atomics.exchange(this.#settings.abort, 0, 1) === 0) this.#abortWaiting();
  }

  #abortWaiting(): void {
    const waiting = this.#schedule.drop();
    for (const [index, timer] of this.#timers) {
      clearTimeout(timer);
      waiting.push(index);
    }
    this.#timers.clear();
    const outcome: Pick<JobFailed, 'event' | 'code' | 'message'> = {
      event: 'job-failed',
      code: 'ABORTED',
      message: 'the batch was aborted',
    };
    for (const index of waiting)
      this.#record(index, { ...outcome, attempts: this.#attempts[index]! });
  }

  #giveUp(error: unknown): void {
    this.#fatal ??= { error };
    this.#stop();
  }

  #files(job: number): JobFiles {
    const { inputs, target } = this.#jobs[job]!;
    return { job, inputs: inputs.map((input) => shownName(input.path)), target };
  }

  #emit(event: BatchEvent): void {
    if (this.#fatal) return;
    try {
      this.#options.onEvent?.(event);
    } catch (error) {
      this.#giveUp(error);
    }
  }
}

function countsOf(results: readonly JobEnd[]): BatchCounts {
  const count = (event: JobEnd['event']): number =>
    results.filter((result) => result.event === event).length;
  return {
    succeeded: count('job-finished'),
    skipped: count('job-skipped'),
    failed: count('job-failed'),
  };
}

function secondsSince(began: number): number {
  return Math.round(performance.now() - began) / 1000;
}
