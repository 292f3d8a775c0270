import type { Storage } from '../storage/storage.ts';
import type { Piece } from './stream-parts.ts';

/** A structure that is written when what lies before it has been. */
interface Scheduled {
  offset: number;
  bytes: Piece;
}

/** A file that is written front to back, and taken away as it grows; or one that only measures. */
export class FrontToBack implements Storage {
  #size = 0;
  #keeps = false;
  #pieces: Piece[] = [];
  #scheduled: Scheduled[] = [];

  /** Where the next byte goes. */
  get size(): number {
    return this.#size;
  }

  /** Starts anew. @param keeps whether what is written is kept for `take` */
  begin(offset: number, keeps: boolean): void {
    this.#size = offset;
    this.#keeps = keeps;
    this.#pieces = [];
    this.#scheduled = [];
  }

  /** Nothing can be read: it is gone. */
  read(): number {
    return 0;
  }

  /** Writes a copy of `from`, and zeros before it where something was left out. */
  write(offset: number, from: Uint8Array): void {
    while (this.#scheduled[0] !== undefined && this.#scheduled[0].offset < offset) {
      const { offset: before, bytes } = this.#scheduled.shift()!;
      this.#append(before, bytes);
    }
    this.#append(offset, this.#keeps ? from.slice() : from);
  }

  /** Has a copy of `bytes` written when writing goes on behind `offset`; in ascending order. */
  schedule(offset: number, bytes: Uint8Array): void {
    this.#scheduled.push({ offset, bytes: bytes.slice() });
  }

  /** What has come since it was asked last. */
  take(): Piece[] {
    const pieces = this.#pieces;
    this.#pieces = [];
    return pieces;
  }

  close(): void {}

  #append(offset: number, bytes: Uint8Array): void {
    const gap = offset - this.#size;
    if (gap < 0) throw new RangeError(`write at ${offset} behind ${this.#size} of a stream`);
    if (this.#keeps && gap > 0) this.#pieces.push(new Uint8Array(gap));
    if (this.#keeps) this.#pieces.push(bytes as Piece);
    this.#size = offset + bytes.length;
  }
}
