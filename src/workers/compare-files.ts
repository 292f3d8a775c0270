import * as os from 'node:os';
import type { SnapshotQuery } from '../image/identify.ts';
import { createKernel } from '../kernel/kernel.ts';
import type { NamedFiles } from '../node/open-image.ts';
import { type CompareOptions, type CompareResult, compare } from '../operations/compare.ts';
import type { OperationControl } from '../operations/control.ts';
import type { CompareFiles } from './compare-messages.ts';
import { threadedCompareExecutor } from './compare-pool.ts';
import { openSource } from './input-files.ts';

/** How long events may have to wait while this thread compares. */
const YIELD_MILLISECONDS = 50;

/** Compares two image files. */
export interface CompareFilesOptions
  extends Pick<CompareOptions, 'strict' | 'onProgress' | 'signal'> {
  inputs: readonly [NamedFiles & { path: string }, NamedFiles & { path: string }];
  /** Of both images. */
  snapshot?: string | SnapshotQuery | undefined;
  allowExternal?: readonly string[] | 'any' | undefined;
  /** Read files that another program has open for writing. */
  share?: boolean | undefined;
  /** Worker threads; default one per core. 1 stays on the calling thread. */
  threads?: number | undefined;
  /** Called when both images are open: errors before it are of opening. */
  onOpen?: (() => void) | undefined;
}

/**
 * Compares the disks of two image files; see `compare`. Memory depends on the threads only.
 * @throws Qcow2Error of opening and reading the images; ABORTED
 * @example
 * import { compareFiles } from 'qcow2';
 *
 * const { identical } = await compareFiles({
 *   inputs: [{ path: 'disk.qcow2' }, { path: 'disk.raw', format: 'raw' }],
 * });
 * console.log(identical); // true
 */
export async function compareFiles(options: CompareFilesOptions): Promise<CompareResult> {
  const { inputs, snapshot, allowExternal, share } = options;
  const files: CompareFiles = { inputs, snapshot, allowExternal, share };
  const [first, second] = await openSource(files, createKernel());
  try {
    options.onOpen?.();
    const threads = Math.max(1, Math.min(16, options.threads ?? os.availableParallelism()));
    const executor = threadedCompareExecutor(files, threads);
    return await compare(first!, second!, { ...options, ...controlOf(options), executor });
  } finally {
    await first!.close();
    await second!.close();
  }
}

/** Lets signals and timers in between jobs, which this thread does with blocking calls. */
function controlOf({ signal, onProgress }: CompareFilesOptions): OperationControl {
  let last = performance.now();
  return {
    signal,
    async onProgress(done, total) {
      await onProgress?.(done, total);
      if (performance.now() - last < YIELD_MILLISECONDS) return;
      await new Promise((resolve) => setImmediate(resolve));
      last = performance.now();
    },
  };
}
