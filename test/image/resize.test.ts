import { describe, expect, it } from 'vitest';
import { parseHeader } from '../../src/format/header.ts';
import { Image } from '../../src/image/image.ts';
import { resize } from '../../src/operations/resize.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { findingsOf, newImage, openWritable } from './writable-image.ts';

const MIB = 1 << 20;

async function readAll(image: Image): Promise<Uint8Array> {
  const bytes = new Uint8Array(image.virtualSize);
  await image.read(0, bytes);
  return bytes;
}

const isAll = (bytes: Uint8Array, value: number): boolean => bytes.every((byte) => byte === value);

describe('a disk that gets longer', () => {
  it.each([
    { clusterSize: 512 },
    { clusterSize: 4096, refcountBits: 1 },
    { clusterSize: 16384, extendedL2: true },
    { clusterSize: 4096, compat: '0.10' },
  ] as const)('does not get what tables name behind its end: %j', async (options) => {
    const storage = await newImage({ size: 2 * MIB, ...options });
    const full = await openWritable(storage);
    await full.write(0, new Uint8Array(2 * MIB).fill(1));
    await full.close();
    const size = MIB - 512;
    new DataView(storage.bytes.buffer, storage.bytes.byteOffset).setBigUint64(24, BigInt(size));
    const image = await openWritable(storage);
    await resize(image, 2 * MIB);
    const found = await readAll(image);
    await image.close();
    expect(isAll(found.subarray(0, size), 1)).toBe(true);
    expect(isAll(found.subarray(size), 0)).toBe(true);
    expect(await findingsOf(storage)).toEqual([]);
  });

  it('gives back what it took when it could not', async () => {
    const storage = await newImage({ size: MIB, clusterSize: 4096 });
    const image = await openWritable(storage);
    const signal = AbortSignal.timeout(60);
    const resizing = resize(image, 2 ** 40, { preallocation: 'metadata', signal });
    await expect(resizing).rejects.toMatchObject({ code: 'ABORTED' });
    expect(image.virtualSize).toBe(MIB);
    await image.write(0, new Uint8Array(5000).fill(1));
    await image.close();
    expect(await findingsOf(storage)).toEqual([]);
    const again = await openWritable(storage);
    await resize(again, 8 * MIB);
    expect(isAll((await readAll(again)).subarray(5000), 0)).toBe(true);
    await again.close();
  });

  it('reads zeros of clusters that are used again', async () => {
    const storage = await newImage({ size: MIB });
    const image = await openWritable(storage);
    await image.write(0, new Uint8Array(MIB).fill(1));
    await image.discard(0, MIB);
    await image.flush();
    await resize(image, 2 * MIB, { preallocation: 'metadata' });
    expect(isAll(await readAll(image), 0)).toBe(true);
    await image.close();
    expect(await findingsOf(storage)).toEqual([]);
  });
});

describe('a disk that gets shorter', () => {
  it('leaves a file without what was behind its end, and without refcount blocks for that', async () => {
    const storage = await newImage({ size: 8 * MIB, clusterSize: 4096, refcountBits: 64 });
    const image = await openWritable(storage);
    await image.write(0, new Uint8Array(8 * MIB).fill(1));
    await image.flush();
    const long = storage.size;
    await resize(image, MIB, { shrink: true });
    expect(isAll(await readAll(image), 1)).toBe(true);
    await image.close();
    expect(long).toBeGreaterThan(8 * MIB);
    expect(storage.size).toBeLessThan(1.1 * MIB);
    expect(parseHeader(storage.bytes).size).toBe(MIB);
    expect(await findingsOf(storage)).toEqual([]);
  });

  it('is read no further by calls that waited for it', async () => {
    const image = await openWritable(await newImage({ size: 2 * MIB }));
    const resizing = resize(image, MIB, { shrink: true });
    const reading = image.read(MIB, new Uint8Array(10));
    await expect(reading).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await resizing;
    await image.close();
  });
});

describe('what cannot be resized', () => {
  it.each(['qcow2', 'raw'] as const)('a storage without truncate: %s', async (format) => {
    const memory = await newImage({ size: MIB });
    const storage: Storage = {
      get size() {
        return memory.size;
      },
      read: (at, into) => memory.read(at, into),
      write: (at, bytes) => memory.write(at, bytes),
      close() {},
    };
    const image = await Image.open(storage, { format, writable: true });
    await expect(resize(image, 2 * MIB)).rejects.toMatchObject({ code: 'READ_ONLY' });
    await image.close();
  });

  it.each([0, -5, 1.5, 2 ** 53, Number.NaN])('a disk of %s bytes', async (size) => {
    const image = await Image.open(new MemoryStorage(), { format: 'raw', writable: true });
    await expect(resize(image, size)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await image.close();
  });

  it('more than tables can map', async () => {
    const image = await openWritable(await newImage({ size: MIB, clusterSize: 512 }));
    await expect(resize(image, 2 ** 40)).rejects.toMatchObject({ code: 'TOO_LARGE' });
    await image.close();
  });
});

describe('a raw disk', () => {
  it('follows', async () => {
    const storage = new MemoryStorage(new Uint8Array(1000).fill(1), 'disk');
    const image = await Image.open(storage, { format: 'raw', writable: true });
    await resize(image, 5000);
    expect([image.virtualSize, storage.size]).toEqual([5120, 5000]);
    const found = await readAll(image);
    expect(isAll(found.subarray(0, 1000), 1) && isAll(found.subarray(1000), 0)).toBe(true);
    await resize(image, 512, { shrink: true });
    expect(image.virtualSize).toBe(512);
    await image.close();
  });
});
