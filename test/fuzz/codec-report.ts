import * as fs from 'node:fs';
import * as path from 'node:path';
import type { StreamMutant } from './stream-mutate.ts';

export type CodecName = 'deflate' | 'zstd';
export const CODECS: readonly CodecName[] = ['deflate', 'zstd'];

/** A stream that broke a rule of a decoder. */
export interface CodecFailure extends StreamMutant {
  readonly codec: CodecName;
  readonly seed: number;
  readonly run: number;
  readonly error: unknown;
}

/** How long to fuzz and from where. */
export interface CodecFuzzOptions {
  readonly seed: number;
  readonly firstRun: number;
  readonly runs: number;
  readonly onProgress?: (run: number) => void;
}

/** Bytes that did not come back. */
export interface EncoderFailure {
  readonly codec: CodecName;
  readonly seed: number;
  readonly run: number;
  readonly plain: Uint8Array;
  readonly error: unknown;
}

/** Writes what a codec failed on into a folder; returns the text to print. */
export function reportCodec(failure: CodecFailure | EncoderFailure, folder: string): string {
  const { codec, seed, run, error } = failure;
  const isDecoder = 'stream' in failure;
  const bytes = isDecoder ? failure.stream : failure.plain;
  const what = isDecoder ? `${codec} stream for ${failure.length} bytes` : `input of ${codec}`;
  fs.mkdirSync(folder, { recursive: true });
  const file = path.join(folder, `seed-${seed}-run-${run}.${isDecoder ? codec : `${codec}-input`}`);
  fs.writeFileSync(file, bytes);
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return `${what}, seed ${seed}, run ${run}: saved as ${file}\n${text}`;
}
