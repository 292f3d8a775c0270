import * as fs from 'node:fs';
import * as path from 'node:path';
import type { DeflateLevel } from '../codecs/deflate.ts';
import { Qcow2Error } from '../errors.ts';
import type { Image } from '../image/image.ts';
import type { NewImageOptions } from '../image/new-image.ts';
import { createKernel, type Kernel } from '../kernel/kernel.ts';
import { checkBacking, sameFile, withTargets } from '../node/create-file.ts';
import type { ChecksumAlgorithm, EndingDigest } from '../node/disk-digest.ts';
import { dataFile, flushingAhead } from '../node/flush-ahead.ts';
import { type NamedFiles, openChain } from '../node/open-image.ts';
import type { SpillOptions } from '../node/spill.ts';
import type { TargetFile } from '../node/target-file.ts';
import { addBitmaps, bitmapsToAdd } from '../operations/add-bitmaps.ts';
import { type DiskRange, Source } from '../operations/chunks.ts';
import { type OperationControl, pacer } from '../operations/control.ts';
import { convert } from '../operations/convert.ts';
import type { ConvertOptions } from '../operations/convert-options.ts';
import { convertBytes } from '../operations/convert-stream.ts';
import type { BitmapCopying } from '../operations/copy-bitmaps.ts';
import { overwrite } from '../operations/overwrite.ts';
import { requireTargetFormat } from '../operations/target.ts';
import type { ByteStream } from '../storage/byte-stream.ts';
import { FileStorage } from '../storage/file.ts';
import { type TargetPaths, threadedExecutor } from './convert-threads.ts';
import { openSource } from './input-files.ts';
import type { InputFiles, TargetPath } from './messages.ts';
import { withEvents } from './progress-events.ts';
import { settleInputs } from './settle-inputs.ts';
import { threadedStreamExecutor } from './stream-threads.ts';
import type { ThreadOptions } from './worker-pool.ts';

/** Converts image files to a new one. */
export interface ConvertFileOptions
  extends InputFiles,
    Pick<OperationControl, 'signal'>,
    ThreadOptions {
  target: string;
  targetFormat: 'raw' | 'qcow2';
  create?: Omit<NewImageOptions, 'size'> & { size?: number };
  /** Copy this part of the disk only; what lies behind the disk's end does not count. */
  range?: DiskRange | undefined;
  /** Copy the persistent dirty bitmaps of the source, too; absent: they are left behind. */
  bitmaps?: BitmapCopying | undefined;
  compress?: boolean;
  /** How hard deflate tries; zstd has one level. Default `default`. */
  compressionLevel?: DeflateLevel;
  /** Bytes; see `ConvertOptions.sparseSize`. */
  sparseSize?: number;
  /**
   * Take the digest of the disk as it is read, before it is written; see `checksum`. Zeros are added up to
   * the length of a new target that is longer.
   */
  checksum?: ChecksumAlgorithm | undefined;
  /** Write into the existing target, in place: an error, or a cut, leaves some ranges new and others old. */
  noCreate?: boolean;
  /** With `noCreate`: zeros need not be written, since the target reads as zeros. */
  targetIsZero?: boolean;
  /**
   * Wait until the target is on the disk before it gets its name; default true. Without it a power cut
   * soon after may leave a new target with holes; one that replaces a file is waited for always.
   */
  durable?: boolean;
  /**
   * Called with the whole target before it gets its name. What it throws leaves nothing of it, and what
   * had the name before.
   */
  beforePublish?: ((written: WrittenTarget) => Promise<void>) | undefined;
  /** Letters and digits in the names of files being written, by which leftovers are told apart. */
  partialTag?: string | undefined;
  /**
   * Guest bytes done, of all, and the bytes the target occupies by now. Of a stream: the bytes that have
   * come, of an estimate or, where nobody knows, of Infinity. The conversion waits for what it returns, and
   * fails with what it throws.
   */
  onProgress?: ((done: number, total: number, written: number) => void | Promise<void>) | undefined;
  /** Holds the buffers of the calling thread and serves nothing else meanwhile; default a new one. */
  kernel?: Kernel;
  /** Where inputs are kept that come as a stream and must be read in any order; default 64 MiB of memory. */
  spill?: Pick<SpillOptions, 'memoryBytes' | 'folder'> | undefined;
}

/** A target as it is found before it has its name. */
export interface WrittenTarget extends NamedFiles {
  path: string;
  format: 'raw' | 'qcow2';
  /** With `checksum`: the digest of what was read, in hexadecimal. */
  digest?: string | undefined;
}

/** What a conversion tells. */
export interface ConvertFileResult {
  /** With `checksum`: the digest of the disk, in hexadecimal. */
  digest?: string | undefined;
}

/** A conversion under way. */
interface FileConversion extends ConvertFileOptions {
  digest: EndingDigest | undefined;
}

/**
 * Converts one image, or several one after the other, into a new file that appears under its name
 * when it is whole and, if not said otherwise, durable. Memory depends on the threads, not on the images.
 *
 * An input may be a stream: `-` is standard input, and files in names of gzip, zstd and xz (`.gz`, `.zst`,
 * `.xz`) are unpacked as they are read. A raw disk is read in one pass; other inputs are kept, see `spill`.
 * @throws Qcow2Error of opening and reading the inputs and writing the target; ABORTED
 * @example
 * import { convertFile } from 'qcow2';
 *
 * const { digest } = await convertFile({
 *   inputs: [{ path: 'overlay.qcow2' }],
 *   target: 'small.qcow2',
 *   targetFormat: 'qcow2',
 *   compress: true,
 *   checksum: 'sha256',
 *   onProgress: (done, total) => console.log(`${done} of ${total} bytes`),
 * });
 * console.log(`its disk has the SHA-256 ${digest}`);
 */
export async function convertFile(options: ConvertFileOptions): Promise<ConvertFileResult> {
  const { checksum, targetFormat } = options;
  requireTargetFormat(targetFormat);
  const digest = checksum && (await loadDigests()).diskDigest(checksum);
  const onePass = isOnePass(options);
  const { onProgress } = options;
  const onKept = onProgress && ((done: number) => onProgress(done, Number.POSITIVE_INFINITY, 0));
  const { inputs, stream, close } = await settleInputs({ ...options, onePass, onKept });
  try {
    if (stream) await convertStreamFile(stream, { ...options, digest });
    else await convertFiles({ ...options, inputs, digest });
    return digest ? { digest: digest.end() } : {};
  } finally {
    await stream?.close();
    close();
  }
}

/** Loaded when they are asked for: node:crypto takes a thread 3 ms. */
function loadDigests(): Promise<typeof import('../node/disk-digest.ts')> {
  return import('../node/disk-digest.ts');
}

/** The target is whole. */
async function beforePublish(
  { digest, beforePublish: tell }: FileConversion,
  written: WrittenTarget,
): Promise<void> {
  await tell?.(digest ? { ...written, digest: digest.end() } : written);
}

/** Whether a raw disk that comes as a stream need not be kept. */
function isOnePass(options: ConvertFileOptions): boolean {
  const { inputs, create = {}, noCreate, range, snapshot, bitmaps } = options;
  const { backingFile, dataFile, preallocation, size } = create;
  const absent = [range, snapshot, bitmaps, backingFile, dataFile, preallocation, size];
  return inputs.length === 1 && !noCreate && absent.every((value) => value === undefined);
}

async function convertStreamFile(stream: ByteStream, options: FileConversion): Promise<void> {
  const { target, targetFormat: format } = options;
  await withTargets(
    target,
    undefined,
    async (file) => {
      const { onProgress: _, ...rest } = options;
      const control = controlOf(options, file.storage);
      const executor = threadedStreamExecutor(pathOf(file), options);
      await convertBytes(stream, file.storage, { ...rest, format, ...control, executor });
      await beforePublish(options, { path: file.partialPath, format });
    },
    options,
  );
}

async function convertFiles(options: FileConversion): Promise<void> {
  const { kernel = createKernel() } = options;
  // One thread overwrites an image: it writes while the system reads. Others share the work.
  const isShared = !options.noCreate || options.targetFormat === 'raw';
  const images = await openSource(options, kernel, options.signal, isShared);
  try {
    await requireNotRead(images, options.target);
    if (options.noCreate)
      return options.targetFormat === 'raw'
        ? await overwriteRaw(images, options, kernel)
        : await overwriteQcow2(images, options, kernel);
    const { create = {} } = options;
    await checkBacking({ ...create, path: options.target });
    if (create.dataFile !== undefined)
      await requireNotRead(images, path.resolve(path.dirname(options.target), create.dataFile));
    await withTargets(
      options.target,
      create.dataFile,
      async (image, data) => {
        const paths = { target: pathOf(image), data: pathOf(data ?? image) };
        const { onProgress: _, ...rest } = options;
        const settings: ConvertOptions = {
          ...rest,
          format: options.targetFormat,
          create,
        };
        const executor = threadedExecutor(inputFiles(options), paths, options);
        const target = { storage: image.storage, dataStorage: data?.storage };
        const control = controlOf(options, (data ?? image).storage);
        await convert(images, target, { ...settings, ...control, executor, kernel });
        await beforePublish(options, writtenTarget(options.targetFormat, paths, data));
      },
      options,
    );
  } finally {
    for (const image of images) await image.close();
  }
}

function writtenTarget(
  format: 'raw' | 'qcow2',
  { target, data }: TargetPaths,
  dataFile: TargetFile | undefined,
): WrittenTarget {
  return { path: target.path, format, ...(dataFile && { dataFile: data.path }) };
}

function pathOf({ path: name, partialPath }: TargetFile): TargetPath {
  return { name, path: partialPath };
}

/** `-n` on a raw file or device of at least the source's size: zeros are written unless told. */
async function overwriteRaw(
  images: readonly Image[],
  options: FileConversion,
  kernel: Kernel,
): Promise<void> {
  const storage = new FileStorage(options.target, { mode: 'r+', sync: true });
  try {
    const size = sourceSize(images, options);
    if (storage.size < size) {
      const text = `target '${options.target}' of ${storage.size} bytes is smaller than the source of ${size} bytes`;
      throw new Qcow2Error('INVALID_ARGUMENT', text, { file: options.target });
    }
    const { onProgress: _, ...rest } = options;
    const settings: ConvertOptions = {
      ...rest,
      format: 'raw',
      overwrite: !options.targetIsZero,
    };
    delete settings.create;
    const place = { name: options.target, path: options.target };
    const paths = { target: place, data: place };
    const executor = threadedExecutor(inputFiles(options), paths, options);
    const control = controlOf(options, storage);
    await convert(images, storage, { ...settings, ...control, executor, kernel });
    await beforePublish(options, { path: options.target, format: 'raw' });
    if (options.durable !== false) await storage.flush();
  } finally {
    storage.close();
  }
}

/** `-n` on a qcow2 image: its disk is overwritten in place. */
async function overwriteQcow2(
  images: readonly Image[],
  options: FileConversion,
  kernel: Kernel,
): Promise<void> {
  const { target: file, allowExternal, create = {}, range, signal } = options;
  const target = await openChain(file, {
    format: 'qcow2',
    allowExternal,
    sync: true,
    writable: true,
  });
  try {
    const dataStorage = await dataFile(target);
    await requireOther(images, dataStorage.identity, dataStorage.name ?? file);
    const source = new Source(images, range);
    const { onProgress: _, ...rest } = options;
    const settings = {
      ...rest,
      kernel,
      leavesToBacking: hasBacking(target, create.backingFile),
    };
    const control = controlOf(options, dataStorage);
    const bitmaps = options.bitmaps && (await bitmapsToAdd(images, target, options.bitmaps));
    await overwrite(source, target, { ...settings, ...control });
    if (bitmaps) await addBitmaps(target, bitmaps, pacer(signal, 'the conversion'));
  } catch (error) {
    // What cannot be closed after an error fails for the same reason.
    await target.close().catch(() => undefined);
    throw error;
  }
  await target.close();
  await beforePublish(options, { path: file, format: 'qcow2' });
}

/** Whether the backing file of the target is the one the caller says the source has too. */
function hasBacking({ storage, metadata }: Image, given: string | undefined): boolean {
  const found = metadata?.backingFile?.text;
  if (given === undefined || found === undefined) return false;
  const folder = path.dirname(storage.name ?? '');
  return sameFile(path.resolve(folder, given), path.resolve(folder, found));
}

function sourceSize(images: readonly Image[], { range }: ConvertFileOptions): number {
  return new Source(images, range).size;
}

/** Has the system write the target to the disk while the conversion goes on, if it is waited for. */
function controlOf(
  { signal, onProgress, durable }: ConvertFileOptions,
  target: FileStorage,
): OperationControl {
  const report = withEvents(
    onProgress && ((done, total) => onProgress(done, total, target.allocatedSize)),
  );
  return { signal, onProgress: durable === false ? report : flushingAhead(target, report) };
}

/** The part of the options other threads get; functions and signals do not cross. */
function inputFiles({ inputs, snapshot, allowExternal, share, http }: InputFiles): InputFiles {
  return { inputs, snapshot, allowExternal, share, http };
}

/** No target may be read from, at any depth: it would be locked, or gone for who reads it later. */
async function requireNotRead(images: readonly Image[], file: string): Promise<void> {
  const stat = fs.statSync(file, { bigint: true, throwIfNoEntry: false });
  if (stat !== undefined) await requireOther(images, `${stat.dev}:${stat.ino}`, file);
}

async function requireOther(
  images: readonly Image[],
  identity: string | undefined,
  file: string,
): Promise<void> {
  for (const image of images)
    for (const { layer } of (await image.chain()).layers)
      for (const { identity: read } of [layer.storage, layer.dataStorage])
        if (read !== undefined && read === identity)
          throw new Qcow2Error('INVALID_ARGUMENT', `'${file}' is both input and target`, { file });
}
