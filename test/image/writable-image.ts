import { Image } from '../../src/image/image.ts';
import type { NewImageOptions } from '../../src/image/new-image.ts';
import type { OpenOptions } from '../../src/image/open-options.ts';
import type { WritableQcow2 } from '../../src/image/writable-qcow2.ts';
import { check } from '../../src/operations/check.ts';
import { create } from '../../src/operations/create.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';

/** A new qcow2 image in memory. */
export async function newImage(options: NewImageOptions): Promise<MemoryStorage> {
  const storage = new MemoryStorage(new Uint8Array(0), 'new.qcow2');
  await create(storage, { format: 'qcow2', ...options });
  return storage;
}

/** Opens an image for writing, with few pages of tables. */
export function openWritable(storage: MemoryStorage, options: OpenOptions = {}): Promise<Image> {
  return Image.open(storage, { writable: true, cacheBytes: 0, ...options });
}

/** Runs work on a writable image, and closes it. */
export async function withDisk<T>(
  storage: MemoryStorage,
  work: (disk: WritableQcow2) => Promise<T>,
): Promise<T> {
  const image = await openWritable(storage);
  try {
    return await image.withWritable(work);
  } finally {
    await image.close();
  }
}

/** What check finds, of every class. */
export async function findingsOf(storage: MemoryStorage): Promise<string[]> {
  const { findings } = await check(storage);
  return findings.map(({ class: kind, message }) => `${kind}: ${message}`);
}
