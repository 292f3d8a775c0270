import * as fs from 'node:fs';
import * as path from 'node:path';
import { Qcow2Error } from '../errors.ts';
import type { NewImageOptions } from '../image/new-image.ts';
import type { OperationControl } from '../operations/control.ts';
import { createQcow2, createRaw } from '../operations/create.ts';
import { requireTargetFormat } from '../operations/target.ts';
import { openImage } from './open-image.ts';
import { TargetFile, type TargetFileOptions } from './target-file.ts';

/** A new image file. */
export interface CreateFileOptions
  extends Omit<NewImageOptions, 'size'>,
    Pick<OperationControl, 'signal'> {
  path: string;
  format: 'qcow2' | 'raw';
  /** Bytes. Absent: the size of the backing file. */
  size?: number | undefined;
  /** Do not open the backing file. */
  unsafe?: boolean;
}

/**
 * Creates an empty image; it appears under its name when it is whole. Returns its size in bytes.
 * @throws Qcow2Error INVALID_ARGUMENT, NOT_FOUND or others of the backing file, ABORTED, IO
 * @example
 * import { createFile } from 'qcow2';
 *
 * await createFile({ path: 'new.qcow2', format: 'qcow2', size: 20 * 1024 ** 3 });
 * await createFile({
 *   path: 'top.qcow2',
 *   format: 'qcow2',
 *   backingFile: 'new.qcow2',
 *   backingFormat: 'qcow2',
 * });
 */
export async function createFile(options: CreateFileOptions): Promise<{ size: number }> {
  requireTargetFormat(options.format);
  const backingSize = await checkBacking(options);
  const size = options.size ?? backingSize;
  if (size === undefined)
    throw new Qcow2Error('INVALID_ARGUMENT', 'an image size is needed without a backing file');
  await withTargets(options.path, options.dataFile, async (image, data) => {
    const { format, preallocation, signal } = options;
    if (format === 'raw') await createRaw(image.storage, size, preallocation, signal);
    else await createQcow2(image.storage, { ...options, size }, data?.storage, signal);
  });
  return { size: Math.ceil(size / 512) * 512 };
}

/**
 * Runs `write` on new files for an image and, if it has one, its external data file. Both appear when
 * it has succeeded and they are durable, the data file first; neither if it fails.
 * @param options see `TargetFile`
 */
export async function withTargets(
  file: string,
  dataFile: string | undefined,
  write: (image: TargetFile, data: TargetFile | undefined) => Promise<void>,
  options: TargetFileOptions = {},
): Promise<void> {
  const dataPath = dataFile && path.resolve(path.dirname(file), dataFile);
  if (dataPath !== undefined && (dataPath === path.resolve(file) || sameFile(dataPath, file)))
    throw new Qcow2Error('INVALID_ARGUMENT', `'${file}' cannot be its own data file`);
  const image = new TargetFile(file, options);
  let data: TargetFile | undefined;
  try {
    data = dataPath === undefined ? undefined : new TargetFile(dataPath, options);
    await write(image, data);
    await data?.seal();
    await image.seal();
    data?.publish();
    publishAbove(image, data);
  } catch (error) {
    data?.abandon();
    image.abandon();
    throw error;
  }
}

/** Without its image a new data file would be of no use. */
function publishAbove(image: TargetFile, data: TargetFile | undefined): void {
  try {
    image.publish();
  } catch (error) {
    data?.withdraw();
    throw error;
  }
}

/**
 * Opens the backing file of an image to be created, and its chain, as it would be found later.
 * @returns the size of its disk in bytes; undefined without a backing file or with `unsafe`
 */
export async function checkBacking(options: {
  path: string;
  backingFile?: string;
  backingFormat?: string;
  unsafe?: boolean;
}): Promise<number | undefined> {
  const { backingFile, backingFormat } = options;
  if (backingFile === undefined) {
    if (backingFormat === undefined) return undefined;
    throw new Qcow2Error('INVALID_ARGUMENT', 'a backing format was given without a backing file');
  }
  if (backingFormat !== undefined && backingFormat !== 'qcow2' && backingFormat !== 'raw') {
    const text = `backing format '${backingFormat}' is not supported; only qcow2 and raw are`;
    throw new Qcow2Error('UNSUPPORTED', text, { structure: 'backing file format' });
  }
  if (backingFormat === undefined) {
    const text = `the format of backing file '${backingFile}' is not given; name it with -F`;
    throw new Qcow2Error('INVALID_ARGUMENT', text, { structure: 'backing file format' });
  }
  if (options.unsafe) return undefined;
  const found = path.resolve(path.dirname(options.path), backingFile);
  if (sameFile(found, options.path))
    throw new Qcow2Error('INVALID_ARGUMENT', `'${options.path}' cannot be its own backing file`);
  const image = await openImage(found, { format: backingFormat, sync: true, holdLocks: false });
  try {
    return image.virtualSize;
  } finally {
    await image.close();
  }
}

/** Whether two names lead to one existing file. */
export function sameFile(a: string, b: string): boolean {
  const [first, second] = [a, b].map((name) =>
    fs.statSync(name, { bigint: true, throwIfNoEntry: false }),
  );
  if (!first || !second) return path.resolve(a) === path.resolve(b);
  return first.dev === second.dev && first.ino === second.ino;
}
