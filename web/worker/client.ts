import type { Answer, Request, RequestName, Requests } from './messages.ts';

interface Pending {
  resolve(result: never): void;
  reject(error: Error): void;
  onProgress: ((done: number, total: number) => void) | undefined;
}

/** An answer that nobody waits for any more: another image was opened. */
export class Superseded extends Error {}

/**
 * An image in a worker of its own. When the signal fires the worker ends, whatever it is at: a hostile
 * image cannot keep the page from opening the next one.
 */
export class Client {
  readonly signal: AbortSignal;
  readonly #worker: Worker;
  readonly #pending = new Map<number, Pending>();
  #last = 0;

  constructor(signal: AbortSignal) {
    this.signal = signal;
    this.#worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
    this.#worker.onmessage = ({ data }: MessageEvent<Answer>) => this.#take(data);
    this.#worker.onerror = (event) =>
      this.#fail(new Error(event.message || 'the worker has stopped'));
    signal.addEventListener('abort', () => {
      this.#worker.terminate();
      this.#fail(new Superseded('another image was opened'));
    });
  }

  /** Asks the worker. It rejects with the one line that says what is wrong. */
  ask<N extends RequestName>(
    name: N,
    ...[args, onProgress]: Requests[N]['args'] extends undefined
      ? [args?: undefined, onProgress?: Pending['onProgress']]
      : [args: Requests[N]['args'], onProgress?: Pending['onProgress']]
  ): Promise<Requests[N]['result']> {
    const id = ++this.#last;
    return new Promise<Requests[N]['result']>((resolve, reject) => {
      if (this.signal.aborted) return reject(new Superseded('another image was opened'));
      this.#pending.set(id, { resolve, reject, onProgress });
      const request: Request = { id, name, args };
      this.#worker.postMessage(request);
    });
  }

  #take(answer: Answer): void {
    const pending = this.#pending.get(answer.id);
    if (pending === undefined) return;
    if ('total' in answer) {
      pending.onProgress?.(answer.done, answer.total);
      return;
    }
    this.#pending.delete(answer.id);
    if ('error' in answer) pending.reject(new Error(answer.error.message));
    else pending.resolve(answer.result as never);
  }

  #fail(error: Error): void {
    for (const pending of this.#pending.values()) pending.reject(error);
    this.#pending.clear();
  }
}
