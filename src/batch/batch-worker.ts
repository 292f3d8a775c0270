import * as fs from 'node:fs';
import * as path from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import { isQcow2Error } from '../errors.ts';
import { ioError } from '../storage/file.ts';
import { convertFile } from '../workers/convert-file.ts';
import { filesWritten } from './jobs.ts';
import type { BatchWorkerReply, BatchWorkerRequest, BatchWorkerStart } from './messages.ts';
import { allocatedBytes } from './schedule.ts';

/** Milliseconds between two reports of progress. */
const PROGRESS_INTERVAL = 100;

/** One thread of a batch: converts one whole image after the other. */
const { abort } = workerData as BatchWorkerStart;
const port = parentPort!;

function reply(message: BatchWorkerReply): void {
  port.postMessage(message);
}

async function convert({ job, threads }: BatchWorkerRequest): Promise<void> {
  const controller = new AbortController();
  let bytesVirtual = 0;
  let reported = 0;
  const onProgress = (done: number, total: number): void => {
    bytesVirtual = total;
    // Reading and writing block this thread, so an abort cannot reach it as a message.
    if (Atomics.load(abort, 0) !== 0) controller.abort();
    const now = performance.now();
    if (now - reported < PROGRESS_INTERVAL) return;
    reported = now;
    reply({ progress: { done, total } });
  };
  makeFolder(job.target);
  const { signal } = controller;
  await convertFile({ ...job, threads, blocking: true, onProgress, signal });
  reply({ finished: { bytesVirtual, bytesWritten: allocatedBytes(filesWritten(job)) } });
}

function makeFolder(target: string): void {
  const folder = path.dirname(target);
  try {
    fs.mkdirSync(folder, { recursive: true });
  } catch (error) {
    throw ioError(error, `Could not create folder '${folder}'`, folder);
  }
}

port.on('message', (request: BatchWorkerRequest) => {
  convert(request).catch((error: unknown) => {
    const message = error instanceof Error ? error.message : String(error);
    if (isQcow2Error(error)) reply({ failed: { code: error.code, message } });
    else reply({ failed: { code: 'INTERNAL', message: `internal error: ${message}` } });
  });
});
