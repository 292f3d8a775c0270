import type { SnapshotQuery } from '../image/identify.ts';
import { createKernel, type Kernel } from '../kernel/kernel.ts';
import type { InputCopy, NamedFiles } from '../node/open-image.ts';
import { type CompareOptions, type CompareResult, compare } from '../operations/compare.ts';
import type { HttpOptions } from '../storage/http.ts';
import { threadedCompareExecutor } from './compare-threads.ts';
import { openSource } from './input-files.ts';
import type { InputFiles } from './messages.ts';
import { withEvents } from './progress-events.ts';
import type { ThreadOptions } from './worker-pool.ts';

/** An image to be compared. */
export interface ComparedFile extends NamedFiles {
  path: string;
  /** Null: the active disk, whatever snapshot is chosen for both. */
  snapshot?: string | SnapshotQuery | null | undefined;
  /** @internal */
  copy?: InputCopy | undefined;
}

/** Compares two image files. */
export interface CompareFilesOptions
  extends ThreadOptions,
    Pick<CompareOptions, 'strict' | 'onProgress' | 'signal'> {
  inputs: readonly [ComparedFile, ComparedFile];
  /** Of both images, where they do not name one of their own. */
  snapshot?: string | SnapshotQuery | undefined;
  allowExternal?: readonly string[] | 'any' | undefined;
  /** How http and https URLs are read. */
  http?: Omit<HttpOptions, 'signal' | 'transport'> | undefined;
  /** Read files that another program has open for writing. */
  share?: boolean | undefined;
  /** Holds the buffers of the calling thread and serves nothing else meanwhile; default a new one. */
  kernel?: Kernel | undefined;
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
  const { inputs, snapshot, allowExternal, share, http, signal } = options;
  const files: InputFiles = { inputs, snapshot, allowExternal, share, http };
  const [first, second] = await openSource(files, options.kernel ?? createKernel(), signal);
  try {
    options.onOpen?.();
    const executor = threadedCompareExecutor(files, options);
    const onProgress = withEvents(options.onProgress);
    return await compare(first!, second!, { ...options, onProgress, executor });
  } finally {
    await first!.close();
    await second!.close();
  }
}
