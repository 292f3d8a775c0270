import { Worker } from 'node:worker_threads';
import {
  type ChunkExecutor,
  type Conversion,
  ConvertStep,
  inlineExecutor,
} from '../operations/convert.ts';
import { isCompressed, isRemote } from '../operations/fetch-ahead.ts';
import { FileStorage } from '../storage/file.ts';
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

/** Short-lived objects of a thread are small: the default lets 48 MiB of them gather. */
const THREAD_LIMITS = { maxYoungGenerationSizeMb: 4 };

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
  { threads: wanted, blocking = false }: ThreadOptions,
): ChunkExecutor {
  const threads = wanted ?? defaultThreads();
  return {
    sharesState: !isOne(threads),
    async run(conversion, finished) {
      if (isOne(threads) || (await isSmall(conversion)))
        return inlineExecutor.run(conversion, finished);
      const { images } = conversion.source;
      const isFarAway = await isRemote(images);
      // One thread that never blocks receives as fast as several, for half the processor time.
      if (isFarAway && !compresses(conversion) && !(await isCompressed(images)))
        return runBeside(conversion, paths, finished);
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
        start: () => new Worker(url, { workerData, resourceLimits: THREAD_LIMITS }),
        async ended(_sequence, outcome) {
          if ('error' in outcome) throw outcome.error;
          await finished(outcome.value.start, outcome.value.record);
          return false;
        },
      };
      // A thread that decodes receives nothing meanwhile: one more than there are cores fills the gaps.
      const most = isFarAway && wanted === undefined ? defaultThreads() + 1 : threads;
      return new WorkerPool(share, work, most).run();
    },
  };
}

function compresses({ step: { target } }: Conversion): boolean {
  return target.format === 'qcow2' && target.compressionType !== null;
}

/** Runs on the calling thread, which receives data while what came before is being written. */
async function runBeside(
  conversion: Conversion,
  { target, data }: TargetPaths,
  finished: Parameters<ChunkExecutor['run']>[1],
): Promise<void> {
  const opened: FileStorage[] = [];
  const open = ({ name, path }: TargetPath): FileStorage => {
    const file = new FileStorage(name, { mode: 'r+', realPath: path, share: true });
    opened.push(file);
    return file;
  };
  try {
    const storage = open(target);
    const dataStorage = data.path === target.path ? storage : open(data);
    await inlineExecutor.run({ ...conversion, storage, dataStorage }, finished);
  } finally {
    for (const file of opened) file.close();
  }
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
