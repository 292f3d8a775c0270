import type { QueueEvents } from 'bullmq';
import type { BatchEvent, BatchSummary, JobEnd, JobFailed, JobFiles } from '../batch/events.ts';

import { isObject } from '../batch/job-schema.ts';
import { RateMeter } from '../batch/rate-meter.ts';
import type { PhaseProgress } from '../batch/run-job.ts';
import { shownName } from '../storage/http-url.ts';
import type { QueueConnection } from './connection.ts';
import { QUEUE_NAME, type QueuedProgress, type QueuedResult } from './queued-job.ts';
import type { BatchQueue, Submission } from './submit.ts';

/** Milliseconds between two looks at the jobs that have not ended: events may get lost, these do not. */
const LOOK_INTERVAL = 5000;

/** A job that has not ended. */
interface Open {
  readonly files: JobFiles;
  meter: RateMeter;
  attempts: number;
  lane: number | undefined;
  failure: Pick<JobFailed, 'code' | 'message'> | undefined;
}

/** How waiting ended: all jobs have, or whoever waited was stopped. */
export type Watched = BatchSummary & { isComplete: boolean };

/** Follows submitted jobs to their ends, telling of them what a batch on this machine tells. */
export class JobWatch {
  readonly #queue: BatchQueue;
  readonly #events: QueueEvents;
  readonly #onEvent: (event: BatchEvent) => void;
  readonly #open = new Map<string, Open>();
  readonly #results: JobEnd[] = [];
  readonly #lanes = new Set<number>();
  #ended: () => void = () => {};

  private constructor(
    queue: BatchQueue,
    events: QueueEvents,
    onEvent: (event: BatchEvent) => void,
  ) {
    this.#queue = queue;
    this.#events = events;
    this.#onEvent = onEvent;
    this.#listen();
  }

  /** Begins before jobs are submitted, so that nothing is missed. */
  static async begin(
    { packages, redis }: QueueConnection,
    queue: BatchQueue,
    onEvent: (event: BatchEvent) => void,
  ): Promise<JobWatch> {
    const [last] = await redis.xrevrange(queue.toKey('events'), '+', '-', 'COUNT', 1);
    const events = new packages.bullmq.QueueEvents(QUEUE_NAME, {
      connection: redis,
      lastEventId: last?.[0] ?? '0',
      autorun: false,
    });
    events.on('error', () => {});
    return new JobWatch(queue, events, onEvent);
  }

  /** Settles when all jobs have ended, or when it is stopped; the jobs go on then. */
  async follow({ ids, jobs, done, untold }: Submission, signal: AbortSignal): Promise<Watched> {
    const began = performance.now();
    const concurrency = await this.#queue.getWorkersCount();
    this.#onEvent({ event: 'batch-started', total: jobs.length, concurrency });
    for (const [job, { inputs, target }] of jobs.entries()) {
      const files = { job, inputs: inputs.map(({ path }) => shownName(path)), target };
      const fresh = { meter: new RateMeter(), attempts: 0, lane: undefined, failure: undefined };
      this.#open.set(ids[job]!, { files, ...fresh });
    }
    for (const [job, source] of untold)
      this.#onEvent({ event: 'job-repeated', ...this.#open.get(ids[job]!)!.files, source });
    for (const job of done) await this.#look(ids[job]!, true);
    const isComplete = await this.#untilEnd(signal);
    const seconds = Math.round(performance.now() - began) / 1000;
    const results = this.#results.filter((result) => result !== undefined);
    const count = (event: JobEnd['event']): number =>
      results.filter((result) => result.event === event).length;
    const counts = {
      succeeded: count('job-finished'),
      skipped: count('job-skipped'),
      failed: count('job-failed'),
    };
    this.#onEvent({ event: 'batch-finished', seconds, ...counts });
    return { ...counts, seconds, results, isComplete };
  }

  /** Nothing more is told. */
  async close(): Promise<void> {
    await this.#events.close();
  }

  async #untilEnd(signal: AbortSignal): Promise<boolean> {
    const ended = new Promise<void>((resolve) => {
      this.#ended = resolve;
      signal.addEventListener('abort', () => resolve(), { once: true });
    });
    // Ends when it is closed, however that happens.
    this.#events.run().catch(() => {});
    const timer = setInterval(() => this.#lookAtAll(), LOOK_INTERVAL);
    try {
      if (this.#open.size > 0 && !signal.aborted) await ended;
      return this.#open.size === 0;
    } finally {
      clearInterval(timer);
    }
  }

  #lookAtAll(): void {
    for (const id of this.#open.keys()) this.#look(id, false).catch(() => {});
  }

  /** Asks how a job stands. */
  async #look(id: string, isBefore: boolean): Promise<void> {
    const job = await this.#queue.getJob(id);
    if (job === undefined) this.#removed(id);
    else if (job.finishedOn !== undefined && job.failedReason)
      this.#fail(id, job.failedReason, failureIn(job.progress), job.attemptsMade);
    else if (job.finishedOn !== undefined && isBefore) this.#skip(id, job.returnvalue);
    else if (job.finishedOn !== undefined) this.#finish(id, job.returnvalue);
  }

  #listen(): void {
    const events = this.#events;
    events.on('active', ({ jobId }) => this.#start(jobId));
    events.on('progress', ({ jobId, data }) => this.#progress(jobId, data as QueuedProgress));
    events.on('delayed', ({ jobId, delay }) => this.#retry(jobId, Math.max(0, delay - Date.now())));
    events.on('waiting', ({ jobId, prev }) => {
      if (prev === 'active') this.#comeBack(jobId);
    });
    events.on('completed', ({ jobId, returnvalue }) => this.#finish(jobId, returnvalue as never));
    events.on('failed', ({ jobId, failedReason }) => {
      const open = this.#open.get(jobId);
      if (open) this.#fail(jobId, failedReason, open.failure, open.attempts);
    });
    events.on('removed', ({ jobId }) => this.#removed(jobId));
  }

  #start(id: string): void {
    const open = this.#open.get(id);
    if (open === undefined) return;
    this.#leaveLane(open);
    open.lane = 0;
    while (this.#lanes.has(open.lane)) open.lane++;
    this.#lanes.add(open.lane);
    const attempt = ++open.attempts;
    open.meter = new RateMeter();
    const place = { threads: 1, thread: open.lane, attempt };
    this.#onEvent({ event: 'job-started', ...open.files, ...place });
  }

  #progress(id: string, progress: QueuedProgress): void {
    const open = this.#open.get(id);
    if (open === undefined) return;
    open.attempts = progress.attempt;
    if ('failed' in progress) {
      open.failure = progress.failed;
      return;
    }
    const { attempt: _, ...figures }: PhaseProgress & { attempt: number } = progress;
    const { phase, done, total } = figures;
    const speed = open.meter.update(phase, performance.now(), done, total);
    this.#onEvent({ event: 'job-progress', job: open.files.job, ...figures, ...speed });
  }

  #retry(id: string, milliseconds: number): void {
    const open = this.#open.get(id);
    if (open?.failure === undefined) return;
    this.#leaveLane(open);
    const { code, message } = open.failure;
    const failure = { code: code as Exclude<typeof code, 'INTERNAL'>, message };
    const delay = Math.round(milliseconds) / 1000;
    const { attempts: attempt } = open;
    this.#onEvent({ event: 'job-retry', ...open.files, attempt, ...failure, delay });
  }

  /** Its worker has given it back or was lost, which was no attempt. */
  #comeBack(id: string): void {
    const open = this.#open.get(id);
    if (open === undefined || open.lane === undefined) return;
    const message = 'its worker has stopped or is lost';
    open.failure = { code: 'ABORTED', message };
    this.#retry(id, 0);
    open.failure = undefined;
    open.attempts--;
  }

  #finish(id: string, { targets: _, ...figures }: QueuedResult): void {
    this.#end(id, ({ files }) => ({ event: 'job-finished', ...files, ...figures }));
  }

  #skip(id: string, { bytesVirtual, bytesSource, bytesWritten, checksum }: QueuedResult): void {
    const figures = { bytesVirtual, bytesSource, bytesWritten, ...(checksum && { checksum }) };
    this.#end(id, ({ files }) => ({ event: 'job-skipped', ...files, ...figures }));
  }

  #fail(id: string, reason: string, failure: Open['failure'], attempts: number): void {
    // Of a job that was not begun again the queue itself says why.
    const code = failure?.message === reason ? failure.code : 'INTERNAL';
    const failed = { code, message: reason, attempts };
    this.#end(id, ({ files }) => ({ event: 'job-failed', ...files, ...failed }));
  }

  #removed(id: string): void {
    this.#fail(id, 'it was cancelled', { code: 'ABORTED', message: 'it was cancelled' }, 0);
  }

  #end(id: string, resultOf: (open: Open) => JobEnd): void {
    const open = this.#open.get(id);
    if (open === undefined) return;
    this.#leaveLane(open);
    this.#open.delete(id);
    const result = resultOf(open);
    this.#results[open.files.job] = result;
    this.#onEvent(result);
    if (this.#open.size === 0) this.#ended();
  }

  #leaveLane(open: Open): void {
    if (open.lane !== undefined) this.#lanes.delete(open.lane);
    open.lane = undefined;
  }
}

/** Why an attempt failed, from what its worker told last. */
export function failureIn(progress: unknown): Pick<JobFailed, 'code' | 'message'> | undefined {
  if (!isObject(progress) || !isObject(progress.failed)) return undefined;
  return progress.failed as unknown as Pick<JobFailed, 'code' | 'message'>;
}
