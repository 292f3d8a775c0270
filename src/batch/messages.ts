import type { JobFailed } from './events.ts';
import type { BatchJob } from './jobs.ts';

/** What a thread of a batch is started with. */
export interface BatchWorkerStart {
  /** On a SharedArrayBuffer: not 0 once the batch is aborted. */
  abort: Int32Array;
}

/** To a thread: the next job. */
export interface BatchWorkerRequest {
  job: BatchJob;
  threads: number;
}

/** From a thread: any number of `progress`, then one of the others. */
export type BatchWorkerReply =
  | { progress: { done: number; total: number } }
  | { finished: { bytesVirtual: number; bytesWritten: number } }
  | { failed: Pick<JobFailed, 'code' | 'message'> };
