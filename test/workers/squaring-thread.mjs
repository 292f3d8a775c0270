// A thread of a pool that does as `serve` of dist/ has it done, without files.
import { workerData } from 'node:worker_threads';
import { WorkShare } from '../../build/modules/workers/work-share.js';
import { serve } from '../../build/modules/workers/worker-loop.js';

void serve(new WorkShare(workerData), async () => async (step) => {
  if (step === 13) throw new Error('thirteen');
  if (step < 0) process.exit(7);
  return step * step;
});
