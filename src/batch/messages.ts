import type { JobFailed } from './events.ts';
import type { BatchJob } from './jobs.ts';

/** What a thread of a batch is started with. */
export interface BatchWorkerStart {
  /** On a SharedArrayBuffer: not 0 once the batch is aborted. */
  abort: Int32Array;
  durable: boolean;
}

/** To a thread: the next job. */
export interface BatchWorkerRequest {
  index: number;
  job: BatchJob;
  threads: number;
}

/**
 * From a thread, of the job at an index: any number of `progress`; `written`, after which the thread
 * takes the next job; one of the others, which may come behind what the next job sends.
 */
export type BatchWorkerReply = { index: number } & (
  | { progress: { done: number; total: number } }
  | { written: true }
  | { finished: { bytesVirtual: number; bytesWritten: number } }
  | { failed: Pick<JobFailed, 'code' | 'message'> }
);
