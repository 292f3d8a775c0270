import type { Job, Queue } from 'bullmq';
import { type BatchJob, requireIndependent } from '../batch/jobs.ts';
import { unversioned } from '../batch/source-identity.ts';
import { Qcow2Error } from '../errors.ts';
import { shownName } from '../storage/http-url.ts';
import type { QueueConnection } from './connection.ts';
import {
  areTargetsThere,
  type Entry,
  QUEUE_NAME,
  type QueuedData,
  type QueuedResult,
  queuedJobs,
} from './queued-job.ts';

/** Jobs that are sent to the server at a time. */
const BUNDLE = 200;

/** Milliseconds behind the first attempt; twice as many behind each that follows. */
const RETRY_DELAY = 500;

/** Seconds for which the server remembers what is done. */
const REMEMBERED = 30 * 24 * 3600;

/** What became of jobs that were submitted. */
export interface Submission {
  /** Names in the queue, in the order of the jobs. */
  ids: readonly string[];
  jobs: readonly BatchJob[];
  /** New to the queue. */
  submitted: number;
  /** Waiting, running or done. */
  known: number;
  /** Had failed, or their targets are not there any more. */
  again: number;
  /** Places of those that are done already. */
  done: ReadonlySet<number>;
  /** Of those that are done again only since a server does not tell whether a source has changed: the source. */
  untold: ReadonlyMap<number, string>;
}

/** What became of one job; `done`: nothing, since its target is there; `untold`: see `Submission`. */
type Reception = 'submitted' | 'known' | 'again' | 'untold' | 'done';

export type BatchQueue = Queue<QueuedData, QueuedResult, string>;

/** The queue on a server. */
export function openQueue({ packages, redis }: QueueConnection): BatchQueue {
  const queue: BatchQueue = new packages.bullmq.Queue(QUEUE_NAME, { connection: redis });
  // The connection tells of its errors itself.
  queue.on('error', () => {});
  return queue;
}

/**
 * Submits jobs. One that the queue knows is not submitted twice; it is done again if it had failed, or if
 * its target has been removed or changed since, as far as whoever submits it sees the files.
 * @param retries attempts after the first for jobs that fail for a reason that may pass
 * @throws Qcow2Error INVALID_ARGUMENT: a job writes what another reads or writes
 */
export async function submitJobs(
  queue: BatchQueue,
  given: readonly BatchJob[],
  retries: number,
): Promise<Submission> {
  const entries = await queuedJobs(given);
  const jobs = entries.map(({ job }) => job);
  requireIndependent(jobs);
  const receptions: Reception[] = [];
  for (let first = 0; first < entries.length; first += BUNDLE) {
    const bundle = entries.slice(first, first + BUNDLE);
    const known = await Promise.all(bundle.map((entry) => receive(queue, entry)));
    const fresh = bundle.filter((_, index) => known[index] === 'submitted');
    await queue.addBulk(
      fresh.map(({ id, data }) => ({
        name: 'convert',
        data,
        opts: {
          jobId: id,
          attempts: 1 + retries,
          backoff: { type: 'exponential', delay: RETRY_DELAY, jitter: 0.25 },
          removeOnComplete: { age: REMEMBERED },
        },
      })),
    );
    receptions.push(...known);
  }
  const count = (...which: Reception[]): number =>
    receptions.filter((reception) => which.includes(reception)).length;
  return {
    ids: entries.map(({ id }) => id),
    jobs,
    submitted: count('submitted'),
    known: count('known', 'done'),
    again: count('again', 'untold'),
    done: new Set(placesOf(receptions, 'done')),
    untold: new Map(
      placesOf(receptions, 'untold').map((place) => {
        const { job, data } = entries[place]!;
        return [place, shownName(unversioned(job, data.sources)!)];
      }),
    ),
  };
}

function placesOf(receptions: readonly Reception[], which: Reception): number[] {
  return receptions.flatMap((reception, place) => (reception === which ? [place] : []));
}

async function receive(queue: BatchQueue, { id, job: given, data }: Entry): Promise<Reception> {
  const job = await queue.getJob(id);
  if (job === undefined) return 'submitted';
  if (job.finishedOn === undefined) return 'known';
  const hasFailed = await job.isFailed();
  const seesFiles = data.sources.every(({ size }) => size >= 0);
  const isThere = !hasFailed && (!seesFiles || areTargetsThere(job.returnvalue?.targets ?? []));
  const isUntold = isThere && unversioned(given, data.sources) !== undefined;
  if (isThere && !isUntold) return 'done';
  if (!(await retryJob(job, hasFailed ? 'failed' : 'completed'))) return 'known';
  return isUntold ? 'untold' : 'again';
}

/** False: somebody else was faster. */
export async function retryJob(job: Job, state: 'failed' | 'completed'): Promise<boolean> {
  try {
    await job.retry(state, { resetAttemptsMade: true });
    return true;
  } catch (error) {
    if (await stillIn(job, state)) throw unexpected(error);
    return false;
  }
}

async function stillIn(job: Job, state: string): Promise<boolean> {
  return (await job.getState()) === state;
}

function unexpected(error: unknown): Qcow2Error {
  const why = error instanceof Error ? error.message : String(error);
  return new Qcow2Error('IO', `the queue could not take a job again: ${why}`, {}, { cause: error });
}
