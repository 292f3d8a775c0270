import type { Qcow2ErrorCode, Qcow2ErrorDetails } from '../errors.ts';
import type { KernelBackend } from '../kernel/kernel.ts';
import type { ReadableOptions } from '../operations/stream.ts';
import type { SyncFileHandle } from '../storage/opfs.ts';
import type { FileHandle } from '../storage/source.ts';

/** What a worker can be sent to read an image from; text is a URL. */
export type SentSource = Blob | FileHandle | string;

/** What a worker is started with. */
export interface WorkerStart {
  source: SentSource;
  sourceFormat: 'qcow2' | 'raw' | undefined;
  /** Backing and data files, by the names the images have for them. */
  files: Readonly<Record<string, SentSource>>;
  snapshot: string | undefined;
  options: Omit<ReadableOptions, 'kernel' | 'onProgress' | 'signal' | 'newPiece'>;
  /** Absent: pieces are sent back. */
  target: SyncFileHandle | undefined;
  backend: KernelBackend | undefined;
  module: WebAssembly.Module | undefined;
}

/** What a worker is told later: a piece was taken, and its memory may be used again. */
export interface PieceTaken {
  memory: ArrayBuffer | undefined;
}

/** Pieces under way to the page at a time: one is written while the next is made. */
export const PIECES_UNDER_WAY = 2;

/** What a worker says, in the order of these kinds; progress at any time. */
export type WorkerMessage =
  | { kind: 'progress'; done: number; total: number }
  | { kind: 'length'; length: number }
  | { kind: 'piece'; piece: Uint8Array<ArrayBuffer> }
  | { kind: 'done'; sha256: string; backend: KernelBackend; memoryBytes: number }
  | { kind: 'failed'; error: SentError };

/** An error on its way between threads; those of a class of one's own lose it there. */
export interface SentError {
  code: Qcow2ErrorCode | undefined;
  message: string;
  details: Qcow2ErrorDetails;
}
