import * as fs from 'node:fs';
import * as path from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import { isQcow2Error } from '../errors.ts';
import { createKernel } from '../kernel/kernel.ts';
import { ioError } from '../storage/file.ts';
import { convertFile } from '../workers/convert-file.ts';
import { filesWritten } from './jobs.ts';
import type { BatchWorkerReply, BatchWorkerRequest, BatchWorkerStart } from './messages.ts';
import { allocatedBytes } from './schedule.ts';

/** Milliseconds between two reports of progress. */
const PROGRESS_INTERVAL = 100;

/** Jobs whose targets the disk has not taken yet; the next one waits. */
const MOST_SYNCING = 4;

/** One thread of a batch: converts one whole image after the other. */
const { abort, durable } = workerData as BatchWorkerStart;
const port = parentPort!;
/** One for all images: memory that was used before is there at once. */
const kernel = createKernel();

function reply(message: BatchWorkerReply): void {
  port.postMessage(message);
}

async function convert({ index, job, threads }: BatchWorkerRequest): Promise<void> {
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
    reply({ index, progress: { done, total } });
  };
  makeFolder(job.target);
  const { signal } = controller;
  try {
    const rest = { threads, blocking: true, durable: false, kernel, onProgress, signal };
    await convertFile({ ...job, ...rest });
  } finally {
    kernel.reset();
  }
  const files = filesWritten(job);
  if (durable) {
    const synced = tracked(Promise.all(files.map(syncTarget)));
    // The disk works while the next image is converted, but it does not fall far behind.
    if (syncing.size >= MOST_SYNCING) await Promise.race(syncing);
    reply({ index, written: true });
    await synced;
  }
  reply({ index, finished: { bytesVirtual, bytesWritten: allocatedBytes(files) } });
}

const syncing = new Set<Promise<unknown>>();

/** Counts `work` as syncing while it lasts; a failure is for whoever waits for the result. */
function tracked(work: Promise<unknown>): Promise<unknown> {
  const settled = work
    .catch(() => {})
    .finally(() => {
      syncing.delete(settled);
    });
  syncing.add(settled);
  return work;
}

async function syncTarget(file: string): Promise<void> {
  try {
    await sync(file);
  } catch (error) {
    throw ioError(error, `Could not sync '${file}'`, file);
  }
  // Its name; some file systems cannot, some folders cannot be read.
  await sync(path.dirname(file)).catch(() => {});
}

async function sync(file: string): Promise<void> {
  const handle = await fs.promises.open(file, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
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
  const { index } = request;
  convert(request).catch((error: unknown) => {
    const message = error instanceof Error ? error.message : String(error);
    if (isQcow2Error(error)) reply({ index, failed: { code: error.code, message } });
    else reply({ index, failed: { code: 'INTERNAL', message: `internal error: ${message}` } });
  });
});
