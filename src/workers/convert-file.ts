import * as path from 'node:path';
import type { DeflateLevel } from '../codecs/deflate.ts';
import { Qcow2Error } from '../errors.ts';
import type { Image } from '../image/image.ts';
import type { NewImageOptions } from '../image/new-image.ts';
import { createKernel, type Kernel } from '../kernel/kernel.ts';
import { checkBacking, sameFile, withTargets } from '../node/create-file.ts';
import { existingTarget } from '../node/existing-target.ts';
import type { SpillOptions } from '../node/spill.ts';
import type { TargetFile } from '../node/target-file.ts';
import { type DiskRange, Source } from '../operations/chunks.ts';
import type { OperationControl } from '../operations/control.ts';
import { type ConvertOptions, convert } from '../operations/convert.ts';
import { convertBytes } from '../operations/convert-stream.ts';
import type { BitmapCopying } from '../operations/copy-bitmaps.ts';
import type { ByteStream } from '../storage/byte-stream.ts';
import { FileStorage } from '../storage/file.ts';
import { threadedExecutor } from './convert-threads.ts';
import { openSource } from './input-files.ts';
import type { InputFiles, TargetPath } from './messages.ts';
import { withEvents } from './progress-events.ts';
import { settleInputs } from './settle-inputs.ts';
import type { ThreadOptions } from './worker-pool.ts';

/** Guest bytes converted between two flushes in the background. */
const FLUSH_BYTES = 128 * 2 ** 20;

/** Converts image files to a new one. */
export interface ConvertFileOptions extends InputFiles, OperationControl, ThreadOptions {
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
  /** Write into the existing target. */
  noCreate?: boolean;
  /** With `noCreate`: zeros need not be written, since the target reads as zeros. */
  targetIsZero?: boolean;
  /**
   * Wait until the target is on the disk before it gets its name; default true. Without it a power cut
   * soon after may leave a new target with holes; one that replaces a file is waited for always.
   */
  durable?: boolean;
  /** Holds the buffers of the calling thread and serves nothing else meanwhile; default a new one. */
  kernel?: Kernel;
  /** Where inputs are kept that come as a stream and must be read in any order; default 64 MiB of memory. */
  spill?: Pick<SpillOptions, 'memoryBytes' | 'folder'> | undefined;
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
 * await convertFile({
 *   inputs: [{ path: 'overlay.qcow2' }],
 *   target: 'small.qcow2',
 *   targetFormat: 'qcow2',
 *   compress: true,
 *   onProgress: (done, total) => console.log(`${done} of ${total} bytes`),
 * });
 */
export async function convertFile(options: ConvertFileOptions): Promise<void> {
  const onePass = isOnePass(options);
  const { inputs, stream, close } = await settleInputs({ ...options, onePass });
  try {
    if (stream) await convertStreamFile(stream, options);
    else await convertFiles({ ...options, inputs });
  } finally {
    await stream?.close();
    close();
  }
}

/** Whether a raw disk that comes as a stream need not be kept. */
function isOnePass(options: ConvertFileOptions): boolean {
  const { inputs, create = {}, noCreate, range, snapshot, bitmaps } = options;
  const { backingFile, dataFile, preallocation, size } = create;
  const absent = [range, snapshot, bitmaps, backingFile, dataFile, preallocation, size];
  return inputs.length === 1 && !noCreate && absent.every((value) => value === undefined);
}

async function convertStreamFile(stream: ByteStream, options: ConvertFileOptions): Promise<void> {
  const { target, targetFormat: format, durable } = options;
  await withTargets(
    target,
    undefined,
    async ({ storage }) => {
      const control = controlOf(options, storage);
      await convertBytes(stream, storage, { ...options, format, ...control });
    },
    durable,
  );
}

async function convertFiles(options: ConvertFileOptions): Promise<void> {
  for (const { path: input } of options.inputs)
    if (sameFile(input, options.target)) throw isInput(options.target);
  const { kernel = createKernel() } = options;
  const images = await openSource(options, kernel, options.signal);
  try {
    if (options.noCreate && options.targetFormat === 'raw')
      return await overwriteRaw(images, options, kernel);
    const { create, copyBacking } = await targetOptions(options, sourceSize(images, options));
    requireNotInput(options, create.dataFile);
    await withTargets(
      options.target,
      create.dataFile,
      async (image, data) => {
        const paths = { target: pathOf(image), data: pathOf(data ?? image) };
        const settings: ConvertOptions = {
          ...options,
          format: options.targetFormat,
          create,
          copyBacking,
        };
        const executor = threadedExecutor(inputFiles(options), paths, options);
        const target = { storage: image.storage, dataStorage: data?.storage };
        const control = controlOf(options, (data ?? image).storage);
        await convert(images, target, { ...settings, ...control, executor, kernel });
      },
      options.durable,
    );
  } finally {
    for (const image of images) await image.close();
  }
}

/** What the target is to be like, and whether what the source's backing files hold is copied too. */
async function targetOptions(
  { target, noCreate, allowExternal, create = {} }: ConvertFileOptions,
  size: number,
): Promise<Required<Pick<ConvertOptions, 'create' | 'copyBacking'>>> {
  if (!noCreate) {
    await checkBacking({ ...create, path: target });
    return { create: { ...create }, copyBacking: false };
  }
  const existing = await existingTarget(target, size, allowExternal);
  // The target's backing file is the source's only if the caller says so.
  const [given, found] = [create.backingFile, existing.backingFile].map((name) =>
    name === undefined ? undefined : path.resolve(path.dirname(target), name),
  );
  const same = given !== undefined && found !== undefined && sameFile(given, found);
  return { create: existing, copyBacking: !same };
}

function pathOf({ path: name, partialPath }: TargetFile): TargetPath {
  return { name, path: partialPath };
}

/** `-n` on a raw file or device of at least the source's size: zeros are written unless told. */
async function overwriteRaw(
  images: readonly Image[],
  options: ConvertFileOptions,
  kernel: Kernel,
): Promise<void> {
  const storage = new FileStorage(options.target, { mode: 'r+', sync: true });
  try {
    await requireNotRead(images, storage);
    const size = sourceSize(images, options);
    if (storage.size < size) {
      const text = `target '${options.target}' of ${storage.size} bytes is smaller than the source of ${size} bytes`;
      throw new Qcow2Error('INVALID_ARGUMENT', text, { file: options.target });
    }
    const settings: ConvertOptions = {
      ...options,
      format: 'raw',
      overwrite: !options.targetIsZero,
    };
    delete settings.create;
    const place = { name: options.target, path: options.target };
    const paths = { target: place, data: place };
    const executor = threadedExecutor(inputFiles(options), paths, options);
    const control = controlOf(options, storage);
    await convert(images, storage, { ...settings, ...control, executor, kernel });
    if (options.durable !== false) await storage.flush();
  } finally {
    storage.close();
  }
}

function sourceSize(images: readonly Image[], { range }: ConvertFileOptions): number {
  return new Source(images, range).size;
}

/** Has the system write the target to the disk while the conversion goes on. */
function controlOf(
  { signal, onProgress, durable }: ConvertFileOptions,
  target: FileStorage,
): OperationControl {
  const report = withEvents(onProgress);
  let flushed = 0;
  return {
    signal,
    onProgress(done, total) {
      if (durable !== false && done - flushed >= FLUSH_BYTES) {
        flushed = done;
        target.beginFlush();
      }
      return report(done, total);
    },
  };
}

/** The part of the options other threads get; functions and signals do not cross. */
function inputFiles({ inputs, snapshot, allowExternal, share, http }: InputFiles): InputFiles {
  return { inputs, snapshot, allowExternal, share, http };
}

function requireNotInput(options: ConvertFileOptions, dataFile: string | undefined): void {
  if (dataFile === undefined) return;
  const found = path.resolve(path.dirname(options.target), dataFile);
  if (options.inputs.some((input) => sameFile(input.path, found))) throw isInput(found);
}

/** A target that is written in place must not be read from, at any depth. */
async function requireNotRead(images: readonly Image[], target: FileStorage): Promise<void> {
  for (const image of images)
    for (const { layer } of (await image.chain()).layers)
      for (const { identity } of [layer.storage, layer.dataStorage])
        if (identity === target.identity) throw isInput(target.name);
}

function isInput(file: string): Qcow2Error {
  return new Qcow2Error('INVALID_ARGUMENT', `'${file}' is both input and target`, { file });
}
