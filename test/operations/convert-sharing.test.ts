import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { Image } from '../../src/image/image.ts';
import { diskDigest } from '../../src/node/disk-digest.ts';
import { convert } from '../../src/operations/convert.ts';
import type { ConvertOptions } from '../../src/operations/convert-options.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { converted } from '../crash/guest-cases.ts';
import { makeContent } from '../support/data.ts';

const BLOCK = 4096;
const MIB = 2 ** 20;

/** A file of a file system that shares blocks, and what was shared and written. */
class SharingStorage extends MemoryStorage {
  shared = 0;
  written = 0;
  refused = 0;
  /** Ranges after which it cannot any more. */
  readonly #most: number;

  constructor(most = Number.POSITIVE_INFINITY) {
    super();
    this.#most = most;
  }

  override write(offset: number, from: Uint8Array): void {
    this.written += from.length;
    super.write(offset, from);
  }

  copyRange(source: Storage, from: number, length: number, to: number): boolean {
    const fits = from % BLOCK === 0 && to % BLOCK === 0 && length % BLOCK === 0;
    if (!fits || from + length > source.size || this.shared >= this.#most) {
      this.refused++;
      return false;
    }
    const bytes = new Uint8Array(length);
    source.read(from, bytes);
    super.write(to, bytes);
    this.shared += length;
    return true;
  }
}

/** Converts to raw and compares with what the disk holds. */
async function toRaw(
  image: Image,
  disk: Uint8Array,
  { most, ...options }: Partial<ConvertOptions> & { most?: number } = {},
): Promise<SharingStorage> {
  const target = new SharingStorage(most);
  await convert(image, target, { format: 'raw', ...options });
  await image.close();
  expect(Buffer.compare(target.bytes.subarray(0, disk.length), disk)).toBe(0);
  return target;
}

const CONTENT = makeContent('mixed', 6 * MIB, 4);
const raw = (bytes = CONTENT): Promise<Image> => Image.open(bytes.slice(), { format: 'raw' });

/** A qcow2 image whose data lies in its file, or in a raw one. */
async function qcow2(options: Parameters<typeof converted>[1], compress = false): Promise<Image> {
  const { files } = await converted(CONTENT.length, options, { content: CONTENT, compress });
  return Image.open(files.image!, { ...(files.data && { dataFile: files.data }) });
}

describe('conversions to raw on a file system that shares blocks', () => {
  it('share what the file of a raw image holds, and write nothing', async () => {
    const target = await toRaw(await raw(), CONTENT);
    expect(target).toMatchObject({ shared: CONTENT.length + 2 * MIB, written: 0, refused: 0 });
  });

  it('read what a digest is taken of, and share it all the same', async () => {
    const digest = diskDigest('sha256');
    const target = await toRaw(await raw(), CONTENT, { digest });
    expect(target).toMatchObject({ shared: CONTENT.length + 2 * MIB, written: 0 });
    expect(digest.end()).toBe(createHash('sha256').update(CONTENT).digest('hex'));
  });

  it.each([
    ['qcow2', {}],
    ['qcow2 with a raw data file', { dataFile: 'data', dataFileRaw: true }],
  ])('share what the file of an image holds: %s', async (_, options) => {
    const target = await toRaw(await qcow2(options), CONTENT);
    expect(target.shared).toBeGreaterThan(MIB);
    expect(target).toMatchObject({ written: 0, refused: 0 });
  });

  it('leave out holes', async () => {
    const storage = new MemoryStorage(CONTENT.slice());
    const holes = Object.assign(storage, {
      extents: (offset: number, length: number) => {
        const half = Math.min(length, Math.max(0, 2 * MIB - offset));
        const parts = [
          { offset, length: half, data: true },
          { offset: offset + half, length: length - half, data: false },
        ];
        return parts.filter((part) => part.length > 0);
      },
    });
    const disk = CONTENT.slice().fill(0, 2 * MIB);
    const target = await toRaw(await Image.open(holes, { format: 'raw' }), disk);
    expect(target).toMatchObject({ shared: 4 * MIB, written: 0, refused: 0 });
  });

  it('several images and a part of them', async () => {
    const images = [await raw(), await raw()];
    const target = new SharingStorage();
    const range = { offset: 4 * MIB, length: 4 * MIB };
    await convert(images, target, { format: 'raw', range });
    const both = Buffer.concat([CONTENT, CONTENT]);
    const { offset, length } = range;
    expect(Buffer.compare(target.bytes, both.subarray(offset, offset + length))).toBe(0);
    expect(target.written).toBe(0);
    for (const image of images) await image.close();
  });

  it('copy where it stops being possible, and what does not end with a block', async () => {
    const odd = makeContent('random', 5 * MIB + 1234);
    const tail = await toRaw(await raw(odd), odd);
    expect(tail.shared).toBe(4 * MIB + 2 * MIB);
    expect(tail.written).toBe(MIB + 1536);
    const most = await toRaw(await raw(odd), odd, { most: 4 * MIB });
    expect(most.shared).toBe(4 * MIB);
    expect(most.written).toBe(3 * MIB + 1536);
  });

  it.each([
    ['compressed clusters', () => qcow2({}, true), {}, 0],
    ['clusters smaller than a block', () => qcow2({ clusterSize: 512 }), {}, 1],
    ['-S 0', () => raw(), { sparseSize: 0 }, 0],
    ['a target that may hold other bytes', () => raw(), { overwrite: true }, 0],
    ['preallocation', () => raw(), { create: { preallocation: 'full' } }, 0],
  ] as const)('copy: %s', async (_, open, options, refused) => {
    const target = await toRaw(await open(), CONTENT, options);
    expect(target).toMatchObject({ shared: 0, refused });
    expect(target.written).toBeGreaterThan(MIB);
  });
});
