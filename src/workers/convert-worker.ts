import { workerData } from 'node:worker_threads';
import { createKernel } from '../kernel/kernel.ts';
import { Source } from '../operations/chunks.ts';
import { ConvertStep } from '../operations/convert-step.ts';
import { isRemote } from '../operations/fetch-ahead.ts';
import { FileStorage } from '../storage/file.ts';
import { DigestRing } from './digest-ring.ts';
import { openSource } from './input-files.ts';
import type { ConvertedChunk, ConvertStart, TargetPath } from './messages.ts';
import { WorkShare } from './work-share.ts';
import { serve } from './worker-loop.ts';

/** One thread of a conversion: its own descriptors, kernel and buffers. */
const start = workerData as ConvertStart;
const share = new WorkShare(start.share);

function openTarget({ name, path }: TargetPath): FileStorage {
  // What is locked is locked by the thread that began the conversion.
  return new FileStorage(name, { mode: 'r+', sync: true, realPath: path, share: true });
}

/** Hands what was read to the thread that takes the digest. */
async function ringFor({ algorithm, ring: state }: NonNullable<ConvertStart['digest']>) {
  // Loaded when it is asked for: node:crypto takes a thread 3 ms.
  const { diskDigest } = await import('../node/disk-digest.ts');
  const digest = diskDigest(algorithm);
  const ring = new DigestRing(share, state);
  return (sequence: number, at: number, bytes: Uint8Array): Promise<void> =>
    ring.put(sequence, at, digest.part(bytes), bytes.length);
}

void serve<number, ConvertedChunk>(share, async (signal) => {
  const kernel = createKernel();
  const source = new Source(await openSource(start.files, kernel, signal), start.range);
  const target = openTarget(start.target);
  const converter = await ConvertStep.prepare({
    source,
    storage: target,
    dataStorage: start.data.path === start.target.path ? target : openTarget(start.data),
    kernel,
    step: start.step,
    allocatorState: start.allocatorState,
  });
  const toDigest = start.digest && (await ringFor(start.digest));
  return {
    async run(at, sequence) {
      const look = toDigest && ((bytes: Uint8Array) => toDigest(sequence, at, bytes));
      return { start: at, record: await converter.run(at, share.turnOf(sequence), look) };
    },
    prefetch: (await isRemote(source.images)) ? (at) => converter.prefetch(at) : undefined,
  };
});
