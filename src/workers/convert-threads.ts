import { Worker } from 'node:worker_threads';
import {
  type ChunkExecutor,
  type Conversion,
  ConvertStep,
  inlineExecutor,
} from '../operations/convert.ts';
import type { ConvertedChunk, ConvertStart, InputFiles, TargetPath } from './messages.ts';
import { WorkShare } from './work-share.ts';
import { defaultThreads, MAX_THREADS, type PoolWork, WorkerPool } from './worker-pool.ts';

/** Up to so many chunks the calling thread is done sooner than others would have started. */
const INLINE_CHUNKS = 8;

/** Where the target is, for threads that open it themselves. */
export interface TargetPaths {
  target: TargetPath;
  /** The external data file, or the target itself. */
  data: TargetPath;
}

/** Who does the work. */
export interface ThreadOptions {
  /** Threads at work, at most 16; 1 stays on the calling thread. Default one per core. */
  threads?: number | undefined;
  /**
   * The calling thread is one of them: right where nothing else runs on it, since it does not come to
   * its events for up to a tenth of a second. Default false.
   */
  blocking?: boolean | undefined;
}

/** Converts on several threads; small conversions run on the calling one. */
export function threadedExecutor(
  files: InputFiles,
  paths: TargetPaths,
  { threads = defaultThreads(), blocking = false }: ThreadOptions,
): ChunkExecutor {
  return {
    sharesState: threads !== 1,
    async run(conversion, finished) {
      if (threads <= 1 || (await isSmall(conversion)))
        return inlineExecutor.run(conversion, finished);
      const share = new WorkShare(true);
      const own = blocking ? await ownStep(conversion, share) : undefined;
      const work: PoolWork<number, ConvertedChunk> = {
        steps: conversion.chunks,
        own,
        async ended(_sequence, outcome) {
          if ('error' in outcome) throw outcome.error;
          await finished(outcome.value.start, outcome.value.record);
          return false;
        },
      };
      const { source, step, allocatorState } = conversion;
      const workerData: ConvertStart = {
        // This thread has made sure that nobody writes the inputs.
        files: { ...files, share: true },
        ...paths,
        range: source.range,
        step,
        allocatorState,
        share: share.state,
      };
      const url = new URL('./convert-worker.js', import.meta.url);
      const pool = new WorkerPool(share, work, () =>
        Array.from({ length: workersOf(threads, blocking) }, () => new Worker(url, { workerData })),
      );
      return pool.run();
    },
  };
}

/** How many threads are started for so many at work. */
export function workersOf(threads: number, blocking: boolean): number {
  return Math.min(threads, MAX_THREADS) - (blocking ? 1 : 0);
}

async function isSmall({ chunks }: Conversion): Promise<boolean> {
  let count = 0;
  for await (const _ of chunks()) if (++count > INLINE_CHUNKS) return false;
  return true;
}

/** What the calling thread does with a chunk. */
async function ownStep(
  { source, storage, dataStorage, kernel, step, allocatorState }: Conversion,
  share: WorkShare,
): Promise<(start: number, sequence: number) => Promise<ConvertedChunk>> {
  const converter = await ConvertStep.prepare(
    source,
    storage,
    dataStorage,
    kernel,
    step,
    allocatorState,
  );
  return async (start, sequence) => {
    return { start, record: await converter.run(start, share.turnOf(sequence)) };
  };
}
