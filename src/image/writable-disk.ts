/** A disk that is being changed; its owner serialises the calls. Offsets and lengths are in bytes. */
export interface WritableDisk {
  write(offset: number, bytes: Uint8Array): Promise<void>;
  /** @param unmap gives up the space of what becomes zeros, instead of keeping it reserved */
  writeZeroes(offset: number, length: number, unmap: boolean): Promise<void>;
  discard(offset: number, length: number): Promise<void>;
  /** Everything written so far is durable when this settles. */
  flush(): Promise<void>;
  /** Leaves the files complete and durable; they stay open. */
  finish(): Promise<void>;
}
