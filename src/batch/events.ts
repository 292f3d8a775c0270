import type { Qcow2ErrorCode } from '../errors.ts';
import type { ChecksumAlgorithm } from '../node/disk-digest.ts';

/** What is being done for an image: its source checked, its target written (and its digest taken), read again. */
export type JobPhase = 'check' | 'convert' | 'verify';

/** Which job an event is about: its place in the list, from 0, and its files. */
export interface JobFiles {
  job: number;
  inputs: readonly string[];
  target: string;
}

/** A job begins, perhaps once more. */
export interface JobStarted extends JobFiles {
  event: 'job-started';
  /** Threads that convert this image. */
  threads: number;
  /** Number of the thread that leads them, from 0. */
  thread: number;
  /** From 1. */
  attempt: number;
}

/** More threads have joined a running job. */
export interface JobThreads {
  event: 'job-threads';
  job: number;
  threads: number;
}

/** A running job: guest bytes done of a phase (of `check`: L2 tables). At most ten a second per job. */
export interface JobProgress {
  event: 'job-progress';
  job: number;
  phase: JobPhase;
  /** Number of the phase among those of the job, from 0. */
  step: number;
  steps: number;
  done: number;
  /** Infinity (in JSON null) as long as nobody knows it: of a stream. */
  total: number;
  /** Bytes the target occupies by now. */
  written: number;
  /** Guest bytes a second, of the last seconds of this phase; null until known. */
  rate: number | null;
  /** Seconds to the end of the phase; null until known. */
  eta: number | null;
}

/** The digest of a guest disk, as it was read while it was converted. */
export interface JobChecksum {
  algorithm: ChecksumAlgorithm;
  /** Hexadecimal. */
  digest: string;
}

/** What is known of a target that is there. */
export interface TargetFigures {
  /** Length of the disk. */
  bytesVirtual: number;
  /** What the inputs occupy on their file systems. */
  bytesSource: number;
  /** What the target occupies on its file system, with its external data file. */
  bytesWritten: number;
  checksum?: JobChecksum;
}

/** The target is there, whole and durable. */
export interface JobFinished extends JobFiles, TargetFigures {
  event: 'job-finished';
  /** Of the attempt that succeeded. */
  seconds: number;
  /** Seconds of each phase. */
  phases: Partial<Record<JobPhase, number>>;
  attempts: number;
}

/** The journal says that the target is done, and neither it nor its sources have changed since. */
export interface JobSkipped extends JobFiles, TargetFigures {
  event: 'job-skipped';
}

/** The target was there, but nobody tells whether a source has changed since: it is done again. */
export interface JobRepeated extends JobFiles {
  event: 'job-repeated';
  /** The source. */
  source: string;
}

/** Why a job is done again although its target is there. */
export const UNTOLD =
  'done again, since its server tells no version of it (neither ETag nor Last-Modified)';

/** An attempt failed for a reason that may pass; the job waits and is tried again. */
export interface JobRetry extends JobFiles {
  event: 'job-retry';
  /** The one that failed, from 1. */
  attempt: number;
  code: Qcow2ErrorCode;
  message: string;
  /** Seconds until it is tried again. */
  delay: number;
}

/** Nothing is left of the target; what had its name before is still there. */
export interface JobFailed extends JobFiles {
  event: 'job-failed';
  /** `INTERNAL`: a defect, or a thread that died. `ABORTED`: stopped, or never begun. */
  code: Qcow2ErrorCode | 'INTERNAL';
  message: string;
  /** 0: it was never begun. */
  attempts: number;
}

/** How a job ended. */
export type JobEnd = JobFinished | JobSkipped | JobFailed;

/** Numbers of jobs by how they ended. */
export interface BatchCounts {
  /** Converted now. */
  succeeded: number;
  /** Done by an earlier run. */
  skipped: number;
  failed: number;
}

/** What happens while a batch runs. Each is plain data: a line of `--log=json`. */
export type BatchEvent =
  | { event: 'batch-started'; total: number; concurrency: number }
  | JobStarted
  | JobThreads
  | JobProgress
  | JobRepeated
  | JobRetry
  | JobEnd
  | ({ event: 'batch-finished'; seconds: number } & BatchCounts);

/** How a batch ended; `results` has one entry per job, in the order of the jobs. */
export interface BatchSummary extends BatchCounts {
  seconds: number;
  results: readonly JobEnd[];
}
