import type { DeflateLevel } from '../codecs/deflate.ts';
import type { NewImageOptions } from '../image/new-image.ts';
import type { ChunkRecord } from '../image/target.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { DiskRange, Source } from './chunks.ts';
import type { OperationControl } from './control.ts';
import type { ConvertParts } from './convert-step.ts';
import type { BitmapCopying } from './copy-bitmaps.ts';
import type { DigestInOrder, DiskDigest } from './disk-digest.ts';

/** What to convert to. */
export interface ConvertOptions extends OperationControl {
  format: 'raw' | 'qcow2';
  /** Of the new qcow2 image; `size` is the source's when absent. */
  create?: Omit<NewImageOptions, 'size'> & { size?: number };
  /** Copy this part of the disk only; what lies behind the disk's end does not count. */
  range?: DiskRange | undefined;
  /** Copy the persistent dirty bitmaps of the source, too; absent: they are left behind. */
  bitmaps?: BitmapCopying | undefined;
  /** Compress every cluster that shrinks. */
  compress?: boolean;
  /** How hard deflate tries; zstd has one level. Default `default`. */
  compressionLevel?: DeflateLevel;
  /** Zero runs of at least so many bytes become holes (raw targets). 0: store all zeros. Default 4096. */
  sparseSize?: number;
  /** The target may hold other bytes: write zeros too, or make holes of them if it can (raw targets). */
  overwrite?: boolean;
  /**
   * Runs the chunks; default on the calling thread.
   * @internal
   */
  executor?: ChunkExecutor;
  /**
   * Takes the disk as it is read, and zeros up to the length of the new one.
   * @internal
   */
  digest?: DiskDigest | undefined;
  /**
   * Holds the buffers; default a new one. The one the images were opened with saves copies, but then
   * nothing else may use these images meanwhile: memory must not grow while a read is under way.
   */
  kernel?: Kernel;
}

/** Runs chunks to completion, in the order they come or on several threads. */
export interface ChunkExecutor {
  /** Other threads need the state of the allocator; pages may have no shared memory. */
  readonly sharesState: boolean;
  /** @param finished called once per chunk with its guest offset, in any order, one call at a time */
  run(
    conversion: Conversion,
    finished: (start: number, record: ChunkRecord | null) => Promise<void>,
  ): Promise<void>;
}

/** A conversion about to run: what an executor needs to set up its threads. */
export interface Conversion extends ConvertParts {
  source: Source;
  /** Is to be given every chunk that is read, in their order. */
  digest?: DigestInOrder | undefined;
  /** Guest offsets of the chunks, ascending; every call lists them anew. */
  chunks: () => AsyncIterable<number>;
}
