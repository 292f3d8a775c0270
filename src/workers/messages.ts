import type { SnapshotQuery } from '../image/identify.ts';
import type { ChunkRecord } from '../image/target.ts';
import type { NamedFiles } from '../node/open-image.ts';
import type { ConvertStepOptions } from '../operations/convert.ts';

/** Inputs as every thread opens them for itself. */
export interface InputFiles {
  inputs: readonly (NamedFiles & { path: string })[];
  snapshot?: string | SnapshotQuery | undefined;
  allowExternal?: readonly string[] | 'any' | undefined;
  /** Read files that another program has open for writing. */
  share?: boolean | undefined;
}

/** A file being written: what people call it, and where it is until it is whole. */
export interface TargetPath {
  name: string;
  path: string;
}

/** What a converting thread is started with. */
export interface WorkerStart {
  files: InputFiles;
  target: TargetPath;
  data: TargetPath;
  step: ConvertStepOptions;
  /** On a SharedArrayBuffer. */
  allocatorState: Float64Array;
  /** On a SharedArrayBuffer: sequence number of the chunk whose turn to allocate it is. */
  turn: Int32Array;
}

/** To a thread: a chunk to convert, or (null) that there are no more. */
export type WorkerRequest = { sequence: number; start: number } | null;

/** From a thread. Errors are sent as data, since classes do not cross. */
export type WorkerReply =
  | { ready: true }
  | { start: number; record: ChunkRecord | null }
  | { error: { code: string; message: string; details: object; stack?: string | undefined } };
