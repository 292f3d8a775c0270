import type { Qcow2ErrorCode } from '../errors.ts';

/** Which job an event is about: its place in the list, from 0, and its files. */
export interface JobFiles {
  job: number;
  inputs: readonly string[];
  target: string;
}

/** A job begins. */
export interface JobStarted extends JobFiles {
  event: 'job-started';
  /** Threads that convert this image. */
  threads: number;
}

/** A running job: guest bytes done, of all. At most ten a second per job. */
export interface JobProgress {
  event: 'job-progress';
  job: number;
  done: number;
  total: number;
}

/** The target is there, whole and durable. */
export interface JobFinished extends JobFiles {
  event: 'job-finished';
  seconds: number;
  /** Length of the disk. */
  bytesVirtual: number;
  /** What the target occupies on its file system, with its external data file. */
  bytesWritten: number;
}

/** Nothing is left of the target; what had its name before is still there. */
export interface JobFailed extends JobFiles {
  event: 'job-failed';
  /** `INTERNAL`: a defect, or a thread that died. `ABORTED`: stopped, or never begun. */
  code: Qcow2ErrorCode | 'INTERNAL';
  message: string;
}

/** What happens while a batch runs. Each is plain data: a line of `--log=json`. */
export type BatchEvent =
  | { event: 'batch-started'; total: number; concurrency: number }
  | JobStarted
  | JobProgress
  | JobFinished
  | JobFailed
  | { event: 'batch-finished'; succeeded: number; failed: number; seconds: number };

/** How a batch ended; `results` has one entry per job, in the order of the jobs. */
export interface BatchSummary {
  succeeded: number;
  failed: number;
  seconds: number;
  results: readonly (JobFinished | JobFailed)[];
}
