import { Qcow2Error } from '../errors.ts';
import { givenFiles } from '../image/given-files.ts';
import { Image } from '../image/image.ts';
import { readMetadata } from '../image/metadata.ts';
import { type RepairMode, repairImage } from '../image/repair.ts';
import { requireWrite } from '../image/write-gate.ts';
import { createKernel } from '../kernel/kernel.ts';
import { type ImageSource, storageOf } from '../storage/source.ts';
import {
  type CheckOptions,
  type CheckResult,
  DEFAULT_MAX_FINDINGS,
  requireQcow2,
  resultOf,
} from './check.ts';
import { requireOutsideFiles } from './check-outside.ts';
import { throwIfAborted } from './control.ts';

export type { RepairMode } from '../image/repair.ts';

/** How to repair. */
export interface RepairOptions extends Omit<CheckOptions, 'kernel'> {
  /** `leaks` frees clusters nothing refers to, and no more; `all` (the default) repairs all it can. */
  mode?: RepairMode;
}

/** What a repair did. */
export interface RepairResult {
  /** What was found before it. */
  readonly before: CheckResult;
  /** What is found now; `before` if nothing was changed. */
  readonly after: CheckResult;
  readonly corruptionsFixed: number;
  readonly leaksFixed: number;
  /** What was changed, a line each, and how many changes have none. */
  readonly repairs: readonly string[];
  readonly repairsOmitted: number;
  /** What was not repaired, and why, a line each. */
  readonly unrepaired: readonly string[];
  /** Mode `leaks` changed nothing, because the counters need mode `all` first. */
  readonly needsAll: boolean;
}

/**
 * Repairs the metadata of a qcow2 image (format section 18): counters, copied flags, refcount structures,
 * the snapshot table, and then the dirty and corrupt bits. Nothing is changed by a guess: while entries
 * are damaged beyond repair, clusters nothing refers to are kept, for they may hold what those lost.
 * Whenever it is cut short, the guest has what it had, and a second repair ends as the first would have.
 * Nothing else may use the file meanwhile. The storage stays open.
 * @param source with `write`
 * @throws Qcow2Error READ_ONLY; INVALID_ARGUMENT: an open image, instead of its storage; those of `check`
 *   where the check cannot go on: nothing has changed then; IO
 * @example
 * import { FileStorage, repair } from 'qcow2';
 *
 * const storage = new FileStorage('disk.qcow2', { mode: 'r+' });
 * const { leaksFixed, corruptionsFixed, unrepaired } = await repair(storage, { mode: 'all' });
 * console.log(`${leaksFixed} leaks, ${corruptionsFixed} corruptions repaired`, unrepaired);
 * storage.close();
 */
export async function repair(
  source: ImageSource,
  options: RepairOptions = {},
): Promise<RepairResult> {
  if (source instanceof Image) {
    const text = 'an open image cannot be repaired: close it, and pass its storage';
    throw new Qcow2Error('INVALID_ARGUMENT', text);
  }
  const { signal, onProgress, backend, mode = 'all' } = options;
  const storage = await storageOf(source);
  await requireQcow2(storage, options.format);
  requireWrite(storage);
  const metadata = await readMetadata(storage, true);
  await requireOutsideFiles(storage, metadata, options.resolver, await givenFiles(options));
  const repaired = await repairImage(storage, metadata, {
    mode,
    makeKernel: () => createKernel(backend === undefined ? {} : { backend }),
    maxFindings: options.maxFindings ?? DEFAULT_MAX_FINDINGS,
    step: () => throwIfAborted(signal, 'the repair'),
    onProgress,
  });
  const { before, after, log, corruptionsFixed, leaksFixed, needsAll } = repaired;
  const found = resultOf(after);
  return {
    before: before === after ? found : resultOf(before, false),
    after: found,
    corruptionsFixed,
    leaksFixed,
    repairs: log.repairs,
    repairsOmitted: log.omitted,
    unrepaired: log.unrepaired,
    needsAll,
  };
}
