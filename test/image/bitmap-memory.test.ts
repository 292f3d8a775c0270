import { expect, it } from 'vitest';
import { BitmapReader } from '../../src/image/bitmap-reader.ts';
import { Image } from '../../src/image/image.ts';
import { addBitmap, clearBitmap, disableBitmap, mergeBitmap } from '../../src/operations/bitmap.ts';
import { PagedStorage } from '../crash/paged-storage.ts';
import { newImage } from './writable-image.ts';

const GIB = 2 ** 30;

it('what large bitmaps record is stored before it takes much memory, and all of it', async () => {
  const small = await newImage({ size: 256 * GIB });
  const file = new PagedStorage('image', small.bytes);
  const image = await Image.open(file, { writable: true });
  for (const name of ['fine', 'other', 'merged'])
    await addBitmap(image, name, { granularity: 512, enabled: name !== 'merged' });
  const before = process.memoryUsage().arrayBuffers;
  // 64 MiB of bits in each that is enabled, all of them set.
  await image.writeZeroes(0, 256 * GIB);
  const held = process.memoryUsage().arrayBuffers - before - (file.size - small.size);
  expect(held).toBeLessThan(64 * 2 ** 20);
  await disableBitmap(image, 'fine');
  await mergeBitmap(image, 'merged', 'fine');
  await clearBitmap(image, 'fine');
  await image.close();
  const again = await Image.open(file);
  const cluster = new Uint8Array(65536);
  for (const entry of await again.bitmaps()) {
    const isClear = entry.name.text === 'fine';
    const wanted = new Uint8Array(65536).fill(isClear ? 0 : 0xff);
    const reader = await BitmapReader.open(file, entry, again.metadata!.geometry);
    expect(reader.dataClusters).toBe(isClear ? 0 : 1024);
    for (let index = 0; index < reader.entries; index++) {
      await reader.read(index * 65536, cluster);
      if (Buffer.compare(cluster, wanted) !== 0) throw new Error(`${entry.name.text}: ${index}`);
    }
  }
});
