import * as fs from 'node:fs';
import { parentPort } from 'node:worker_threads';
import { fileIdentity } from '../batch/file-identity.ts';
import { failureOf, makeFolder } from '../batch/job-thread.ts';
import { filesWritten } from '../batch/jobs.ts';
import { JobKernels, type PhaseProgress, runJob } from '../batch/run-job.ts';
import { Qcow2Error } from '../errors.ts';
import { ioError } from '../storage/file.ts';
import type { WrittenTarget } from '../workers/convert-file.ts';
import type { ThreadMessage, ThreadReply } from './messages.ts';
import { requireUnchanged } from './queued-job.ts';

/** A thread of a worker on a queue: does one job after the other, blocking. */

/** Milliseconds between two reports of progress, which go through the server. */
const PROGRESS_INTERVAL = 1000;

const port = parentPort!;
const kernels = new JobKernels();
let answer: ((mayPublish: boolean) => void) | undefined;
/** Of the job that is being done. */
let controller = new AbortController();

function reply(message: ThreadReply): void {
  port.postMessage(message);
}

port.on('message', (message: ThreadMessage) => {
  if ('mayPublish' in message) heard(message.mayPublish);
  else run(message).catch((error: unknown) => reply({ failed: failureOf(error) }));
});

/** A job that may not publish its target is to end, also while it waits for a web server. */
function heard(mayPublish: boolean): void {
  if (!mayPublish) controller.abort();
  answer?.(mayPublish);
}

async function run(request: Extract<ThreadMessage, { job: unknown }>): Promise<void> {
  const { job, sources, http, partialTag, abort } = request;
  controller = new AbortController();
  const { signal } = controller;
  let reported = Number.NEGATIVE_INFINITY;
  const onProgress = (progress: PhaseProgress): void => {
    // Reading and writing block this thread, so an abort cannot reach it as a message.
    if (Atomics.load(abort, 0) !== 0) controller.abort();
    const now = performance.now();
    if (now - reported < PROGRESS_INTERVAL) return;
    reported = now;
    reply({ progress });
  };
  const began = performance.now();
  await requireUnchanged(job, sources, { ...http, signal });
  makeFolder(job.target);
  const finished = await runJob(job, {
    threads: 1,
    blocking: true,
    partialTag,
    kernels,
    http,
    signal,
    onProgress,
    beforePublish: async (written) => {
      await requireUnchanged(job, sources, { ...http, signal });
      syncWritten(written);
      await requireJob();
    },
  });
  // Of the sources it is known what they were; looking for files below them would take opening them twice.
  finished.targets = filesWritten(job).map(fileIdentity);
  reply({ finished, seconds: (performance.now() - began) / 1000 });
}

/** Before it is asked whether the job is still ours: nothing that takes long comes after that. */
function syncWritten({ path, dataFile }: WrittenTarget): void {
  for (const file of dataFile === undefined ? [path] : [dataFile, path]) {
    try {
      const fd = fs.openSync(file, 'r');
      try {
        fs.fsyncSync(fd);
      } finally {
        fs.closeSync(fd);
      }
    } catch (error) {
      throw ioError(error, `Could not sync '${file}'`, file);
    }
  }
}

/** Another worker may have the job by now, and have published. */
async function requireJob(): Promise<void> {
  const asked = new Promise<boolean>((resolve) => {
    answer = resolve;
  });
  reply({ written: true });
  if (!(await asked)) throw new Qcow2Error('ABORTED', 'the job is no longer that of this worker');
}
