import type { OperationControl } from '../operations/control.ts';

/** How long events may have to wait while a thread works with blocking calls. */
const PATIENCE_MILLISECONDS = 50;

/** Reports progress, and lets signals and timers in between steps. */
export function withEvents(
  onProgress: OperationControl['onProgress'],
): NonNullable<OperationControl['onProgress']> {
  let last = performance.now();
  return async (done, total) => {
    await onProgress?.(done, total);
    if (performance.now() - last < PATIENCE_MILLISECONDS) return;
    await new Promise((resolve) => setImmediate(resolve));
    last = performance.now();
  };
}
