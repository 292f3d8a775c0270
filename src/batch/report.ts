import type { BatchCounts, BatchEvent, JobEnd, JobFinished, TargetFigures } from './events.ts';

/** What became of one job. Times are seconds since the batch began. */
export interface ReportJob extends Partial<TargetFigures> {
  job: number;
  inputs: readonly string[];
  target: string;
  result: 'converted' | 'skipped' | 'failed' | 'aborted';
  /** When its last attempt began, and how long that took; null if there was none. */
  began: number | null;
  seconds: number | null;
  /** The thread that led it, from 0; null if none did. */
  thread: number | null;
  /** How many threads it had, and since when. */
  threads: { at: number; threads: number }[];
  attempts: number;
  /** Guest bytes a second, holes included; null if nothing was converted. */
  rate: number | null;
  phases?: JobFinished['phases'];
  /** Why it failed. */
  code?: string;
  message?: string;
}

/** What became of a batch, as plain data: the report in JSON. Sizes are in bytes. */
export interface BatchReport extends BatchCounts {
  version: 1;
  /** When it began, as an ISO 8601 date. */
  began: string;
  seconds: number;
  concurrency: number;
  bytesVirtual: number;
  bytesSource: number;
  bytesWritten: number;
  /** In the order of the jobs. */
  jobs: ReportJob[];
}

/** An attempt that was begun. */
interface Attempt {
  began: number;
  thread: number;
  threads: { at: number; threads: number }[];
}

/**
 * Makes a report of the events of a batch.
 * @example
 * import { BatchRecorder, readJobFile, runBatch } from 'qcow2';
 *
 * const recorder = new BatchRecorder();
 * await runBatch(readJobFile('jobs.json'), { onEvent: (event) => recorder.add(event) });
 * console.log(recorder.report().bytesWritten);
 */
export class BatchRecorder {
  readonly #date = new Date();
  #began = performance.now();
  #concurrency = 0;
  #seconds: number | undefined;
  readonly #attempts = new Map<number, Attempt>();
  readonly #jobs: ReportJob[] = [];

  /** @param now milliseconds, on a clock of any beginning */
  add(event: BatchEvent, now = performance.now()): void {
    const at = Math.round(now - this.#began) / 1000;
    switch (event.event) {
      case 'batch-started':
        this.#began = now;
        this.#concurrency = event.concurrency;
        break;
      case 'job-started': {
        const { job, thread, threads } = event;
        this.#attempts.set(job, { began: at, thread, threads: [{ at, threads }] });
        break;
      }
      case 'job-threads':
        this.#attempts.get(event.job)?.threads.push({ at, threads: event.threads });
        break;
      case 'job-finished':
      case 'job-skipped':
      case 'job-failed':
        this.#end(event, at);
        break;
      case 'batch-finished':
        this.#seconds = event.seconds;
        break;
    }
  }

  /** The report so far. */
  report(): BatchReport {
    const jobs = this.#jobs.filter((job) => job !== undefined);
    const sum = (of: (job: ReportJob) => number | undefined): number =>
      jobs.reduce((total, job) => total + (of(job) ?? 0), 0);
    const count = (...results: ReportJob['result'][]): number =>
      jobs.filter(({ result }) => results.includes(result)).length;
    return {
      version: 1,
      began: this.#date.toISOString(),
      seconds: this.#seconds ?? Math.round(performance.now() - this.#began) / 1000,
      concurrency: this.#concurrency,
      succeeded: count('converted'),
      skipped: count('skipped'),
      failed: count('failed', 'aborted'),
      bytesVirtual: sum(({ bytesVirtual }) => bytesVirtual),
      bytesSource: sum(({ bytesSource }) => bytesSource),
      bytesWritten: sum(({ bytesWritten }) => bytesWritten),
      jobs,
    };
  }

  #end(end: JobEnd, at: number): void {
    const { event, job, inputs, target, ...rest } = end;
    const attempt = this.#attempts.get(job);
    // What a thread did by itself may be told of a little late.
    const seconds = event === 'job-finished' ? end.seconds : attempt && at - attempt.began;
    const began = seconds === undefined ? null : Math.max(0, rounded(at - seconds));
    this.#jobs[job] = {
      job,
      inputs,
      target,
      result: resultOf(end),
      began,
      thread: attempt?.thread ?? null,
      threads: attempt?.threads ?? [],
      attempts: 0,
      rate: null,
      ...rest,
      seconds: seconds === undefined ? null : rounded(seconds),
      ...(event === 'job-finished' && {
        rate: Math.round(end.bytesVirtual / Math.max(end.seconds, 0.001)),
      }),
    };
  }
}

/** Milliseconds are enough. */
function rounded(seconds: number): number {
  return Math.round(1000 * seconds) / 1000;
}

function resultOf(end: JobEnd): ReportJob['result'] {
  if (end.event === 'job-finished') return 'converted';
  if (end.event === 'job-skipped') return 'skipped';
  return end.code === 'ABORTED' ? 'aborted' : 'failed';
}
