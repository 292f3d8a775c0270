import type { Kernel } from '../kernel/kernel.ts';
import type { GivenSources } from './given-files.ts';
import type { SnapshotQuery } from './identify.ts';
import type { OutsideResolver } from './open-gate.ts';

/** How to open an image. */
export interface OpenOptions extends GivenSources {
  /** Opens backing and data files the image names. Absent: none is opened. */
  resolver?: OutsideResolver;
  /** Shows the disk as of this internal snapshot: its id, or else its name. */
  snapshot?: string | SnapshotQuery;
  /**
   * Opens the image for writing too; files below it are only read. One that was not closed is repaired
   * first, as `repair` does it. While it is open, nothing else may write to its storage: two writable images
   * over one destroy it. Files are locked against that, as QEMU locks them; with a `MemoryStorage` or a
   * storage of one's own it is up to the caller.
   */
  writable?: boolean;
  /** Bytes of memory for the tables of an image that is written. Default 32 MiB. */
  cacheBytes?: number;
  /** Which kernel to run; for tests and comparisons. */
  kernel?: Kernel;
  /**
   * Ends all use of the image: every call under way and every later one fails with `ABORTED`, at once
   * even if a storage never answers, and the files are closed. What was not flushed may be lost.
   */
  signal?: AbortSignal | undefined;
  /**
   * Files of the chain to open, from the image itself on; what lies below reads as zeros.
   * @internal
   */
  layers?: number;
}

/** How zeros are written. */
export interface WriteZeroesOptions {
  /** Gives up the space of whole clusters, instead of keeping it reserved for later writes. */
  unmap?: boolean;
}
