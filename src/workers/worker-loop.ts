import { type MessagePort, parentPort, receiveMessageOnPort } from 'node:worker_threads';
import { isQcow2Error } from '../errors.ts';
import type { WorkShare } from './work-share.ts';
import type { ListedSteps, SentError, ThreadReply } from './worker-pool.ts';

/** Does a step. */
export type RunStep<Step, Result> = (step: Step, sequence: number) => Promise<Result>;

/**
 * What a worker thread does from start to end: opens what it needs, takes steps until there are no
 * more, and reports each to the thread that started it.
 */
export async function serve<Step, Result>(
  share: WorkShare,
  open: () => Promise<RunStep<Step, Result>>,
): Promise<void> {
  const port = parentPort!;
  const reply = (message: ThreadReply<Result>): void => port.postMessage(message);
  let sequence = -1;
  try {
    const run = await open();
    const steps = new Map<number, Step>();
    for (sequence = share.take(); share.has(sequence); sequence = share.take()) {
      receive(port, steps);
      const step = steps.get(sequence)!;
      for (const earlier of steps.keys()) {
        if (earlier > sequence) break;
        steps.delete(earlier);
      }
      try {
        reply({ sequence, value: await run(step, sequence) });
      } catch (error) {
        reply({ sequence, error: sent(error) });
      }
    }
  } catch (error) {
    reply({ sequence, error: sent(error) });
  }
}

/** Steps are sent before they count as listed: all that count are here. */
function receive<Step>(port: MessagePort, into: Map<number, Step>): void {
  while (true) {
    const received = receiveMessageOnPort(port);
    if (received === undefined) return;
    const { first, steps } = received.message as ListedSteps<Step>;
    for (const [i, step] of steps.entries()) into.set(first + i, step);
  }
}

function sent(error: unknown): SentError {
  const message = error instanceof Error ? error.message : String(error);
  if (isQcow2Error(error)) return { code: error.code, message, details: error.details };
  const stack = error instanceof Error ? error.stack : undefined;
  return { code: 'INTERNAL', message, details: {}, stack };
}
