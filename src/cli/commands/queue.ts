import { printable, Qcow2Error } from '../../errors.ts';
import { QueueConnection } from '../../queue/connection.ts';
import { cancelWaiting, type QueueStatus, queueStatus, retryFailed } from '../../queue/manage.ts';
import { type BatchQueue, openQueue } from '../../queue/submit.ts';
import type { Arguments } from '../arguments.ts';
import type { Context } from '../context.ts';
import { queueOf } from '../queue-url.ts';

/** Does something with a queue; tells of it as data and as text. */
type Action = (queue: BatchQueue) => Promise<{ data: object; text: string }>;

const ACTIONS: Readonly<Record<string, Action>> = {
  status: async (queue) => {
    const status = await queueStatus(queue);
    return { data: status, text: statusText(status) };
  },
  retry: async (queue) => {
    const retried = await retryFailed(queue);
    return { data: { retried }, text: `${jobCount(retried)} begun again\n` };
  },
  cancel: async (queue) => {
    const cancelled = await cancelWaiting(queue);
    return { data: { cancelled }, text: `${jobCount(cancelled)} cancelled\n` };
  },
};

/** `qcow2 queue`: how a queue stands, what failed once more, what waits no more. */
export async function run(args: Arguments<'queue'>, context: Context): Promise<number> {
  const [name = ''] = args.operands;
  const action = Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined;
  if (action === undefined) {
    const text = `unknown action '${name}': there are ${Object.keys(ACTIONS).join(', ')}`;
    throw new Qcow2Error('INVALID_ARGUMENT', text);
  }
  const style = args.choice('output', ['human', 'json']);
  const connection = await QueueConnection.open(queueOf(args.value('queue')));
  try {
    const { data, text } = await action(openQueue(connection));
    context.write(style === 'json' ? `${JSON.stringify(data, null, 4)}\n` : text);
    return 0;
  } finally {
    connection.close();
  }
}

function statusText({ jobs, workers, failed }: QueueStatus): string {
  const counts = Object.entries(jobs).map(([name, count]) => `${name} ${count}`);
  const lines = failed.map(({ inputs, target, message, attempts }) => {
    const times = attempts === 1 ? '1 attempt' : `${attempts} attempts`;
    return `failed: ${inputs.join(' + ')} -> ${target}: ${message} (${times})`;
  });
  return [`${counts.join(', ')}; workers ${workers}`, ...lines].map(line).join('');
}

function line(text: string): string {
  return `${printable(text)}\n`;
}

function jobCount(count: number): string {
  return count === 1 ? '1 job' : `${count} jobs`;
}
