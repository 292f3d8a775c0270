import { workerData } from 'node:worker_threads';
import { createKernel } from '../kernel/kernel.ts';
import { Source } from '../operations/chunks.ts';
import { ConvertStep } from '../operations/convert.ts';
import { isRemote } from '../operations/fetch-ahead.ts';
import { FileStorage } from '../storage/file.ts';
import { openSource } from './input-files.ts';
import type { ConvertedChunk, ConvertStart, TargetPath } from './messages.ts';
import { WorkShare } from './work-share.ts';
import { serve } from './worker-loop.ts';

/** One thread of a conversion: its own descriptors, kernel and buffers. */
const start = workerData as ConvertStart;
const share = new WorkShare(start.share);

function openTarget({ name, path }: TargetPath): FileStorage {
  // What is locked is locked by the thread that began the conversion.
  return new FileStorage(name, { mode: 'r+', sync: true, realPath: path, share: true });
}

void serve<number, ConvertedChunk>(share, async (signal) => {
  const kernel = createKernel();
  const source = new Source(await openSource(start.files, kernel, signal), start.range);
  const target = openTarget(start.target);
  const converter = await ConvertStep.prepare({
    source,
    storage: target,
    dataStorage: start.data.path === start.target.path ? target : openTarget(start.data),
    kernel,
    step: start.step,
    allocatorState: start.allocatorState,
  });
  return {
    async run(at, sequence) {
      return { start: at, record: await converter.run(at, share.turnOf(sequence)) };
    },
    prefetch: (await isRemote(source.images)) ? (at) => converter.prefetch(at) : undefined,
  };
});
