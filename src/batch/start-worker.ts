import { type ResourceLimits, Worker } from 'node:worker_threads';

/** Started before anybody knows for what. */
let prepared: Worker | undefined;

/**
 * Starts a thread of a batch, which takes as long as loading everything else: a program calls this as
 * soon as it knows that there will be a batch. If it comes to nothing, the process ends all the same.
 */
export function prepareJobWorker(): void {
  prepared ??= newWorker();
  prepared.unref();
}

/** A thread that waits for its settings: the one prepared, or a new one if it needs limits. */
export function startJobWorker(resourceLimits: ResourceLimits | undefined): Worker {
  const worker = prepared;
  if (worker === undefined || resourceLimits !== undefined) return newWorker(resourceLimits);
  prepared = undefined;
  worker.ref();
  return worker;
}

function newWorker(resourceLimits?: ResourceLimits): Worker {
  const url = new URL('./batch-worker.js', import.meta.url);
  return new Worker(url, { ...(resourceLimits && { resourceLimits }) });
}
