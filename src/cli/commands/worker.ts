import { availableParallelism } from 'node:os';
import { MAX_CONCURRENCY } from '../../batch/local-runner.ts';
import { Qcow2Error } from '../../errors.ts';
import { runQueueWorker } from '../../queue/worker.ts';
import type { Arguments } from '../arguments.ts';
import { JsonLog, LineLog } from '../batch-log.ts';
import type { Context } from '../context.ts';
import { queueOf } from '../queue-url.ts';
import { parseSize, wholeNumber } from '../sizes.ts';

const DAY = 24 * 3600;

/** `qcow2 worker`: does the jobs of a queue, a line for each, until a signal asks to stop. */
export async function run(args: Arguments<'worker'>, context: Context): Promise<number> {
  const style = args.choice('log', ['human', 'json']);
  if (style === 'json' && args.has('quiet')) throw invalid('-q and --log=json exclude each other');
  const root = args.value('root');
  if (root === undefined)
    throw invalid('--root DIR is needed, the folder whose tree the worker reads and writes');
  const log = style === 'json' ? new JsonLog(context) : new LineLog(context, args.has('quiet'));
  const number = (name: 'jobs' | 'lock' | 'grace', what: string, ...range: [number, number]) => {
    const text = args.value(name);
    return text === undefined ? undefined : wholeNumber(text, what, ...range);
  };
  const memory = args.value('memory');
  const cores = Math.min(availableParallelism(), MAX_CONCURRENCY);
  await runQueueWorker({
    queue: queueOf(args.value('queue')),
    root,
    allowedUrls: args.values('allow-url'),
    drain: args.has('drain'),
    concurrency: number('jobs', 'number of images at a time', 1, MAX_CONCURRENCY) ?? cores,
    memory: memory === undefined ? undefined : parseSize(memory, 'memory size'),
    lockSeconds: number('lock', 'number of seconds', 1, DAY) ?? 30,
    graceSeconds: number('grace', 'number of seconds', 0, DAY) ?? 20,
    signal: context.interruptible(),
    onEvent: (event) => log.event(event),
    onNotice: (text) => context.writeError(`qcow2: ${text}\n`),
  });
  return 0;
}

function invalid(message: string): Qcow2Error {
  return new Qcow2Error('INVALID_ARGUMENT', message);
}
