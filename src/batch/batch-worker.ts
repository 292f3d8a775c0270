import { parentPort } from 'node:worker_threads';
import { JobThread } from './job-thread.ts';
import type { JobReply, JobRequest, JobThreadSettings } from './messages.ts';

/** One thread of a batch: is sent its settings, then jobs, then null: there will be no more. */
const port = parentPort!;

port.once('message', (settings: JobThreadSettings) => {
  const thread = new JobThread(settings, (reply: JobReply) => port.postMessage(reply));
  port.on('message', (request: JobRequest | null) => {
    if (request === null) port.close();
    else thread.run(request);
  });
});
