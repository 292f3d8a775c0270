import { parentPort, workerData } from 'node:worker_threads';
import { isQcow2Error } from '../errors.ts';
import { createKernel } from '../kernel/kernel.ts';
import { CompareStep } from '../operations/compare.ts';
import type { CompareFiles, CompareReply, CompareRequest } from './compare-messages.ts';
import { openSource } from './input-files.ts';

/** One thread of a comparison: its own descriptors, kernel and buffers; jobs come as messages. */
const port = parentPort!;

async function prepare(): Promise<CompareStep> {
  const [first, second] = await openSource(workerData as CompareFiles, createKernel());
  return CompareStep.prepare([first!, second!]);
}

const prepared = prepare();
// Told by every job that needs it.
prepared.catch(() => {});

async function answer({ sequence, job }: CompareRequest): Promise<CompareReply> {
  try {
    const step = await prepared;
    return { sequence, offset: await step.run(job) };
  } catch (error) {
    const known = isQcow2Error(error);
    const message = error instanceof Error ? error.message : String(error);
    const stack = error instanceof Error ? error.stack : undefined;
    const details = known ? error.details : {};
    return { sequence, error: { code: known ? error.code : 'INTERNAL', message, details, stack } };
  }
}

let queue: Promise<void> = Promise.resolve();
port.on('message', (request: CompareRequest) => {
  queue = queue.then(async () => port.postMessage(await answer(request)));
});
