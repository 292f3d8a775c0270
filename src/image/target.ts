import type { MaybePromise } from '../storage/storage.ts';
import type { AddedReferences } from './append-allocator.ts';

/** What writing a chunk left to be recorded by whoever keeps the target's tables. */
export interface ChunkRecord {
  /** References added to host clusters, if the target counts any. */
  references: AddedReferences | null;
  tables: NewEntries[];
}

/** Consecutive entries of one L2 table. */
export interface NewEntries {
  l1Index: number;
  /** Host offset of the table. */
  offset: number;
  /** Index of the first entry. */
  first: number;
  /** As they are stored. */
  entries: Uint8Array;
}

/** Waits until every chunk before this one has allocated, runs `allocate`, lets the next one go. */
export type Turn = (allocate: () => void) => MaybePromise<void>;

/** Writes chunks of guest data to a new file: any thread, any order but for the turn. */
export interface ChunkWriter {
  /**
   * Writes the guest bytes in `chunk` (kernel memory; the whole buffer is valid, zero-padded to a
   * cluster behind the disk's end) that belong at guest offset `start`.
   */
  write(start: number, chunk: Uint8Array, turn: Turn): MaybePromise<ChunkRecord | null>;
}
