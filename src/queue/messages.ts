import type { BatchJob } from '../batch/jobs.ts';
import type { JobFailure } from '../batch/messages.ts';
import type { JobResult, PhaseProgress } from '../batch/run-job.ts';
import type { Http } from '../batch/source-identity.ts';
import type { SourceVersion } from './queued-job.ts';

/** To a thread of a worker: a job to do; or, after it has asked, whether the target may get its name. */
export type ThreadMessage =
  | {
      job: BatchJob;
      sources: readonly SourceVersion[];
      http: Http;
      partialTag: string;
      /** On a SharedArrayBuffer: not 0 once the job is to be dropped. */
      abort: Int32Array;
    }
  | { mayPublish: boolean };

/** From a thread: any number of `progress`, `written` when the target waits for its name, then one end. */
export type ThreadReply =
  | { progress: PhaseProgress }
  | { written: true }
  | { finished: JobResult; seconds: number }
  | { failed: JobFailure };
