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

/**
 * Writes an empty qcow2 image into an empty storage (format section 16). With `dataFileRaw` all
 * tables are written, so that the data file alone tells the disk.
 * @param dataStorage the new external data file; gets the length of the disk
 * @throws Qcow2Error INVALID_ARGUMENT, TOO_LARGE, IO
 */
export async function createQcow2(
  storage: Storage,
  options: NewImageOptions,
  dataStorage?: Storage,
): Promise<void> {
  const ahead = isMappedAhead(options);
  const layout = layOutImage(options, ahead ? mostHostClusters(options) : 0);
  const file = new NewImageFile(storage, layout, createKernel(), false);
  await dataStorage?.truncate?.(layout.header.size);
  if (ahead) await preallocate(file, options, storage, dataStorage);
  await file.finish();
}

/** Maps a new image ahead and reserves its space, as its options say. */
export async function preallocate(
  file: NewImageFile,
  options: NewImageOptions,
  storage: Storage,
  dataStorage: Storage | undefined,
): Promise<void> {
  const { geometry, headClusters, header } = file.layout;
  const { preallocation } = options;
  const headEnd = headClusters * geometry.clusterSize;
  const end = mostHostClusters(options) * geometry.clusterSize;
  // Space first: the tables are written into it.
  if (dataStorage) await preallocateSpace(dataStorage, 0, header.size, preallocation);
  else await preallocateSpace(storage, headEnd, end, preallocation);
  await preallocateTables(file, storage, dataStorage !== undefined);
}

/** Makes a raw image of the size asked for, rounded up to whole sectors: a hole, or reserved. */
export async function createRaw(
  storage: Storage,
  size: number,
  preallocation?: Preallocation,
): Promise<void> {
  if (!Number.isSafeInteger(size) || size < 0)
    throw new Qcow2Error('INVALID_ARGUMENT', `image size ${size} is out of range`);
  const whole = Math.ceil(size / 512) * 512;
  await storage.truncate!(whole);
  await preallocateSpace(storage, 0, whole, preallocation);
}
