import type { JobFailed, JobFiles } from '../batch/events.ts';
import { namesOf } from './queued-job.ts';
import { type BatchQueue, retryJob } from './submit.ts';
import { failureIn } from './watch.ts';

/** Numbers of jobs by how they stand. */
export interface QueueCounts {
  waiting: number;
  running: number;
  /** Failed for a reason that may pass, to be tried again. */
  delayed: number;
  done: number;
  failed: number;
}

/** A job that has failed and is not tried again. */
export interface FailedJob
  extends Pick<JobFiles, 'inputs' | 'target'>,
    Pick<JobFailed, 'code' | 'message' | 'attempts'> {
  id: string;
}

/** How a queue stands. */
export interface QueueStatus {
  jobs: QueueCounts;
  /** Workers that are connected. */
  workers: number;
  failed: readonly FailedJob[];
}

export async function queueStatus(queue: BatchQueue): Promise<QueueStatus> {
  const counts = await queue.getJobCounts('waiting', 'active', 'delayed', 'completed', 'failed');
  const of = (name: string): number => counts[name] ?? 0;
  const failed = await queue.getFailed();
  return {
    jobs: {
      waiting: of('waiting'),
      running: of('active'),
      delayed: of('delayed'),
      done: of('completed'),
      failed: of('failed'),
    },
    workers: await queue.getWorkersCount(),
    failed: failed.reverse().map(({ id, data, progress, failedReason, attemptsMade }) => {
      const failure = failureIn(progress);
      const code = failure?.message === failedReason ? failure.code : 'INTERNAL';
      return { id: id!, ...namesOf(data), code, message: failedReason, attempts: attemptsMade };
    }),
  };
}

/** Has all failed jobs begun again; returns how many there are. */
export async function retryFailed(queue: BatchQueue): Promise<number> {
  const jobs = await queue.getFailed();
  const retried = await Promise.all(jobs.map((job) => retryJob(job, 'failed')));
  return retried.filter(Boolean).length;
}

/** Removes all jobs that wait, also until they are tried again; returns how many. */
export async function cancelWaiting(queue: BatchQueue): Promise<number> {
  const jobs = await queue.getJobs(['waiting', 'delayed']);
  const removed = await Promise.all(
    jobs.map(async (job) => {
      // A worker may just have taken it.
      return job.remove().then(
        () => true,
        () => false,
      );
    }),
  );
  return removed.filter(Boolean).length;
}
