import { Qcow2Error } from '../errors.ts';
import { SECTOR_SIZE } from '../format/limits.ts';
import type { NewImageOptions } from '../image/new-image.ts';
import { OpenEndedImageFile } from '../image/open-ended-image.ts';
import { wholeSectors } from '../image/raw-layer.ts';
import type { ChunkRecord } from '../image/target.ts';
import { createKernel } from '../kernel/kernel.ts';
import { type ByteSource, ByteStream } from '../storage/byte-stream.ts';
import { pacer, throwIfAborted } from './control.ts';
import type { ConvertOptions } from './convert-options.ts';
import {
  CHUNK_BYTES,
  type ChunkSource,
  ConvertStep,
  type ConvertStepOptions,
} from './convert-step.ts';
import { DigestInOrder } from './disk-digest.ts';
import { targetStorages, type WritableStorage } from './target.ts';

/** So long a chunk may be in coming before what has come of it is told. */
const TELL_MILLISECONDS = 100;

/** What to make of a raw disk that comes as a stream. */
export interface ConvertStreamOptions
  extends Pick<
    ConvertOptions,
    'format' | 'compress' | 'compressionLevel' | 'sparseSize' | 'signal' | 'kernel'
  > {
  /** Of the new qcow2 image, which has no backing file, no data file and nothing allocated ahead. */
  create?: StreamedImageOptions;
  /** Shown in messages. */
  name?: string;
  /**
   * Called with the bytes read so far. Until they have all come `total` is Infinity, or of a source that
   * knows how much of it was used, an estimate.
   */
  onProgress?: ConvertOptions['onProgress'];
  /**
   * Runs the chunks; default on the calling thread.
   * @internal
   */
  executor?: StreamExecutor;
  /**
   * Takes the disk as it comes.
   * @internal
   */
  digest?: ConvertOptions['digest'];
}

/** Options of an image whose length is not known when it is begun. */
export type StreamedImageOptions = Omit<
  NewImageOptions,
  'size' | 'backingFile' | 'backingFormat' | 'dataFile' | 'dataFileRaw' | 'preallocation'
>;

/** The chunks of a disk as they come. */
export interface StreamConversion {
  stream: ByteStream;
  storage: WritableStorage;
  step: ConvertStepOptions;
  allocatorState: Float64Array;
  kernel: NonNullable<ConvertOptions['kernel']>;
  /** Takes the bytes as they come. */
  digest?: DigestInOrder | undefined;
  /** Called with the bytes that have come so far; makes sure that they are not too many. */
  came: (bytes: number) => Promise<void>;
}

/** Runs the chunks of a stream to its end. */
export interface StreamExecutor {
  /** Other threads need the state of the allocator. */
  readonly sharesState: boolean;
  /**
   * @param finished called once per chunk, in any order, one call at a time
   * @returns bytes of the stream
   */
  run(
    conversion: StreamConversion,
    finished: (record: ChunkRecord | null) => Promise<void>,
  ): Promise<number>;
}

/** Everything on the calling thread. */
export const inlineStreamExecutor: StreamExecutor = {
  sharesState: false,
  async run(conversion, finished) {
    const { stream, storage } = conversion;
    let length = 0;
    // Straight into the memory the kernel works on.
    const source = new StreamChunks(async (start, into) => {
      length = await nextChunk(conversion, start, into);
    });
    const converter = await ConvertStep.prepare({ ...conversion, source, dataStorage: storage });
    let start = 0;
    for (; !(await stream.isAtEnd()); start += length)
      await finished(await converter.run(start, (allocate) => allocate()));
    return start;
  },
};

/** Chunks of a disk that is no image: they come once. */
export class StreamChunks implements ChunkSource {
  readonly images = [];
  readonly read: ChunkSource['read'];

  /** @param read fills `into` with the chunk that begins at `start` */
  constructor(read: (start: number, into: Uint8Array) => Promise<void>) {
    this.read = read;
  }

  async prefetch(): Promise<void> {}
}

/**
 * Fills `chunk` with the bytes that come next and zeros behind the last of them. Returns how many
 * came: at the end fewer than the chunk has, and the step is told the length of the disk.
 */
export async function nextChunk(
  { stream, step, digest, came }: StreamConversion,
  start: number,
  chunk: Uint8Array,
): Promise<number> {
  let length = 0;
  while (length < chunk.length) {
    const some = await stream.readSome(chunk.subarray(length));
    length += some;
    await came(start + length);
    if (some === 0) break;
  }
  await digest?.read(start, chunk.subarray(0, length));
  if (length === chunk.length) return length;
  chunk.fill(0, length);
  tellSize(step, start + length);
  return length;
}

/** Tells a step where the disk ends, before it does the last chunk. */
export function tellSize({ target }: ConvertStepOptions, bytes: number): void {
  if (target.format === 'qcow2') target.writer.size = wholeSectors(bytes);
}

/**
 * Writes a raw disk that comes as a stream to a new image, in one pass and in bounded memory; the
 * disk is as long as the stream, in whole sectors. The target stays open; the caller makes it durable,
 * and discards it after an error. The stream is read to its end, or given up.
 * @returns the size of the disk in bytes
 * @throws Qcow2Error INVALID_ARGUMENT, REFUSED: no byte came; TOO_LARGE, ABORTED, IO
 * @example
 * import { convertStream, MemoryStorage } from 'qcow2';
 * import { createReadStream } from 'node:fs';
 *
 * // A stream of Node, or the body of a Response.
 * const disk = createReadStream('disk.raw');
 * const target = new MemoryStorage();
 * const size = await convertStream(disk, target, { format: 'qcow2', compress: true });
 * console.log(`${size} bytes in ${target.size}`);
 */
export async function convertStream(
  source: ByteSource,
  target: WritableStorage,
  options: ConvertStreamOptions,
): Promise<number> {
  const { name = 'the stream', signal } = options;
  return convertBytes(new ByteStream(source, name, signal), target, options);
}

/** `convertStream` over a stream that was looked into; closes it. */
export async function convertBytes(
  stream: ByteStream,
  target: WritableStorage,
  options: ConvertStreamOptions,
): Promise<number> {
  const { signal, onProgress, executor = inlineStreamExecutor } = options;
  try {
    const { storage } = targetStorages(target);
    if (options.compress && options.format === 'raw')
      throw new Qcow2Error('REFUSED', 'raw images cannot be compressed');
    const { kernel = createKernel() } = options;
    const file =
      options.format === 'qcow2'
        ? new OpenEndedImageFile(storage, options.create ?? {}, kernel, executor.sharesState)
        : undefined;
    const digest =
      options.digest && new DigestInOrder(options.digest, pacer(signal, 'the conversion'));
    const mostBytes = file?.maxSize ?? Number.MAX_SAFE_INTEGER - SECTOR_SIZE;
    let told = { bytes: 0, at: performance.now() };
    const conversion: StreamConversion = {
      stream,
      storage,
      step: stepOptions(options, file),
      allocatorState: file?.allocatorState ?? new Float64Array(0),
      kernel,
      digest,
      async came(bytes) {
        throwIfAborted(signal, 'the conversion');
        if (bytes > mostBytes) throw tooLong(stream.name, mostBytes);
        if (bytes - told.bytes < CHUNK_BYTES && performance.now() - told.at < TELL_MILLISECONDS)
          return;
        told = { bytes, at: performance.now() };
        await onProgress?.(bytes, likelyTotal(stream, bytes));
      },
    };
    const bytes = await executor.run(conversion, async (record) => {
      throwIfAborted(signal, 'the conversion');
      if (record) await file?.record(record);
    });
    if (bytes === 0) throw nothingCame(stream.name);
    const size = wholeSectors(bytes);
    if (file) await file.finish(size);
    else await storage.truncate(size);
    await digest?.skipTo(size);
    await onProgress?.(bytes, bytes);
    return size;
  } finally {
    await stream.close();
  }
}

/** What a disk will have come to, judged by how much of its source has been used for so many bytes. */
function likelyTotal({ fraction }: ByteStream, bytes: number): number {
  const used = fraction?.() ?? 0;
  return used > 0 ? Math.max(bytes, Math.round(bytes / used)) : Number.POSITIVE_INFINITY;
}

function stepOptions(
  { sparseSize = 4096, compress, compressionLevel = 'default' }: ConvertStreamOptions,
  file: OpenEndedImageFile | undefined,
): ConvertStepOptions {
  if (file === undefined) {
    const size = Number.POSITIVE_INFINITY;
    const target = {
      format: 'raw',
      size,
      minimumHole: sparseSize,
      punches: false,
      shares: false,
    } as const;
    return { chunkBytes: CHUNK_BYTES, target };
  }
  const { geometry, header } = file.layout;
  const chunkBytes = Math.max(CHUNK_BYTES, geometry.clusterSize);
  const writer = {
    geometry,
    version: header.version,
    size: Number.POSITIVE_INFINITY,
    l1TableOffset: header.l1TableOffset,
    dataFile: false,
    mappedAhead: false,
    hasBacking: false,
    dense: sparseSize === 0,
    chunkBytes,
  };
  const compressionType = compress ? header.compressionType : null;
  const target = { writer, compressionType, compressionLevel, leavesToBacking: false };
  return { chunkBytes, target: { format: 'qcow2', ...target } };
}

function tooLong(name: string, most: number): Qcow2Error {
  const text = `${name} has more than ${most} bytes, the most that clusters of this size can map; choose larger clusters`;
  return new Qcow2Error('TOO_LARGE', text, { structure: 'L1 table', value: most });
}

/** An empty stream is taken for the failure of what should have written to it. */
export function nothingCame(name: string): Qcow2Error {
  const text = `${name} ended without a byte; see whether what writes to it has failed`;
  return new Qcow2Error('REFUSED', text, { file: name });
}
