// A thread of a pool that does as `serve` of dist/ has it done, without files.
import { workerData } from 'node:worker_threads';
import { WorkShare } from '../../build/modules/workers/work-share.js';
import { serve } from '../../build/modules/workers/worker-loop.js';

async function run(step) {
  if (step === 13) throw new Error('thirteen');
  if (step < 0) process.exit(7);
  return step * step;
}

void serve(new WorkShare(workerData.share), async () => ({ run }));
