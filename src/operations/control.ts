import { Qcow2Error } from '../errors.ts';

/** What every long operation reports and obeys. */
export interface OperationControl {
  /**
   * How much is done, of all: guest bytes, if the operation does not say otherwise. The operation
   * waits for what it returns, and fails with what it throws.
   */
  onProgress?: ((done: number, total: number) => void | Promise<void>) | undefined;
  /** Ends the operation at its next step with an `ABORTED` error. */
  signal?: AbortSignal | undefined;
}

/**
 * @param what what is aborted, as the subject of a sentence
 * @throws Qcow2Error ABORTED
 */
export function throwIfAborted(signal: AbortSignal | undefined, what: string): void {
  if (signal?.aborted) throw new Qcow2Error('ABORTED', `${what} was aborted`);
}

/** How long events may have to wait for work on the calling thread. */
const YIELD_MILLISECONDS = 50;

/**
 * What long work calls between its pieces: it lets events in now and then, and fails once the signal
 * has fired.
 * @param what what is aborted, as the subject of a sentence
 */
export function pacer(signal: AbortSignal | undefined, what: string): () => void | Promise<void> {
  let last = performance.now();
  return () => {
    throwIfAborted(signal, what);
    if (performance.now() - last < YIELD_MILLISECONDS) return;
    return new Promise<void>((resolve) => setTimeout(resolve)).then(() => {
      last = performance.now();
      throwIfAborted(signal, what);
    });
  };
}
