import { Qcow2Error } from '../errors.ts';
import {
  isMappedAhead,
  layOutImage,
  mostHostClusters,
  type NewImageOptions,
  type Preallocation,
} from '../image/new-image.ts';
import { NewImageFile } from '../image/new-image-file.ts';
import { preallocateSpace, preallocateTables } from '../image/preallocation.ts';
import { createKernel } from '../kernel/kernel.ts';
import type { Storage } from '../storage/storage.ts';
import { type OperationControl, pacer } from './control.ts';
import {
  type ImageTarget,
  requireTargetFormat,
  targetStorages,
  type WritableStorage,
} from './target.ts';

/** What a new image is to be like. Options beside `size` and `preallocation` are qcow2's alone. */
export interface CreateOptions extends NewImageOptions, Pick<OperationControl, 'signal'> {
  format: 'raw' | 'qcow2';
}

/**
 * Writes an empty image, which reads as zeros or as its backing file, into an empty storage. The
 * storage stays open; the caller makes it durable, and discards it after an error.
 * @throws Qcow2Error INVALID_ARGUMENT, TOO_LARGE, ABORTED, and those of the storage
 * @example
 * import { create, MemoryStorage } from 'qcow2';
 *
 * const target = new MemoryStorage();
 * await create(target, { format: 'qcow2', size: 10 * 1024 ** 3, clusterSize: 131072 });
 * console.log(target.bytes.length);
 */
export async function create(
  target: WritableStorage | ImageTarget,
  options: CreateOptions,
): Promise<void> {
  const { storage, dataStorage } = targetStorages(target);
  const { format, size, preallocation, signal } = options;
  requireTargetFormat(format);
  if (format === 'qcow2') return createQcow2(storage, options, dataStorage, signal);
  return createRaw(storage, size, preallocation, signal);
}

/**
 * Writes an empty qcow2 image into an empty storage (format section 16). With `dataFileRaw` all
 * tables are written, so that the data file alone tells the disk.
 * @param dataStorage the new external data file; gets the length of the disk
 * @throws Qcow2Error INVALID_ARGUMENT, TOO_LARGE, ABORTED, IO
 */
export async function createQcow2(
  storage: Storage,
  options: NewImageOptions,
  dataStorage?: Storage,
  signal?: AbortSignal,
): Promise<void> {
  requireDataStorage(options, dataStorage);
  const ahead = isMappedAhead(options);
  const layout = layOutImage(options, ahead ? mostHostClusters(options) : 0);
  const file = new NewImageFile(storage, layout, createKernel(), false);
  await dataStorage?.truncate?.(layout.header.size);
  if (ahead) await preallocate(file, options, storage, dataStorage, signal);
  await file.finish();
}

/**
 * Guest data must not end up in the image of a disk that is to be in a data file, nor the reverse.
 * @throws Qcow2Error INVALID_ARGUMENT
 */
export function requireDataStorage(
  { dataFile }: Pick<NewImageOptions, 'dataFile'>,
  dataStorage: Storage | undefined,
): void {
  if ((dataFile === undefined) === (dataStorage === undefined)) return;
  const text =
    dataFile === undefined
      ? 'a storage for an external data file was given, but not its name (dataFile)'
      : `data file '${dataFile}' is named, but no storage for it was given`;
  throw new Qcow2Error('INVALID_ARGUMENT', text);
}

/** Maps a new image ahead and reserves its space, as its options say. */
export async function preallocate(
  file: NewImageFile,
  options: NewImageOptions,
  storage: Storage,
  dataStorage: Storage | undefined,
  signal: AbortSignal | undefined,
): Promise<void> {
  const step = pacer(signal, 'preallocating');
  const { geometry, headClusters, header } = file.layout;
  const { preallocation } = options;
  const headEnd = headClusters * geometry.clusterSize;
  const end = mostHostClusters(options) * geometry.clusterSize;
  // Space first: the tables are written into it.
  if (dataStorage) await preallocateSpace(dataStorage, 0, header.size, preallocation, step);
  else await preallocateSpace(storage, headEnd, end, preallocation, step);
  await preallocateTables(file, dataStorage !== undefined, step);
}

/** Makes a raw image of the size asked for, rounded up to whole sectors: a hole, or reserved. */
export async function createRaw(
  storage: Storage,
  size: number,
  preallocation?: Preallocation,
  signal?: AbortSignal,
): Promise<void> {
  if (!Number.isSafeInteger(size) || size < 0)
    throw new Qcow2Error('INVALID_ARGUMENT', `image size ${size} is out of range`);
  if (preallocation === 'metadata') {
    const text = 'Unsupported preallocation mode: metadata; a raw image has off, falloc or full';
    throw new Qcow2Error('INVALID_ARGUMENT', text);
  }
  const whole = Math.ceil(size / 512) * 512;
  await storage.truncate!(whole);
  await preallocateSpace(storage, 0, whole, preallocation, pacer(signal, 'preallocating'));
}
