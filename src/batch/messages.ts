import type { JobFailed } from './events.ts';
import type { BatchJob } from './jobs.ts';
import type { JobResult, PhaseProgress } from './run-job.ts';

/** What a thread of a batch is sent first. */
export interface JobThreadSettings {
  /** On a SharedArrayBuffer: not 0 once the batch is aborted. */
  abort: Int32Array;
  durable: boolean;
  identify: boolean;
  partialTag?: string | undefined;
}

/** To a thread: the next job. */
export interface JobRequest {
  index: number;
  job: BatchJob;
  /** On a SharedArrayBuffer: how many threads the job may have by now. */
  threads: Int32Array;
}

/** How an attempt failed. */
export interface JobFailure extends Pick<JobFailed, 'code' | 'message'> {
  /** Trying again may help. */
  isTransient: boolean;
}

/**
 * From a thread, of the job at an index: any number of `progress`; `written`, after which the thread
 * takes the next job; one of the others, which may come behind what the next job sends.
 */
export type JobReply = { index: number } & (
  | { progress: PhaseProgress }
  | { written: true }
  /** With the seconds it took, on the clock of the thread that did it. */
  | { finished: JobResult; seconds: number }
  | { failed: JobFailure }
);
