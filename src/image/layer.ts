import type { MaybePromise, Storage } from '../storage/storage.ts';
import type { Plan } from './plan.ts';

/** One file of a backing chain, seen as guest bytes. */
export interface Layer {
  readonly format: 'qcow2' | 'raw';
  /** The file that was opened: metadata and, without an external data file, guest data. */
  readonly storage: Storage;
  /** Where data runs point into: the file itself, or its external data file. */
  readonly dataStorage: Storage;
  /** Length of the disk in bytes. */
  readonly virtualSize: number;
  /** Bytes of a cluster; for raw files 1, since every byte stands for itself. */
  readonly clusterSize: number;
  /**
   * Appends the runs of `[start, end)` to the plan, marked with `depth`. The range lies within the
   * virtual size. Unallocated runs are left for the layer below. Returns where it stopped: `end`, or
   * earlier when the plan is full.
   * @throws Qcow2Error BAD_ENTRY, TRUNCATED
   */
  mapRange(start: number, end: number, depth: number, plan: Plan): MaybePromise<number>;
  /** Forgets what it remembers of the mapping: the file has changed. */
  forget(): void;
}
