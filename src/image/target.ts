import type { MaybePromise } from '../storage/storage.ts';
import type { AddedReferences } from './append-allocator.ts';

/** What writing a chunk left to be recorded by whoever keeps the target's tables. */
export interface ChunkRecord {
  /** References added to host clusters, if the target counts any. */
  references: AddedReferences | null;
  /** L2 tables allocated: pairs of L1 index and host offset. */
  tables: number[];
}

/** Waits until every chunk before this one has allocated, runs `allocate`, lets the next one go. */
export type Turn = (allocate: () => void) => void;

/** Writes chunks of guest data to a new file: any thread, any order but for the turn. */
export interface ChunkWriter {
  /**
   * Writes the guest bytes in `chunk` (kernel memory; the whole buffer is valid, zero-padded to a
   * cluster behind the disk's end) that belong at guest offset `start`.
   */
  write(start: number, chunk: Uint8Array, turn: Turn): MaybePromise<ChunkRecord | null>;
}
