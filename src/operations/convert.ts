import type { DeflateLevel } from '../codecs/deflate.ts';
import { loadCodec } from '../codecs/load.ts';
import { Qcow2Error } from '../errors.ts';
import { AppendAllocator } from '../image/append-allocator.ts';
import { Image } from '../image/image.ts';
import {
  isMappedAhead,
  layOutImage,
  mostHostClusters,
  type NewImageLayout,
  type NewImageOptions,
} from '../image/new-image.ts';
import { NewImageFile } from '../image/new-image-file.ts';
import { type PackedChunk, Qcow2Writer, type Qcow2WriterOptions } from '../image/qcow2-writer.ts';
import { wholeSectors } from '../image/raw-layer.ts';
import { RawWriter } from '../image/raw-writer.ts';
import type { ChunkRecord, Turn } from '../image/target.ts';
import type { Region } from '../kernel/arena.ts';
import { createKernel, type Kernel } from '../kernel/kernel.ts';
import type { Storage } from '../storage/storage.ts';
import { type DiskRange, Source, type WantedChunks } from './chunks.ts';
import { type OperationControl, pacer, throwIfAborted } from './control.ts';
import {
  type BitmapCopying,
  type BitmapsToCopy,
  bitmapsToCopy,
  copyBitmaps,
} from './copy-bitmaps.ts';
import { createRaw, preallocate, requireDataStorage } from './create.ts';
import { DigestInOrder, type DiskDigest } from './disk-digest.ts';
import { fetchedAhead, isRemote } from './fetch-ahead.ts';
import {
  type ImageTarget,
  requireTargetFormat,
  targetStorages,
  type WritableStorage,
} from './target.ts';

/** Guest bytes a thread reads, classifies and writes at once; at least a cluster. */
export const CHUNK_BYTES = 2 * 1024 * 1024;
/** Guest bytes made a hole at once; between two of them a conversion can be stopped. */
const HOLE_BYTES = 256 * 1024 * 1024;

/** What to convert to. */
export interface ConvertOptions extends OperationControl {
  format: 'raw' | 'qcow2';
  /** Of the new qcow2 image; `size` is the source's when absent. */
  create?: Omit<NewImageOptions, 'size'> & { size?: number };
  /** Copy this part of the disk only; what lies behind the disk's end does not count. */
  range?: DiskRange | undefined;
  /** Copy the persistent dirty bitmaps of the source, too; absent: they are left behind. */
  bitmaps?: BitmapCopying | undefined;
  /** Compress every cluster that shrinks. */
  compress?: boolean;
  /** How hard deflate tries; zstd has one level. Default `default`. */
  compressionLevel?: DeflateLevel;
  /** Zero runs of at least so many bytes become holes (raw targets). 0: store all zeros. Default 4096. */
  sparseSize?: number;
  /** The target may hold other bytes: write zeros too, or make holes of them if it can (raw targets). */
  overwrite?: boolean;
  /**
   * Runs the chunks; default on the calling thread.
   * @internal
   */
  executor?: ChunkExecutor;
  /**
   * Takes the disk as it is read, and zeros up to the length of the new one.
   * @internal
   */
  digest?: DiskDigest | undefined;
  /**
   * Holds the buffers; default a new one. The one the images were opened with saves copies, but then
   * nothing else may use these images meanwhile: memory must not grow while a read is under way.
   */
  kernel?: Kernel;
}

/** Everything a thread needs to know to convert chunks; survives `structuredClone`. */
export interface ConvertStepOptions {
  chunkBytes: number;
  target:
    | {
        format: 'raw';
        size: number;
        minimumHole: number;
        /** The target may hold other bytes, and can make holes of them. */
        punches: boolean;
        /** The target can share what the source's files hold. */
        shares: boolean;
      }
    | {
        format: 'qcow2';
        writer: Qcow2WriterOptions;
        compressionType: number | null;
        compressionLevel: DeflateLevel;
        /** What the source leaves to its backing file is left to the target's. */
        leavesToBacking: boolean;
      };
}

/** Where chunks of a disk come from. */
export type ChunkSource = Pick<Source, 'images' | 'read' | 'prefetch'> &
  Partial<Pick<Source, 'share' | 'size'>>;

/** Looks at what was read of a chunk, up to the end of the disk, before it is written. */
export type ChunkLook = (bytes: Uint8Array) => Promise<void>;

/** What one thread converts with. */
export interface ConvertParts {
  source: ChunkSource;
  storage: Storage;
  dataStorage: Storage;
  kernel: Kernel;
  step: ConvertStepOptions;
  /** Shared by all threads. */
  allocatorState: Float64Array;
  /** Hands out clusters; default one over `allocatorState`. */
  allocator?: AppendAllocator;
}

/** Converts single chunks. Each thread has its own, over its own files and kernel. */
export class ConvertStep {
  readonly #source: ChunkSource;
  readonly #chunk: Region;
  readonly #raw: RawWriter | undefined;
  readonly #qcow2: Qcow2Writer | undefined;
  readonly #unit: number;
  readonly #leave: Uint8Array | undefined;
  /** The target, if it can share what the source's files hold. */
  readonly #sharing: Storage | undefined;

  private constructor(
    source: ChunkSource,
    chunk: Region,
    writer: RawWriter | Qcow2Writer,
    options: ConvertStepOptions,
    sharing?: Storage,
  ) {
    this.#source = source;
    this.#chunk = chunk;
    this.#sharing = sharing;
    this.#raw = writer instanceof RawWriter ? writer : undefined;
    this.#qcow2 = writer instanceof Qcow2Writer ? writer : undefined;
    const { target } = options;
    const overlay = target.format === 'qcow2' && target.leavesToBacking;
    this.#unit = overlay ? target.writer.geometry.clusterSize : 0;
    if (overlay) this.#leave = new Uint8Array(options.chunkBytes / this.#unit);
  }

  /** Opens the sources' chains and lays out all buffers: from here on no memory grows. */
  static async prepare(parts: ConvertParts): Promise<ConvertStep> {
    const { source, storage, dataStorage, kernel, step, allocatorState } = parts;
    for (const image of source.images) await image.chain();
    const { target, chunkBytes } = step;
    if (target.format === 'raw') {
      const { size, minimumHole, punches, shares } = target;
      const writer = new RawWriter(storage, size, kernel, chunkBytes, minimumHole, punches);
      const chunk = kernel.arena.allocate(chunkBytes);
      return new ConvertStep(source, chunk, writer, step, shares ? storage : undefined);
    }
    const { compressionType, compressionLevel: level } = target;
    const codec =
      compressionType === null
        ? undefined
        : await loadCodec(compressionType, kernel, { compress: true, level });
    const { allocator = new AppendAllocator(allocatorState, target.writer.geometry) } = parts;
    const writer = new Qcow2Writer(storage, dataStorage, target.writer, kernel, allocator, codec);
    return new ConvertStep(source, kernel.arena.allocate(chunkBytes), writer, step);
  }

  /** Begins to fetch what a chunk needs, where reading takes long. */
  prefetch(start: number): Promise<void> {
    return this.#source.prefetch(start, start + this.#chunk.length);
  }

  /** Reads, classifies and writes the chunk at guest offset `start`. */
  async run(start: number, turn: Turn, look?: ChunkLook): Promise<ChunkRecord | null> {
    const bytes = this.#chunk.bytes;
    const isShared =
      this.#sharing && (await this.#source.share?.(start, bytes.length, this.#sharing));
    if (isShared && !look) return null;
    await this.#source.read(start, bytes, this.#unit, this.#leave);
    const { size = Number.POSITIVE_INFINITY } = this.#source;
    await look?.(bytes.subarray(0, size - start));
    if (isShared) return null;
    if (this.#raw) return this.#raw.write(start, bytes);
    return this.#qcow2!.write(start, bytes, turn, this.#leave);
  }

  /** The first half of `run` for a qcow2 target, which writes nothing; see `Qcow2Writer.pack`. */
  async pack(start: number, withBytes: boolean): Promise<PackedChunk> {
    const bytes = this.#chunk.bytes;
    await this.#source.read(start, bytes, this.#unit, this.#leave);
    return this.#qcow2!.pack(start, bytes, this.#leave, withBytes);
  }

  /** The second half of `run`, which may be another thread's. */
  place(start: number, packed: PackedChunk, turn: Turn): Promise<ChunkRecord> {
    return this.#qcow2!.place(start, packed, this.#chunk.bytes, turn);
  }
}

/** Runs chunks to completion, in the order they come or on several threads. */
export interface ChunkExecutor {
  /** Other threads need the state of the allocator; pages may have no shared memory. */
  readonly sharesState: boolean;
  /** @param finished called once per chunk with its guest offset, in any order, one call at a time */
  run(
    conversion: Conversion,
    finished: (start: number, record: ChunkRecord | null) => Promise<void>,
  ): Promise<void>;
}

/** A conversion about to run: what an executor needs to set up its threads. */
export interface Conversion extends ConvertParts {
  source: Source;
  /** Is to be given every chunk that is read, in their order. */
  digest?: DigestInOrder | undefined;
  /** Guest offsets of the chunks, ascending; every call lists them anew. */
  chunks: () => AsyncIterable<number>;
}

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

interface PreparedTarget {
  step: ConvertStepOptions;
  which: WantedChunks;
  /** What is in no chunk becomes a hole. */
  punches?: boolean;
  file?: NewImageFile;
  bitmaps?: BitmapsToCopy | undefined;
}

async function prepareTarget(
  source: Source,
  storage: Storage,
  dataStorage: Storage | undefined,
  kernel: Kernel,
  options: ConvertOptions & { executor: ChunkExecutor },
): Promise<PreparedTarget> {
  const dense = options.sparseSize === 0;
  const size = options.create?.size ?? source.size;
  if (size < source.size) {
    const text = `target of ${size} bytes is smaller than the source of ${source.size} bytes`;
    throw new Qcow2Error('INVALID_ARGUMENT', text);
  }
  if (options.format === 'raw') {
    if (options.compress) throw new Qcow2Error('REFUSED', 'raw images cannot be compressed');
    if (options.bitmaps) throw noBitmaps('raw');
    return prepareRaw(source, storage, options);
  }
  const create = { ...options.create, size };
  requireDataStorage(create, dataStorage);
  if (options.compress && create.dataFile !== undefined)
    throw new Qcow2Error('REFUSED', 'an image with an external data file cannot be compressed');
  if (options.compress && isMappedAhead(create))
    throw new Qcow2Error('REFUSED', 'preallocated clusters cannot be compressed');
  const bitmaps = await bitmapsFor(source, options, create);
  const layout = layOut(create, bitmaps);
  const file = new NewImageFile(storage, layout, kernel, options.executor.sharesState);
  await dataStorage?.truncate?.(layout.header.size);
  const { geometry } = layout;
  const chunkBytes = Math.max(CHUNK_BYTES, geometry.clusterSize);
  const hasBacking = layout.backingFile !== '';
  const writer: Qcow2WriterOptions = {
    geometry,
    version: layout.header.version,
    size: layout.header.size,
    l1TableOffset: layout.header.l1TableOffset,
    dataFile: create.dataFile !== undefined,
    mappedAhead: isMappedAhead(create),
    hasBacking,
    dense,
    chunkBytes,
  };
  if (writer.mappedAhead) await preallocate(file, create, storage, dataStorage, options.signal);
  const compressionType = options.compress ? layout.header.compressionType : null;
  const { compressionLevel = 'default' } = options;
  const which = dense ? 'all' : hasBacking ? 'overlay' : 'data';
  return {
    step: {
      chunkBytes,
      target: {
        format: 'qcow2',
        writer,
        compressionType,
        compressionLevel,
        leavesToBacking: hasBacking,
      },
    },
    which,
    file,
    bitmaps,
  };
}

/** The bitmaps to copy, if that was asked for. */
async function bitmapsFor(
  source: Source,
  { bitmaps }: ConvertOptions,
  create: NewImageOptions,
): Promise<BitmapsToCopy | undefined> {
  if (bitmaps === undefined) return undefined;
  if (create.compat === '0.10') throw noBitmaps('qcow2');
  const { geometry, header } = layOutImage(create, 0);
  return bitmapsToCopy(source.images, header.size, geometry, bitmaps);
}

/** Room for the bitmaps: their tables and directory lie in the head. */
function layOut(create: NewImageOptions, bitmaps: BitmapsToCopy | undefined): NewImageLayout {
  if (bitmaps === undefined) return layOutImage(create, mostHostClusters(create));
  const { tableClusters, directoryClusters, dataClusters } = bitmaps;
  const head = tableClusters.reduce((sum, clusters) => sum + clusters, directoryClusters);
  return layOutImage(create, mostHostClusters(create, head + dataClusters), head);
}

function noBitmaps(format: string): Qcow2Error {
  const text = `Format driver '${format}' does not support bitmaps`;
  return new Qcow2Error('UNSUPPORTED', format === 'raw' ? text : `${text} with compat=0.10`);
}

async function prepareRaw(
  source: Source,
  storage: Storage,
  options: ConvertOptions,
): Promise<PreparedTarget> {
  const { overwrite = false } = options;
  const punches = overwrite && options.sparseSize !== 0 && storage.punchHole !== undefined;
  const dense = options.sparseSize === 0 || (overwrite && !punches);
  const size = options.create?.size ?? source.size;
  const { create, signal } = options;
  if (size > storage.size) await createRaw(storage, size, create?.preallocation, signal);
  const minimumHole = dense ? 0 : (options.sparseSize ?? 4096);
  // What is to have space of its own shares none.
  const mayShare = !dense && !overwrite && (create?.preallocation ?? 'off') === 'off';
  const shares = mayShare && (await canShare(source, storage));
  const step: ConvertStepOptions = {
    chunkBytes: CHUNK_BYTES,
    target: { format: 'raw', size: source.size, minimumHole, punches, shares },
  };
  return { step, which: dense ? 'all' : 'data', punches };
}

/** Whether the target can share what the source's files hold: tried with the first data there is. */
async function canShare(source: Source, storage: Storage): Promise<boolean> {
  if (storage.copyRange === undefined) return false;
  for await (const start of source.chunks(CHUNK_BYTES, 'data'))
    return source.share(start, CHUNK_BYTES, storage);
  return false;
}
