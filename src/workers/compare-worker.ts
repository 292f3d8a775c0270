import { workerData } from 'node:worker_threads';
import { createKernel } from '../kernel/kernel.ts';
import { CompareStep } from '../operations/compare.ts';
import type { CompareJob } from '../operations/compare-plan.ts';
import { isRemote } from '../operations/fetch-ahead.ts';
import { openSource } from './input-files.ts';
import type { ComparedJob, CompareStart } from './messages.ts';
import { WorkShare } from './work-share.ts';
import { serve } from './worker-loop.ts';

/** One thread of a comparison: its own descriptors, kernel and buffers. */
const { files, share } = workerData as CompareStart;

void serve<CompareJob, ComparedJob>(new WorkShare(share), async (signal) => {
  const [first, second] = await openSource(files, createKernel(), signal);
  const images = [first!, second!] as const;
  const step = await CompareStep.prepare(images);
  return {
    run: async (job) => ({ offset: await step.run(job), end: job.end }),
    prefetch: (await isRemote(images)) ? (job) => step.prefetch(job) : undefined,
  };
});
