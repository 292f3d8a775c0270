import {
  type MessagePort,
  parentPort,
  receiveMessageOnPort,
  workerData,
} from 'node:worker_threads';
import { isQcow2Error } from '../errors.ts';
import { STEPS_AHEAD } from '../operations/fetch-ahead.ts';
import type { WorkShare } from './work-share.ts';
import type { ListedSteps, SentError, ThreadReply } from './worker-pool.ts';

/** What a thread does with steps. */
export interface StepWork<Step, Result> {
  run(step: Step, sequence: number): Promise<Result>;
  /** Begins to fetch what a step needs; absent where reading is fast. */
  prefetch?: ((step: Step) => Promise<void>) | undefined;
  /** Memory of a result that is handed over rather than copied. */
  transfer?: ((result: Result) => ArrayBuffer[]) | undefined;
}

/** How long a thread that waits for data may not notice that all is stopped. */
const PATIENCE_MILLISECONDS = 100;

/**
 * What a worker thread does from start to end: opens what it needs, takes steps until there are no
 * more, and reports each to the thread that started it.
 * @param open gets a signal that fires when another thread has stopped everything
 */
export async function serve<Step, Result>(
  share: WorkShare,
  open: (signal: AbortSignal) => Promise<StepWork<Step, Result>>,
): Promise<void> {
  const port = parentPort!;
  const reply = (message: ThreadReply<Result>, transfer: ArrayBuffer[] = []): void =>
    port.postMessage(message, transfer);
  const stopped = new AbortController();
  const watch = setInterval(() => share.isStopped && stopped.abort(), PATIENCE_MILLISECONDS);
  const taken = new TakenSteps<Step>(share, (workerData as { steps: MessagePort }).steps);
  let sequence = -1;
  try {
    const work = await open(stopped.signal);
    for (let step = await taken.next(work); step !== undefined; step = await taken.next(work)) {
      sequence = step.sequence;
      try {
        const value = await work.run(step.step, sequence);
        reply({ sequence, value }, work.transfer?.(value));
      } catch (error) {
        reply({ sequence, error: sent(error) });
      }
    }
  } catch (error) {
    // Opening may have been cut short since all was done by then: no failure of anything.
    if (!stopped.signal.aborted) reply({ sequence, error: sent(error) });
  } finally {
    clearInterval(watch);
  }
}

/** The steps of one thread. Where data is fetched ahead it takes some before their time. */
class TakenSteps<Step> {
  readonly #share: WorkShare;
  readonly #port: MessagePort;
  readonly #received = new Map<number, Step>();
  /** Numbers taken and not done; those before `#announced` are being fetched. */
  readonly #taken: number[] = [];
  #announced = 0;

  constructor(share: WorkShare, port: MessagePort) {
    this.#share = share;
    this.#port = port;
  }

  async next({
    prefetch,
  }: Pick<StepWork<Step, unknown>, 'prefetch'>): Promise<
    { sequence: number; step: Step } | undefined
  > {
    const sequence = this.#taken.shift() ?? this.#share.take();
    this.#announced = Math.max(0, this.#announced - 1);
    if (!this.#share.has(sequence)) return undefined;
    receive(this.#port, this.#received);
    const step = this.#received.get(sequence)!;
    for (const earlier of this.#received.keys()) {
      if (earlier > sequence) break;
      this.#received.delete(earlier);
    }
    if (prefetch) await this.#announce(prefetch);
    return { sequence, step };
  }

  async #announce(prefetch: (step: Step) => Promise<void>): Promise<void> {
    while (this.#taken.length < STEPS_AHEAD) this.#taken.push(this.#share.take());
    for (; this.#announced < this.#taken.length; this.#announced++) {
      const step = this.#received.get(this.#taken[this.#announced]!);
      if (step === undefined) return;
      // What fails here fails again when the step is done.
      await prefetch(step).catch(() => {});
    }
  }
}

/** Steps are sent before they count as listed: all that count are here. */
function receive<Step>(port: MessagePort, into: Map<number, Step>): void {
  while (true) {
    const received = receiveMessageOnPort(port);
    if (received === undefined) return;
    const { first, steps } = received.message as ListedSteps<Step>;
    for (const [i, step] of steps.entries()) into.set(first + i, step);
  }
}

function sent(error: unknown): SentError {
  const message = error instanceof Error ? error.message : String(error);
  if (isQcow2Error(error)) return { code: error.code, message, details: error.details };
  const stack = error instanceof Error ? error.stack : undefined;
  return { code: 'INTERNAL', message, details: {}, stack };
}
