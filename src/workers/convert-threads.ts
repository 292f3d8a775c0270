import { Worker } from 'node:worker_threads';
import {
  type ChunkExecutor,
  type Conversion,
  ConvertStep,
  inlineExecutor,
} from '../operations/convert.ts';
import { isRemote } from '../operations/fetch-ahead.ts';
import type { ConvertedChunk, ConvertStart, InputFiles, TargetPath } from './messages.ts';
import { WorkShare } from './work-share.ts';
import {
  defaultThreads,
  isOne,
  type PoolWork,
  type ThreadOptions,
  WorkerPool,
} from './worker-pool.ts';

/** Up to so many chunks the calling thread is done sooner than others would have started. */
const INLINE_CHUNKS = 8;

/** Where the target is, for threads that open it themselves. */
export interface TargetPaths {
  target: TargetPath;
  /** The external data file, or the target itself. */
  data: TargetPath;
}

/** Converts on several threads; small conversions run on the calling one. */
export function threadedExecutor(
  files: InputFiles,
  paths: TargetPaths,
  { threads = defaultThreads(), blocking = false }: ThreadOptions,
): ChunkExecutor {
  return {
    sharesState: !isOne(threads),
    async run(conversion, finished) {
      if (isOne(threads) || (await isSmall(conversion)))
        return inlineExecutor.run(conversion, finished);
      const isFarAway = await isRemote(conversion.source.images);
      const share = new WorkShare();
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
      const work: PoolWork<number, ConvertedChunk> = {
        steps: conversion.chunks(),
        // Waiting for data it would not do what only it can: report and list.
        own: blocking && !isFarAway ? await ownStep(conversion, share) : undefined,
        start: () => new Worker(url, { workerData }),
        async ended(_sequence, outcome) {
          if ('error' in outcome) throw outcome.error;
          await finished(outcome.value.start, outcome.value.record);
          return false;
        },
      };
      return new WorkerPool(share, work, threads).run();
    },
  };
}

async function isSmall({ chunks }: Conversion): Promise<boolean> {
  let count = 0;
  for await (const _ of chunks()) if (++count > INLINE_CHUNKS) return false;
  return true;
}

/** What the calling thread does with a chunk. */
async function ownStep(
  conversion: Conversion,
  share: WorkShare,
): Promise<(start: number, sequence: number) => Promise<ConvertedChunk>> {
  const converter = await ConvertStep.prepare(conversion);
  return async (start, sequence) => {
    return { start, record: await converter.run(start, share.turnOf(sequence)) };
  };
}
