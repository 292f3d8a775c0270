import { Qcow2Error } from '../errors.ts';
import { PROBE_BYTES, probeFormat } from '../format/probe.ts';
import { layOutImage, mostHostClusters, type NewImageOptions } from '../image/new-image.ts';
import { NewImageFile } from '../image/new-image-file.ts';
import { adoptTables } from '../image/preallocation.ts';
import { createKernel } from '../kernel/kernel.ts';
import type { Storage } from '../storage/storage.ts';
import { type OperationControl, pacer } from './control.ts';
import { targetStorages, type WritableStorage } from './target.ts';

/** What the image around an existing disk is to be like. */
export interface AdoptOptions
  extends Pick<
      NewImageOptions,
      'clusterSize' | 'compat' | 'extendedL2' | 'lazyRefcounts' | 'refcountBits'
    >,
    Pick<OperationControl, 'signal'> {
  /** Name recorded for the disk, relative to the image's folder or absolute. */
  dataFile: string;
  /** Take the disk as it is, although its first bytes say that it is an image of a format. */
  force?: boolean;
}

/**
 * Makes a qcow2 image around a raw disk, which stays where it is and is not written to: its raw external
 * data file (format section 11). Every cluster is mapped to its own place; what the disk's storage
 * tells to be holes reads as zeros without being looked at. From then on the disk must be written
 * through the image only.
 * @param target an empty storage, which stays open
 * @param disk only read: its size and its holes
 * @returns the size of the virtual disk in bytes: the disk's, rounded up to whole sectors
 * @throws Qcow2Error INVALID_ARGUMENT, REFUSED (the disk is an image of a format), TOO_LARGE, ABORTED, IO
 * @example
 * import { adopt, Image, MemoryStorage } from 'qcow2';
 *
 * const disk = new MemoryStorage(new Uint8Array(1024 ** 2));
 * const target = new MemoryStorage();
 * await adopt(target, disk, { dataFile: 'disk.raw' });
 * const image = await Image.open(target, { dataFile: disk });
 * console.log(image.virtualSize); // 1048576
 */
export async function adopt(
  target: WritableStorage,
  disk: Storage,
  options: AdoptOptions,
): Promise<number> {
  const { storage } = targetStorages(target);
  const { signal, force, dataFile, ...shape } = options;
  if (!force) await requireRaw(disk);
  const create: NewImageOptions = { ...shape, size: disk.size, dataFile, dataFileRaw: true };
  const layout = layOutImage(create, mostHostClusters(create));
  const file = new NewImageFile(storage, layout, createKernel(), false);
  await adoptTables(file, disk, pacer(signal, 'the adoption'));
  await file.finish();
  return layout.header.size;
}

async function requireRaw(disk: Storage): Promise<void> {
  const bytes = new Uint8Array(PROBE_BYTES);
  const format = probeFormat(bytes.subarray(0, await disk.read(0, bytes)));
  if (format === 'raw') return;
  const text = `'${disk.name}' is a ${format} image, not a raw disk; to adopt its bytes as they are, say that it is raw`;
  throw new Qcow2Error('REFUSED', text, { value: format });
}
