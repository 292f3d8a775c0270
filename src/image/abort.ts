import { Qcow2Error } from '../errors.ts';

/** Ends waiting when a signal fires. Work that has begun goes on, but nobody waits for it any more. */
export class AbortWatch {
  readonly #signal: AbortSignal | undefined;
  readonly #name: string;
  /** Of those who wait; a promise they all raced with would keep every one of them for ever. */
  readonly #waiting = new Set<(error: Qcow2Error) => void>();
  #onAbort: (() => Promise<void>) | undefined;

  /** @param name of the image */
  constructor(signal: AbortSignal | undefined, name: string | undefined) {
    this.#signal = signal;
    this.#name = name ?? 'image';
    signal?.addEventListener('abort', this.#fire, { once: true });
  }

  /**
   * @param work called when the signal fires, or at once if it has; in place of what was told before.
   *   That it fails is of no interest any more.
   */
  onAbort(work: () => Promise<void>): void {
    this.#onAbort = () => work().catch(() => undefined);
    if (this.#signal?.aborted) this.#onAbort();
  }

  /** @throws Qcow2Error ABORTED */
  requireGoingOn(): void {
    if (this.#signal?.aborted) throw this.#error();
  }

  /**
   * What `work` gives, unless the signal fires before.
   * @throws Qcow2Error ABORTED
   */
  race<T>(work: Promise<T>): Promise<T> {
    if (this.#signal === undefined) return work;
    return new Promise((resolve, reject) => {
      this.#waiting.add(reject);
      work.then(resolve, reject).finally(() => this.#waiting.delete(reject));
      if (this.#signal?.aborted) reject(this.#error());
    });
  }

  /** The signal is of no interest any more. */
  end(): void {
    this.#signal?.removeEventListener('abort', this.#fire);
  }

  readonly #fire = (): void => {
    for (const reject of this.#waiting) reject(this.#error());
    this.#onAbort?.();
  };

  #error(): Qcow2Error {
    return new Qcow2Error('ABORTED', `the use of '${this.#name}' was aborted`);
  }
}
