import { workerData } from 'node:worker_threads';
import type { ChunkRecord } from '../image/target.ts';
import { createKernel } from '../kernel/kernel.ts';
import { ConvertStep } from '../operations/convert-step.ts';
import { StreamChunks, tellSize } from '../operations/convert-stream.ts';
import { FileStorage } from '../storage/file.ts';
import type { StreamedChunk, StreamStart } from './messages.ts';
import { WorkShare } from './work-share.ts';
import { serve } from './worker-loop.ts';

/** One thread of a conversion of a stream: chunks come through shared memory. */
const { target, step, allocatorState, slots, share: state } = workerData as StreamStart;
const share = new WorkShare(state);

void serve<StreamedChunk, ChunkRecord | null>(share, async () => {
  const { name, path: realPath } = target;
  const storage = new FileStorage(name, { mode: 'r+', sync: true, realPath, share: true });
  let at = 0;
  const source = new StreamChunks(async (_start, into) => {
    into.set(slots.subarray(at, at + step.chunkBytes));
  });
  const kernel = createKernel();
  const parts = { source, storage, dataStorage: storage, kernel, step, allocatorState };
  const converter = await ConvertStep.prepare(parts);
  return {
    run({ start, length, slot }, sequence) {
      at = slot * step.chunkBytes;
      if (length < step.chunkBytes) tellSize(step, start + length);
      return converter.run(start, share.turnOf(sequence));
    },
  };
});
