import { parentPort } from 'node:worker_threads';
import { isQcow2Error } from '../errors.ts';
import type { WorkShare } from './work-share.ts';
import type { SentError, ThreadReply } from './worker-pool.ts';

/** A thread's part of an operation: the steps it lists, and how it does one. */
export interface ThreadWork<Step, Result> {
  steps: AsyncIterable<Step>;
  run: (step: Step, sequence: number) => Promise<Result>;
}

/**
 * What a worker thread does from start to end: opens what it needs, takes steps until there are no
 * more, and reports each to the thread that started it.
 */
export async function serve<Step, Result>(
  share: WorkShare,
  open: () => Promise<ThreadWork<Step, Result>>,
): Promise<void> {
  const port = parentPort!;
  // An error while the next step is looked for belongs to that step, which nobody else takes.
  let sequence = -1;
  const reply = (message: ThreadReply<Result>): void => port.postMessage(message);
  try {
    const { steps, run } = await open();
    sequence = 0;
    for await (const taken of share.mine(steps, (next) => {
      sequence = next;
    })) {
      try {
        reply({ sequence, value: await run(taken.step, sequence) });
      } catch (error) {
        reply({ sequence, error: sent(error) });
      }
    }
  } catch (error) {
    reply({ sequence, error: sent(error) });
  }
}

function sent(error: unknown): SentError {
  const message = error instanceof Error ? error.message : String(error);
  if (isQcow2Error(error)) return { code: error.code, message, details: error.details };
  const stack = error instanceof Error ? error.stack : undefined;
  return { code: 'INTERNAL', message, details: {}, stack };
}
