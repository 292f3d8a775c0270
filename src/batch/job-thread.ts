import * as fs from 'node:fs';
import * as path from 'node:path';
import { isQcow2Error } from '../errors.ts';
import { ioError } from '../storage/file.ts';
import { filesWritten } from './jobs.ts';
import type { JobFailure, JobReply, JobRequest, JobThreadSettings } from './messages.ts';
import { isTransient } from './retry.ts';
import { JobKernels, type PhaseProgress, runJob } from './run-job.ts';

/** Milliseconds between two reports of progress. */
const PROGRESS_INTERVAL = 100;

/** Jobs whose targets the disk has not taken yet; the next one waits. */
const MOST_SYNCING = 4;

/** One thread of a batch: does one job after the other, blocking. */
export class JobThread {
  readonly #settings: JobThreadSettings;
  readonly #reply: (message: JobReply) => void;
  readonly #pause: () => void | Promise<void>;
  readonly #kernels = new JobKernels();
  readonly #syncing = new Set<Promise<unknown>>();
  /** Settles when the last job sent is written. */
  #last: Promise<void> = Promise.resolve();

  /** @param pause called between steps: a thread that has events to see to lets them in */
  constructor(
    settings: JobThreadSettings,
    reply: (message: JobReply) => void,
    pause: () => void | Promise<void> = () => {},
  ) {
    this.#settings = settings;
    this.#reply = reply;
    this.#pause = pause;
  }

  /** Does a job when those before it are written; how it ended is replied. */
  run(request: JobRequest): void {
    const { index } = request;
    this.#last = this.#last
      .then(() => this.#run(request))
      .catch((error: unknown) => this.#reply({ index, failed: failureOf(error) }));
  }

  async #run({ index, job, threads }: JobRequest): Promise<void> {
    const { abort, durable, ...settings } = this.#settings;
    const controller = new AbortController();
    const stopIfAsked = (): void => {
      if (Atomics.load(abort, 0) !== 0) controller.abort();
    };
    let reported = Number.NEGATIVE_INFINITY;
    const onProgress = (progress: PhaseProgress): void | Promise<void> => {
      // Reading and writing block this thread, so an abort cannot reach it as a message.
      stopIfAsked();
      const now = performance.now();
      if (now - reported >= PROGRESS_INTERVAL) {
        reported = now;
        this.#reply({ index, progress });
      }
      return this.#pause();
    };
    const began = performance.now();
    makeFolder(job.target);
    const { signal } = controller;
    // While it waits for a web server there is no progress.
    const watch = setInterval(stopIfAsked, PROGRESS_INTERVAL);
    const finished = await runJob(job, {
      ...settings,
      threads: () => Atomics.load(threads, 0),
      blocking: true,
      durable: false,
      kernels: this.#kernels,
      onProgress,
      signal,
    }).finally(() => clearInterval(watch));
    const end = (): void =>
      this.#reply({ index, finished, seconds: (performance.now() - began) / 1000 });
    if (durable) await this.#sync(index, filesWritten(job), end);
    else end();
  }

  /** The disk works while the next image is converted, but it does not fall far behind. */
  async #sync(index: number, files: readonly string[], end: () => void): Promise<void> {
    const synced = Promise.all(files.map(syncTarget))
      .then(end)
      .catch((error: unknown) => this.#reply({ index, failed: failureOf(error) }))
      .finally(() => {
        this.#syncing.delete(synced);
      });
    this.#syncing.add(synced);
    if (this.#syncing.size >= MOST_SYNCING) await Promise.race(this.#syncing);
    this.#reply({ index, written: true });
  }
}

/** An error as it is told of outside the thread. */
export function failureOf(error: unknown): JobFailure {
  const message = error instanceof Error ? error.message : String(error);
  if (isQcow2Error(error)) return { code: error.code, message, isTransient: isTransient(error) };
  return { code: 'INTERNAL', message: `internal error: ${message}`, isTransient: false };
}

async function syncTarget(file: string): Promise<void> {
  try {
    await sync(file);
  } catch (error) {
    throw ioError(error, `Could not sync '${file}'`, file);
  }
  // Its name; some file systems cannot, some folders cannot be read.
  await sync(path.dirname(file)).catch(() => {});
}

async function sync(file: string): Promise<void> {
  const handle = await fs.promises.open(file, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * The folder of a target, if need be.
 * @throws Qcow2Error IO, NOT_FOUND
 */
export function makeFolder(target: string): void {
  const folder = path.dirname(target);
  try {
    fs.mkdirSync(folder, { recursive: true });
  } catch (error) {
    throw ioError(error, `Could not create folder '${folder}'`, folder);
  }
}
