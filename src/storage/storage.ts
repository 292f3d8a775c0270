/** A value, or a promise of it: local files in a worker answer at once, a URL cannot. */
export type MaybePromise<T> = T | Promise<T>;

/** A part of a file as the system below sees it; `data: false` is a hole that reads as zeros. */
export interface Extent {
  /** First byte, from the start of the file. */
  offset: number;
  /** Length in bytes. */
  length: number;
  data: boolean;
}

/**
 * Where bytes live. Two members and `close` are enough to read; the optional ones add writing and
 * speed. All offsets and lengths are in bytes. Implement it over anything with positional access.
 */
export interface Storage {
  /** Length in bytes now. Writing past the end grows it. */
  readonly size: number;
  /** Shown in messages: a path, a URL, a name. */
  readonly name?: string;
  /**
   * Fills `into` from `offset` on and returns the number of bytes read. Short only at the end of
   * the file; 0 at or past it. Never an error for reading past the end.
   */
  read(offset: number, into: Uint8Array): MaybePromise<number>;
  /** Writes all of `from` at `offset`. The buffer may be reused once the call has settled. */
  write?(offset: number, from: Uint8Array): MaybePromise<void>;
  /** Sets the length; new bytes read as zeros. */
  truncate?(size: number): MaybePromise<void>;
  /** Everything written so far is durable when this settles. */
  flush?(): MaybePromise<void>;
  /** Makes a range read as zeros and gives its space back where possible. */
  punchHole?(offset: number, length: number): MaybePromise<void>;
  /** Reserves space for a range, so that later writes need none; what it holds stays. */
  allocate?(offset: number, length: number): MaybePromise<void>;
  /**
   * Makes `[to, to + length)` share what another storage has at `from`, without copying, and answers
   * whether it could: if not, nothing has changed and the caller copies.
   */
  copyRange?(source: Storage, from: number, length: number, to: number): MaybePromise<boolean>;
  /**
   * Data and holes of a range, in order, without gaps. May end before the range does, but not at its
   * first byte: the rest is asked for again. Absent: everything may be data.
   */
  extents?(offset: number, length: number): MaybePromise<Extent[]>;
  /**
   * Says that a range will be read soon: where reading takes long it begins now. Never fails; what is
   * amiss shows when the range is read.
   */
  prefetch?(offset: number, length: number): void;
  /** Says the same for two storages exactly when they are the same file (loops are found by it). */
  readonly identity?: string;
  /** Called at least once; a second call does nothing. */
  close(): MaybePromise<void>;
}
