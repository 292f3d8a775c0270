import { type BatchEvent, type BatchSummary, UNTOLD } from '../batch/events.ts';
import type { BatchJob } from '../batch/jobs.ts';
import { printable, Qcow2Error } from '../errors.ts';
import { QueueConnection } from '../queue/connection.ts';
import { openQueue, type Submission, submitJobs } from '../queue/submit.ts';
import { JobWatch } from '../queue/watch.ts';
import type { Arguments } from './arguments.ts';
import type { Context } from './context.ts';
import { queueOf } from './queue-url.ts';
import { retriesOf } from './sizes.ts';

/** Runs the jobs of a command line: here, or on the workers of a queue. */
export type JobRunner = (
  jobs: readonly BatchJob[],
  options: { signal: AbortSignal; onEvent: (event: BatchEvent) => void },
) => Promise<BatchSummary>;

/** A machine that fails is one of several: others may do better. */
const RETRIES = 3;

/** Options of a batch that say how this machine works. */
const LOCAL_OPTIONS = [
  ['jobs', '-j'],
  ['memory', '--memory'],
  ['image-memory', '--image-memory'],
  ['cache', '-t'],
  ['journal', '--journal'],
  ['resume', '--resume'],
] as const;

/**
 * Has the workers of a queue run jobs, and waits for them.
 * @throws Qcow2Error INVALID_ARGUMENT: options that make no sense with a queue
 */
export function queueRunner(args: Arguments<'batch'>, context: Context): JobRunner {
  for (const [name, spelling] of LOCAL_OPTIONS)
    if (args.has(name))
      throw invalid(`${spelling} makes no sense with --queue: it is the workers' business`);
  if (args.has('report') && !args.has('wait'))
    throw invalid('--report needs --wait: there is nothing to report before the images are there');
  const retries = retriesOf(args.value('retries')) ?? RETRIES;
  const address = queueOf(args.value('queue'));
  return async (jobs, { signal, onEvent }) => {
    const notice = (text: string): void => context.writeError(`qcow2: ${text}\n`);
    const connection = await QueueConnection.open(address, notice);
    const queue = openQueue(connection);
    const watch = await JobWatch.begin(connection, queue, onEvent);
    try {
      const submission = await submitJobs(queue, jobs, retries);
      const { isComplete, ...summary } = await watch.follow(submission, signal);
      if (isComplete) return summary;
      const left = jobs.length - summary.results.length;
      const text = `stopped waiting: ${left} of ${jobs.length} images are not converted yet; the workers go on`;
      throw new Qcow2Error('ABORTED', text);
    } finally {
      await watch.close();
      connection.close();
    }
  };
}

/** Submits jobs and does not wait for them. */
export async function submit(
  jobs: readonly BatchJob[],
  args: Arguments<'batch'>,
  context: Context,
): Promise<number> {
  const connection = await QueueConnection.open(queueOf(args.value('queue')));
  try {
    const retries = retriesOf(args.value('retries')) ?? RETRIES;
    const submission = await submitJobs(openQueue(connection), jobs, retries);
    const { submitted, again, known } = submission;
    for (const source of submission.untold.values())
      context.writeError(`qcow2: ${printable(source)}: ${UNTOLD}\n`);
    if (args.choice('log', ['human', 'json']) === 'json')
      context.write(`${JSON.stringify({ event: 'batch-submitted', submitted, again, known })}\n`);
    else if (!args.has('quiet')) context.write(submissionLine(submission));
    return 0;
  } finally {
    connection.close();
  }
}

function submissionLine({ submitted, again, known }: Submission): string {
  const repeated = again === 0 ? '' : `, ${again} submitted again`;
  const before = known === 0 ? '' : `, ${known} already known`;
  return `${submitted === 1 ? '1 image' : `${submitted} images`} submitted${repeated}${before}\n`;
}

function invalid(message: string): Qcow2Error {
  return new Qcow2Error('INVALID_ARGUMENT', message);
}
