import { JobThread } from './job-thread.ts';
import { THREAD_HEAP } from './memory.ts';
import type { JobReply, JobRequest, JobThreadSettings } from './messages.ts';
import { RateMeter } from './rate-meter.ts';
import { startJobWorker } from './start-worker.ts';

/** A job that has begun and not ended. */
export class OpenJob {
  readonly meter = new RateMeter();
  /** Those it may have; shared with the threads that do it. */
  readonly threads = new Int32Array(new SharedArrayBuffer(4)).fill(1);
}

/** What a slot tells. */
export interface SlotListener {
  reply(slot: JobSlot, message: JobReply): void;
  /** The thread has ended; of what, if not by itself. */
  lost(slot: JobSlot, cause: Error | undefined): void;
}

/** A thread that leads jobs, one at a time: a worker, or the calling thread itself. */
export class JobSlot {
  /** From 0. */
  readonly number: number;
  /** The job it does now. */
  current: number | undefined;
  /** The one that is sent already, to be done behind the current one. */
  ahead: number | undefined;
  /** The current one, the one ahead and those that wait for the disk. */
  readonly open = new Map<number, OpenJob>();
  #isRetired = false;
  readonly #post: (request: JobRequest | null) => void;
  readonly isCalling: boolean;
  readonly #end: () => Promise<unknown>;

  constructor(
    number: number,
    settings: JobThreadSettings,
    listener: SlotListener,
    isCalling: boolean,
    hasLimit: boolean,
  ) {
    this.number = number;
    this.isCalling = isCalling;
    if (isCalling) {
      const reply = (message: JobReply): void => listener.reply(this, message);
      const thread = new JobThread(settings, reply, events);
      this.#post = (request) => {
        if (request) setImmediate(() => thread.run(request));
      };
      this.#end = () => Promise.resolve();
      return;
    }
    const worker = startJobWorker(hasLimit ? THREAD_HEAP : undefined);
    worker.postMessage(settings);
    let cause: Error | undefined;
    worker.on('message', (message: JobReply) => listener.reply(this, message));
    worker.on('error', (error) => {
      cause = error;
    });
    worker.on('exit', () => listener.lost(this, cause));
    this.#post = (request) => worker.postMessage(request);
    this.#end = () => worker.terminate();
  }

  /** Whether it can begin a job. */
  get isIdle(): boolean {
    return this.current === undefined && !this.#isRetired;
  }

  /** Sends a job, to be done when what was sent before is. */
  send(request: JobRequest, job: OpenJob): void {
    this.open.set(request.index, job);
    this.#post(request);
  }

  /** Has a worker end when it has nothing left to do; the calling thread stays. */
  retire(): void {
    if (this.isCalling) return;
    this.#isRetired = true;
    this.#post(null);
  }

  end(): Promise<unknown> {
    return this.#end();
  }
}

/** Lets what other threads sent, signals and timers in. */
function events(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
