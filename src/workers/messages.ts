import type { SnapshotQuery } from '../image/identify.ts';
import type { ChunkRecord } from '../image/target.ts';
import type { ChecksumAlgorithm } from '../node/disk-digest.ts';
import type { InputCopy, NamedFiles } from '../node/open-image.ts';
import type { DiskRange } from '../operations/chunks.ts';
import type { ConvertStepOptions } from '../operations/convert-step.ts';
import type { HttpOptions } from '../storage/http.ts';
import type { DigestRingState } from './digest-ring.ts';

/** An image, and where it is read if its name does not lead there any more. */
export interface InputFile extends NamedFiles {
  path: string;
  /** Instead of the one for all inputs; null is the active disk. */
  snapshot?: string | SnapshotQuery | null | undefined;
  /** @internal */
  copy?: InputCopy | undefined;
}

/** Inputs as every thread opens them for itself. */
export interface InputFiles {
  inputs: readonly InputFile[];
  snapshot?: string | SnapshotQuery | undefined;
  allowExternal?: readonly string[] | 'any' | undefined;
  /** How http and https URLs are read. */
  http?: Omit<HttpOptions, 'signal' | 'transport'> | undefined;
  /** Read files that another program has open for writing. */
  share?: boolean | undefined;
}

/** A file being written: what people call it, and where it is until it is whole. */
export interface TargetPath {
  name: string;
  path: string;
}

/** What a converting thread is started with. */
export interface ConvertStart {
  files: InputFiles;
  target: TargetPath;
  data: TargetPath;
  /** Of the disk, to be converted. */
  range: DiskRange;
  step: ConvertStepOptions;
  /** On a SharedArrayBuffer. */
  allocatorState: Float64Array;
  /** Of the `WorkShare`. */
  share: Int32Array<SharedArrayBuffer>;
  /** The digest of the disk that is taken meanwhile, and the ring for what it needs. */
  digest: { algorithm: ChecksumAlgorithm; ring: DigestRingState } | undefined;
}

/** A converted chunk. */
export interface ConvertedChunk {
  /** Guest offset in bytes. */
  start: number;
  record: ChunkRecord | null;
}

/** What a thread is started with that converts a stream. */
export interface StreamStart {
  target: TargetPath;
  step: ConvertStepOptions;
  /** On a SharedArrayBuffer. */
  allocatorState: Float64Array;
  /** Chunks as they have come, in memory all threads share. */
  slots: Uint8Array;
  /** Of the `WorkShare`. */
  share: Int32Array<SharedArrayBuffer>;
}

/** What a thread is started with that compresses for a stream that goes out. */
export interface PackStart {
  files: InputFiles;
  step: ConvertStepOptions;
  /** What is compressed is wanted, not only its length. */
  withBytes: boolean;
  /** Of the `WorkShare`. */
  share: Int32Array<SharedArrayBuffer>;
}

/** A chunk of a stream. */
export interface StreamedChunk {
  /** Guest offset in bytes. */
  start: number;
  /** Bytes that came; those behind them are zeros. */
  length: number;
  /** Which of the slots it is in. */
  slot: number;
}

/** What a comparing thread is started with. */
export interface CompareStart {
  files: InputFiles;
  share: Int32Array<SharedArrayBuffer>;
}

/** A compared job; offsets are guest offsets in bytes. */
export interface ComparedJob {
  /** Of the first difference, or -1. */
  offset: number;
  end: number;
}
