import type { Qcow2Error } from '../errors.ts';
import type { AbortWatch } from './abort.ts';

/** Serves the calls of an image one after the other: they share its tables and buffers. */
export class Turns {
  readonly #watch: AbortWatch;
  #last: Promise<unknown> = Promise.resolve();
  #refusal: Qcow2Error | undefined;

  constructor(watch: AbortWatch) {
    this.#watch = watch;
  }

  /**
   * Runs `work` once all calls before it have ended. It must not wait for a later one.
   * @throws Qcow2Error ABORTED, at once, and what `refuse` was told
   */
  take<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(() => {
      this.#watch.requireGoingOn();
      if (this.#refusal) throw this.#refusal;
      return work();
    });
    this.#last = result.catch(() => undefined);
    return this.#watch.race(result);
  }

  /** All calls that have not begun fail with `error` from here on. */
  refuse(error: Qcow2Error): void {
    this.#refusal = error;
  }

  /** Resolves once the calls under way have ended, however they did. */
  async ended(): Promise<void> {
    await this.#watch.race(this.#last).catch(() => undefined);
  }
}
