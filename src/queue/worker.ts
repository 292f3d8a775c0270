import * as os from 'node:os';
import type { Job, Worker } from 'bullmq';
import type { BatchEvent, JobFiles } from '../batch/events.ts';
import { failureOf } from '../batch/job-thread.ts';
import type { BatchJob } from '../batch/jobs.ts';
import { threadsWithin } from '../batch/memory.ts';
import type { JobFailure } from '../batch/messages.ts';
import type { PhaseProgress } from '../batch/run-job.ts';
import { isQcow2Error, Qcow2Error } from '../errors.ts';
import { shownName } from '../storage/http-url.ts';
import { type Notice, type QueueAddress, QueueConnection } from './connection.ts';
import {
  jobOf,
  namesOf,
  partialTag,
  QUEUE_NAME,
  type QueuedData,
  type QueuedProgress,
  type QueuedResult,
  removeLeftovers,
  type SourceVersion,
} from './queued-job.ts';
import { Root } from './root.ts';
import { openQueue } from './submit.ts';
import { type PoolOutcome, ThreadPool } from './thread-pool.ts';

/** A job may lose its worker so often before it counts as the cause. */
const MOST_STALLS = 5;

/** Milliseconds beyond the time for finishing in which jobs must have been given back. */
const GIVE_BACK = 5000;

/** Milliseconds between two looks at a queue that is to be drained. */
const DRAIN_INTERVAL = 500;

/** States of jobs that have not ended. */
const UNFINISHED = ['waiting', 'prioritized', 'delayed', 'active'] as const;

/** What happens to a job on a worker. */
export type WorkerEvent = BatchEvent & { id: string };

/** What a worker obeys and reports to. */
export interface QueueWorkerOptions {
  queue: QueueAddress;
  /** The folder whose tree is all it reads and writes. */
  root: string;
  /** URLs that it may read, each with all below it. */
  allowedUrls: readonly string[];
  /** Images at a time, a thread each. */
  concurrency: number;
  /** Bytes for the whole process; absent: no limit. */
  memory?: number | undefined;
  /** Seconds after which a worker that is not heard of loses its jobs. */
  lockSeconds: number;
  /** Seconds that running jobs have to finish once the worker is to stop; then they are given back. */
  graceSeconds: number;
  /** Stop when no job waits or runs any more, on other workers neither. */
  drain: boolean;
  /** The worker is to stop. */
  signal: AbortSignal;
  onEvent(event: WorkerEvent): void;
  onNotice: Notice;
}

type QueuedJob = Job<QueuedData, QueuedResult>;

/** A job that is being done. */
interface Running extends JobFiles {
  readonly job: number;
  readonly attempt: number;
  readonly controller: AbortController;
  /** Another worker has the job, or will have it. */
  isLost: boolean;
}

/**
 * Does jobs of a queue until it is to stop.
 * @throws Qcow2Error NOT_FOUND, IO, REFUSED, INVALID_ARGUMENT: it could not begin; ABORTED: it was to stop
 *   before the queue was drained
 */
export async function runQueueWorker(options: QueueWorkerOptions): Promise<void> {
  const { concurrency, memory, root, allowedUrls } = options;
  const { threads } = threadsWithin({ memory }, concurrency);
  const inside = new Root(root, allowedUrls);
  const connection = await QueueConnection.open(options.queue, options.onNotice);
  try {
    await new QueueWorker(connection, inside, threads, options).run();
  } finally {
    connection.close();
  }
}

class QueueWorker {
  readonly #connection: QueueConnection;
  readonly #root: Root;
  readonly #options: QueueWorkerOptions;
  readonly #pool: ThreadPool;
  readonly #worker: Worker<QueuedData, QueuedResult>;
  readonly #running = new Map<string, Running>();
  #begun = 0;
  #isDrained = false;
  #isEnding = false;

  constructor(
    connection: QueueConnection,
    root: Root,
    threads: number,
    options: QueueWorkerOptions,
  ) {
    this.#connection = connection;
    this.#root = root;
    this.#options = options;
    this.#pool = new ThreadPool(options.memory !== undefined);
    const milliseconds = 1000 * options.lockSeconds;
    this.#worker = new connection.packages.bullmq.Worker<QueuedData, QueuedResult>(
      QUEUE_NAME,
      (job, token) => this.#process(job, token ?? ''),
      {
        connection: connection.redis,
        name: `${os.hostname()}:${process.pid}`,
        concurrency: threads,
        lockDuration: milliseconds,
        stalledInterval: milliseconds,
        maxStalledCount: MOST_STALLS,
        autorun: false,
      },
    );
    this.#listen();
  }

  async run(): Promise<void> {
    const { signal } = this.#options;
    const stopped = new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      signal.addEventListener('abort', () => resolve(), { once: true });
    });
    const running = this.#worker.run();
    try {
      await Promise.race([stopped, running, ...(this.#options.drain ? [this.#drained()] : [])]);
    } finally {
      this.#isEnding = true;
      await this.#close();
      await this.#pool.close();
    }
    if (!this.#options.drain || this.#isDrained) return;
    throw new Qcow2Error('ABORTED', 'stopped before all images of the queue were done');
  }

  /** Settles when no job waits or runs; jobs that wait until they are tried again count. */
  async #drained(): Promise<void> {
    const queue = openQueue(this.#connection);
    while (!this.#isEnding) {
      await new Promise((resolve) => setTimeout(resolve, DRAIN_INTERVAL));
      // Without the server nobody knows.
      const counts = await queue.getJobCounts(...UNFINISHED).catch(() => undefined);
      this.#isDrained = counts !== undefined && Object.values(counts).every((one) => one === 0);
      if (this.#isDrained) return;
    }
  }

  /** Running jobs finish, or are given back when there is no time left for that. */
  async #close(): Promise<void> {
    const grace = 1000 * this.#options.graceSeconds;
    const abandon = (): void => {
      // The server is out of reach. Whoever finds the jobs without a worker later does them.
      this.#connection.close();
      void this.#pool.close();
    };
    const timers = [
      setTimeout(() => this.#abortAll(), grace),
      setTimeout(abandon, grace + GIVE_BACK),
    ];
    try {
      await this.#worker.close();
    } finally {
      for (const timer of timers) clearTimeout(timer);
    }
  }

  #listen(): void {
    const { onNotice } = this.#options;
    this.#worker.on('completed', (job, result) => {
      const running = this.#end(job);
      const { targets: _, ...figures } = result;
      this.#emit(job, { event: 'job-finished', ...filesOf(running), ...figures });
    });
    this.#worker.on('failed', (job, error) => {
      if (job !== undefined) this.#failed(job, error);
    });
    this.#worker.on('lockRenewalFailed', (ids) => {
      for (const id of ids) this.#lose(id);
    });
    this.#worker.on('error', (error) => {
      // What became of the connection and of single jobs is told elsewhere.
      if (this.#connection.isLost || /ECONN|Connection is closed|lock for job/.test(error.message))
        return;
      onNotice(error.message.split('\n')[0] ?? '');
    });
  }

  async #process(queued: QueuedJob, token: string): Promise<QueuedResult> {
    if (this.#options.signal.aborted) return this.#giveBack(queued, token);
    const attempt = queued.attemptsMade + 1;
    let given: { job: BatchJob; sources: SourceVersion[] };
    try {
      given = jobOf(queued.data);
      given.job = this.#root.confine(given.job);
      removeLeftovers(given.job, queued.id!);
    } catch (error) {
      return this.#fail(queued, failureOf(error), attempt);
    }
    const running = this.#begin(queued, given.job, attempt);
    const outcome = await this.#pool.run({
      ...given,
      http: { allowedUrls: this.#options.allowedUrls },
      partialTag: partialTag(queued.id!),
      signal: running.controller.signal,
      onProgress: this.#progressOf(queued, attempt),
      mayPublish: () => this.#holds(queued, token, running),
    });
    return this.#ended(queued, token, running, outcome);
  }

  async #ended(
    queued: QueuedJob,
    token: string,
    running: Running,
    outcome: PoolOutcome,
  ): Promise<QueuedResult> {
    if ('failed' in outcome) {
      const isAborted = outcome.failed.code === 'ABORTED';
      // Whoever has the job by now may have removed what was being written.
      if (!isAborted && !running.isLost) await this.#holds(queued, token, running);
      if (running.isLost) return this.#leave(queued, running);
      if (isAborted) return this.#giveBack(queued, token);
      return this.#fail(queued, outcome.failed, running.attempt);
    }
    const { sources: _, ...result } = outcome.finished;
    const seconds = Math.round(1000 * outcome.seconds) / 1000;
    return { ...result, seconds, attempts: running.attempt };
  }

  #begin(queued: QueuedJob, job: BatchJob, attempt: number): Running {
    const running: Running = {
      job: this.#begun++,
      inputs: job.inputs.map(({ path }) => shownName(path)),
      target: job.target,
      attempt,
      controller: new AbortController(),
      isLost: false,
    };
    this.#running.set(queued.id!, running);
    const place = { threads: 1, thread: this.#running.size - 1 };
    this.#emit(queued, { event: 'job-started', ...filesOf(running), ...place, attempt });
    return running;
  }

  /** Takes a job from the list; one that was never begun gets a number all the same. */
  #end({ id, data }: QueuedJob): JobFiles {
    const running = this.#running.get(id!);
    this.#running.delete(id!);
    if (running !== undefined) return running;
    return { job: this.#begun++, ...namesOf(data) };
  }

  /** The server gets what is new when it has taken what was before. */
  #progressOf(queued: QueuedJob, attempt: number): (progress: PhaseProgress) => void {
    let isBusy = false;
    return (progress) => {
      if (isBusy) return;
      isBusy = true;
      void tell(queued, { ...progress, attempt }).then(() => {
        isBusy = false;
      });
    };
  }

  /**
   * Whether a job is still that of this worker, which has it for the whole time of a lock from then on: the
   * target gets its name within that, or the next attempt has removed what there is to be named.
   */
  async #holds(queued: QueuedJob, token: string, running: Running): Promise<boolean> {
    const lost = new Promise<boolean>((resolve) => {
      running.controller.signal.addEventListener('abort', () => resolve(false), { once: true });
    });
    if (running.controller.signal.aborted) return false;
    const extended = queued
      .extendLock(token, 1000 * this.#options.lockSeconds)
      .then((answer) => answer === 1)
      .catch(() => false);
    const holds = await Promise.race([lost, extended]);
    if (!holds && !running.controller.signal.aborted) this.#lose(queued.id!);
    return holds;
  }

  #lose(id: string): void {
    const running = this.#running.get(id);
    if (running === undefined) return;
    running.isLost = true;
    running.controller.abort();
  }

  #abortAll(): void {
    for (const { controller } of this.#running.values()) controller.abort();
  }

  /** Of a job that another worker has, nothing is told to the server. */
  #leave(queued: QueuedJob, running: Running): never {
    this.#running.delete(queued.id!);
    const { inputs, target } = running;
    this.#options.onNotice(
      `${inputs.join(' + ')} -> ${target}: the queue has given this job to another worker`,
    );
    throw new this.#connection.packages.bullmq.WaitingError();
  }

  /** The next worker that is free begins with it. This was no attempt. */
  async #giveBack(queued: QueuedJob, token: string): Promise<never> {
    this.#running.delete(queued.id!);
    await queued.moveToWait(token);
    const { inputs, target } = namesOf(queued.data);
    this.#options.onNotice(`${inputs.join(' + ')} -> ${target}: given back to the queue`);
    throw new this.#connection.packages.bullmq.WaitingError();
  }

  async #fail(queued: QueuedJob, failure: JobFailure, attempt: number): Promise<never> {
    const { code, message, isTransient } = failure;
    await tell(queued, { failed: { code, message }, attempt });
    const { UnrecoverableError } = this.#connection.packages.bullmq;
    const error = isTransient ? new Error(message) : new UnrecoverableError(message);
    // Kept with the job; the places in our code are of no use there.
    error.stack = message;
    throw Object.assign(error, { failure });
  }

  #failed(queued: QueuedJob, error: Error): void {
    const files = filesOf(this.#end(queued));
    const { failure } = error as { failure?: JobFailure };
    const { code = 'INTERNAL' } = failure ?? {};
    const message = failure?.message ?? error.message;
    const attempts = queued.attemptsMade;
    if (queued.finishedOn === undefined) {
      const delay = Math.round(queued.delay) / 1000;
      const retried = {
        attempt: attempts,
        code: code as Exclude<typeof code, 'INTERNAL'>,
        message,
      };
      this.#emit(queued, { event: 'job-retry', ...files, ...retried, delay });
      return;
    }
    this.#emit(queued, { event: 'job-failed', ...files, code, message, attempts });
    // One that has lost too many workers was not begun again.
    if (failure === undefined) this.#cleanUp(queued);
  }

  #cleanUp(queued: QueuedJob): void {
    try {
      removeLeftovers(this.#root.confine(jobOf(queued.data).job), queued.id!);
    } catch (error) {
      if (!isQcow2Error(error)) throw error;
    }
  }

  #emit({ id }: QueuedJob, event: BatchEvent): void {
    this.#options.onEvent({ ...event, id: id! });
  }
}

/** Progress that does not reach the server is not missed. */
async function tell(queued: QueuedJob, progress: QueuedProgress): Promise<void> {
  await queued.updateProgress(progress).catch(() => {});
}

function filesOf({ job, inputs, target }: JobFiles): JobFiles {
  return { job, inputs, target };
}
