import type { ChecksumAlgorithm } from '../node/disk-digest.ts';
import { inlineExecutor } from '../operations/convert.ts';
import type { ChunkExecutor, Conversion } from '../operations/convert-options.ts';
import { ConvertStep } from '../operations/convert-step.ts';
import { isCompressed, isRemote } from '../operations/fetch-ahead.ts';
import { FileStorage } from '../storage/file.ts';
import { DigestRing, DigestTaker } from './digest-ring.ts';
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
      const digest = sharedDigest(conversion, share);
      const { source, step, allocatorState } = conversion;
      const data: ConvertStart = {
        // This thread has made sure that nobody writes the inputs.
        files: { ...files, share: true },
        ...paths,
        range: source.range,
        step,
        allocatorState,
        share: share.state,
        digest: digest?.start,
      };
      const url = new URL('./convert-worker.js', import.meta.url);
      const work: PoolWork<number, ConvertedChunk> = {
        steps: conversion.chunks(),
        // Waiting for data it would not do what only it can: report and list.
        own: blocking && !isFarAway ? await ownStep(conversion, share, digest?.taker) : undefined,
        thread: { url, data },
        async ended(_sequence, outcome) {
          if ('error' in outcome) throw outcome.error;
          await digest?.taker.take();
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

/** How threads work on the digest: the calling one takes it, others hand over what they have read. */
function sharedDigest({ digest, step }: Conversion, share: WorkShare) {
  if (!digest) return undefined;
  const ring = DigestRing.create(share, step.chunkBytes);
  // Those who convert files make the digests of such names.
  const algorithm = digest.digest.algorithm as ChecksumAlgorithm;
  return { taker: new DigestTaker(ring, digest), start: { algorithm, ring: ring.state } };
}

/** What the calling thread does with a chunk. */
async function ownStep(
  conversion: Conversion,
  share: WorkShare,
  taker: DigestTaker | undefined,
): Promise<(start: number, sequence: number) => Promise<ConvertedChunk>> {
  const converter = await ConvertStep.prepare(conversion);
  return async (start, sequence) => {
    const look = taker && ((bytes: Uint8Array) => taker.read(sequence, start, bytes));
    return { start, record: await converter.run(start, share.turnOf(sequence), look) };
  };
}
