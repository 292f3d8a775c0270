import { workerData } from 'node:worker_threads';
import { ALLOCATOR_SLOTS } from '../image/append-allocator.ts';
import { createKernel } from '../kernel/kernel.ts';
import { Source } from '../operations/chunks.ts';
import { ConvertStep } from '../operations/convert-step.ts';
import { FrontToBack } from '../operations/front-to-back.ts';
import type { PackedAt } from '../operations/stream-compressed.ts';
import { openSource } from './input-files.ts';
import type { PackStart } from './messages.ts';
import { WorkShare } from './work-share.ts';
import { serve } from './worker-loop.ts';

/** One thread that reads and compresses for a stream that goes out: it writes nothing itself. */
const { files, step, withBytes, share } = workerData as PackStart;

void serve<number, PackedAt>(new WorkShare(share), async (signal) => {
  const kernel = createKernel();
  const source = new Source(await openSource(files, kernel, signal));
  const nowhere = new FrontToBack();
  const parts = { source, storage: nowhere, dataStorage: nowhere, kernel, step };
  const allocatorState = new Float64Array(ALLOCATOR_SLOTS);
  const converter = await ConvertStep.prepare({ ...parts, allocatorState });
  return {
    run: async (start) => ({ start, ...(await converter.pack(start, withBytes)) }),
    transfer: ({ bytes }) => (bytes ? [bytes.buffer] : []),
  };
});
