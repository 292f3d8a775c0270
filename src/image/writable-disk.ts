import type { Preallocation } from './new-image.ts';
import type { Step } from './preallocation.ts';

/** A disk that is being changed; its owner serialises the calls. Offsets and lengths are in bytes. */
export interface WritableDisk {
  write(offset: number, bytes: Uint8Array): Promise<void>;
  /** @param unmap gives up the space of what becomes zeros, instead of keeping it reserved */
  writeZeroes(offset: number, length: number, unmap: boolean): Promise<void>;
  discard(offset: number, length: number): Promise<void>;
  /** Everything written so far is durable when this settles. */
  flush(): Promise<void>;
  /**
   * Gives the disk another length, durably. What is new reads as zeros, whatever a backing file holds.
   * @param step called between pieces of the work; throws to end it
   */
  resize(size: number, preallocation: Preallocation, step: Step): Promise<void>;
  /** Leaves the files complete and durable; they stay open. */
  finish(): Promise<void>;
}
