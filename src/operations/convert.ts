import { Image } from '../image/image.ts';
import { wholeSectors } from '../image/raw-layer.ts';
import type { ChunkRecord } from '../image/target.ts';
import { createKernel } from '../kernel/kernel.ts';
import type { Storage } from '../storage/storage.ts';
import { Source } from './chunks.ts';
import { pacer, throwIfAborted } from './control.ts';
import type { ChunkExecutor, Conversion, ConvertOptions } from './convert-options.ts';
import { ConvertStep } from './convert-step.ts';
import { prepareTarget } from './convert-target.ts';
import { copyBitmaps } from './copy-bitmaps.ts';
import { DigestInOrder } from './disk-digest.ts';
import { fetchedAhead, isRemote } from './fetch-ahead.ts';
import {
  type ImageTarget,
  requireTargetFormat,
  targetStorages,
  type WritableStorage,
} from './target.ts';

/** Guest bytes made a hole at once; between two of them a conversion can be stopped. */
const HOLE_BYTES = 256 * 1024 * 1024;

/** Everything on the calling thread. */
export const inlineExecutor: ChunkExecutor = {
  sharesState: false,
  async run(conversion, finished) {
    const converter = await ConvertStep.prepare(conversion);
    const { digest } = conversion;
    const chunks = (await isRemote(conversion.source.images))
      ? fetchedAhead(conversion.chunks(), (start) => converter.prefetch(start))
      : conversion.chunks();
    for await (const start of chunks) {
      const look = digest && ((bytes: Uint8Array) => digest.read(start, bytes));
      await finished(start, await converter.run(start, (allocate) => allocate(), look));
    }
  },
};

/**
 * Writes the disk of an image, or of several one after the other, to a target, on the calling thread.
 * The images and the target stay open; the caller makes the target durable, and discards it after an
 * error. In Node `convertFile` does all that, on several threads; the bytes are the same.
 * @param images what to read, in the order of the new disk
 * @throws Qcow2Error INVALID_ARGUMENT, REFUSED, TOO_LARGE, ABORTED, and whatever reading throws
 * @example
 * import { openAsBlob } from 'node:fs';
 * import { convert, Image, MemoryStorage } from 'qcow2';
 *
 * const image = await Image.open(await openAsBlob('disk.qcow2'));
 * const target = new MemoryStorage();
 * await convert(image, target, {
 *   format: 'qcow2',
 *   create: { clusterSize: 131072, extendedL2: true },
 *   onProgress: (done, total) => console.log(`${Math.floor((100 * done) / total)} %`),
 *   signal: AbortSignal.timeout(60_000),
 * });
 * await image.close();
 * console.log(new Blob([target.bytes.slice()]).size);
 */
export async function convert(
  images: Image | readonly Image[],
  target: WritableStorage | ImageTarget,
  options: ConvertOptions,
): Promise<void> {
  const { signal, onProgress, executor = inlineExecutor, kernel = createKernel() } = options;
  requireTargetFormat(options.format);
  const { storage, dataStorage } = targetStorages(target);
  const requireGoingOn = (): void => throwIfAborted(signal, 'the conversion');
  requireGoingOn();
  const source = new Source(images instanceof Image ? [images] : images, options.range);
  const prepared = await prepareTarget(source, storage, dataStorage, kernel, {
    ...options,
    executor,
  });
  const size = wholeSectors(options.create?.size ?? source.size);
  // What lies behind the source's end is no work for any but a digest.
  const total = options.digest ? size : source.size;
  const { chunkBytes } = prepared.step;
  const punchTo = prepared.punches ? holes(storage, requireGoingOn) : undefined;
  async function* chunks(): AsyncGenerator<number> {
    let listed = 0;
    for await (const start of source.chunks(chunkBytes, prepared.which)) {
      requireGoingOn();
      await punchTo?.(listed, start);
      yield start;
      listed = start + chunkBytes;
    }
    await punchTo?.(listed, source.size);
  }
  let done = 0;
  const report = (): void | Promise<void> =>
    onProgress?.(Math.min(options.digest?.position ?? done, total), total);
  const pause = pacer(signal, 'the conversion');
  const digest =
    options.digest &&
    new DigestInOrder(options.digest, async () => {
      await pause();
      await report();
    });
  const finished = async (start: number, record: ChunkRecord | null): Promise<void> => {
    requireGoingOn();
    if (record) await prepared.file?.record(record);
    // Chunks before it hold nothing, are done, or will be in a moment.
    done = Math.max(done, start + chunkBytes);
    await report();
  };
  const allocatorState = prepared.file?.allocatorState ?? new Float64Array(0);
  const conversion: Conversion = {
    source,
    digest,
    chunks,
    storage,
    dataStorage: dataStorage ?? storage,
    kernel,
    step: prepared.step,
    allocatorState,
  };
  await executor.run(conversion, finished);
  await digest?.skipTo(size);
  requireGoingOn();
  const pointer =
    prepared.file &&
    prepared.bitmaps &&
    (await copyBitmaps(prepared.bitmaps, prepared.file, storage, pacer(signal, 'the conversion')));
  await prepared.file?.finish(pointer);
  await onProgress?.(total, total);
}

/** Makes holes of what lies between the chunks, in pieces: a file system without holes writes zeros. */
function holes(storage: Storage, requireGoingOn: () => void) {
  return async (start: number, end: number): Promise<void> => {
    for (let at = start; at < end; at += HOLE_BYTES) {
      requireGoingOn();
      await storage.punchHole!(at, Math.min(HOLE_BYTES, end - at));
    }
  };
}
