import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { toV86Disk, type V86Disk } from '../../src/adapters/v86-disk.ts';
import { Image } from '../../src/image/image.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import { qemuImg } from '../oracle/tools.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { FIRST_BOOT, makeBootImage, NEXT_BOOT } from './boot-image.ts';
import { boot } from './v86-boot.ts';

const folder = makeTempDir('v86');
let bytes: Uint8Array<ArrayBuffer>;

beforeAll(async () => {
  bytes = await makeBootImage();
  writeFileSync(join(folder, 'disk.qcow2'), bytes);
});
afterAll(() => removeTempDir(folder));

/** Runs `work` with a disk over the image that boots. */
async function withDisk<T>(
  work: (hda: V86Disk) => Promise<T>,
  overlay?: MemoryStorage,
): Promise<T> {
  await using image = await Image.open(bytes);
  const hda = await toV86Disk(image, overlay && { overlay });
  try {
    return await work(hda);
  } finally {
    await hda.close();
  }
}

function read(hda: V86Disk, offset: number, length: number): Promise<Uint8Array> {
  return new Promise((resolve) => hda.get(offset, length, resolve));
}

function write(hda: V86Disk, offset: number, data: Uint8Array): Promise<void> {
  return new Promise((resolve) => hda.set(offset, data, resolve));
}

test('boots a compressed image, then the whole disk that was saved, and leaves the image as it was', async () => {
  const before = bytes.slice();
  const saved = new MemoryStorage();
  await withDisk(async (hda) => {
    expect(await boot(hda, 'done\n')).toBe(FIRST_BOOT);
    await hda.save(saved, { compress: true });
  });
  expect(bytes).toEqual(before);
  writeFileSync(join(folder, 'whole.qcow2'), saved.bytes);
  await qemuImg(['check', 'whole.qcow2'], folder);
  await using image = await Image.open(readFileSync(join(folder, 'whole.qcow2')));
  const hda = await toV86Disk(image);
  expect(await boot(hda, 'done\n')).toBe(NEXT_BOOT);
  await hda.close();
});

test('saves an overlay that holds only what was written', async () => {
  const saved = new MemoryStorage();
  await withDisk(async (hda) => {
    await boot(hda, 'done\n');
    await hda.save(saved, { backingFile: 'disk.qcow2' });
  });
  expect(saved.size).toBeLessThan(512 * 1024);
  writeFileSync(join(folder, 'over.qcow2'), saved.bytes);
  await qemuImg(['check', 'over.qcow2'], folder);
  const { stdout } = await qemuImg(['info', '--output=json', 'over.qcow2'], folder);
  expect(JSON.parse(stdout)).toMatchObject({
    'backing-filename': 'disk.qcow2',
    'backing-filename-format': 'qcow2',
  });
  await using image = await Image.open(saved.bytes.slice(), { backingFile: bytes });
  const hda = await toV86Disk(image);
  expect(await boot(hda, 'done\n')).toBe(NEXT_BOOT);
  await hda.close();
});

test('goes on from an overlay of another time, and refuses that of another disk', async () => {
  const overlay = new MemoryStorage();
  await withDisk((hda) => write(hda, 4096, new Uint8Array(512).fill(7)), overlay);
  await withDisk(async (hda) => {
    expect(await read(hda, 4096, 512)).toEqual(new Uint8Array(512).fill(7));
  }, new MemoryStorage(overlay.bytes.slice()));
  await using other = await Image.open(new Uint8Array(1 << 20), { format: 'raw' });
  await expect(toV86Disk(other, { overlay })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
});

test('the cache follows what is written, whatever has been read', async () => {
  await withDisk(async (hda) => {
    expect(hda.get_from_cache(0, 512)).toBeUndefined();
    await new Promise((resolve) => hda.get_and_cache(0, 512, resolve));
    expect(hda.get_from_cache(0, 512)?.subarray(510)).toEqual(Uint8Array.of(0x55, 0xaa));
    const written = write(hda, 0, new Uint8Array(1024).fill(3));
    expect(hda.get_from_cache(0, 512)).toBeUndefined();
    await written;
    expect(hda.get_from_cache(512, 512)).toEqual(new Uint8Array(512).fill(3));
    // More than the cache holds, and up to the end of the disk.
    const long = await read(hda, 0, 6 << 20);
    expect(long.subarray(0, 1024)).toEqual(new Uint8Array(1024).fill(3));
    expect(long.subarray(1024).every((byte) => byte === 0)).toBe(true);
    expect(await read(hda, hda.byteLength - 512, 512)).toEqual(new Uint8Array(512));
    let buffer: unknown = 'none';
    hda.get_buffer((given) => {
      buffer = given;
    });
    expect(buffer).toBeUndefined();
  });
});

test('a saved state holds the overlay, once it is flushed', async () => {
  await withDisk(async (hda) => {
    await write(hda, 0, new Uint8Array(512).fill(1));
    expect(() => hda.get_state()).toThrow('await flush() before');
    await hda.flush();
    const state = hda.get_state();
    await write(hda, 0, new Uint8Array(512).fill(2));
    hda.set_state(structuredClone(state));
    expect(await read(hda, 0, 512)).toEqual(new Uint8Array(512).fill(1));
    expect(() => hda.set_state([512, state[1]])).toThrow('of a disk of 512 bytes');
  });
});

test('a disk that cannot be read says so, and a read that was given up is not answered', async () => {
  const damaged = bytes.slice();
  // The second half holds the compressed data.
  damaged.fill(0xff, 65536 * 5);
  await using image = await Image.open(damaged);
  const onError = vi.fn();
  const hda = await toV86Disk(image, { onError });
  const done = vi.fn();
  hda.get(0, 512, done);
  hda.get(1 << 20, 512, done, { signal: AbortSignal.abort() });
  await hda.flush();
  expect(done).not.toHaveBeenCalled();
  expect(onError).toHaveBeenCalledOnce();
  expect(onError.mock.calls[0]?.[0]).toMatchObject({ name: 'Qcow2Error' });
  await hda.close();
});
