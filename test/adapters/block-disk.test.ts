import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BlockDisk } from '../../src/adapters/block-disk.ts';
import { Image } from '../../src/image/image.ts';
import { convert } from '../../src/operations/convert.ts';
import { create } from '../../src/operations/create.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import { makeContent } from '../support/data.ts';

const KIB = 1024;
const SIZE = 300 * KIB;

type Change = { at: number; length: number; kind: 'data' | 'zero' | 'discard' };

const change: fc.Arbitrary<Change> = fc.record({
  at: fc.nat(SIZE / 512 - 1).map((sector) => sector * 512),
  length: fc.integer({ min: 1, max: 60 }).map((sectors) => sectors * 512),
  kind: fc.constantFrom('data' as const, 'data' as const, 'zero' as const, 'discard' as const),
});

const BELOW = makeContent('mixed', SIZE - 20 * KIB, 3);

/** An overlay of `BELOW`, or an image of its own, with changes. */
async function changed(changes: Change[], overlay: boolean, clusterSize: number): Promise<Image> {
  const storage = new MemoryStorage();
  const backing = overlay ? { backingFile: 'below', backingFormat: 'raw' } : {};
  const extendedL2 = clusterSize >= 16384;
  await create(storage, { format: 'qcow2', size: SIZE, clusterSize, extendedL2, ...backing });
  const below = { source: BELOW, format: 'raw' } as const;
  const image = await Image.open(storage, {
    writable: true,
    ...(overlay && { backingFile: below }),
  });
  for (const { at, length, kind } of changes) {
    const end = Math.min(SIZE, at + length);
    if (kind === 'data') await image.write(at, makeContent('text', end - at, at + 1));
    else if (kind === 'zero') await image.writeZeroes(at, end - at);
    else await image.discard(at, end - at);
  }
  await image.flush();
  return image;
}

function blockOf(disk: Uint8Array, index: number, blockSize: number): Uint8Array {
  const block = new Uint8Array(blockSize);
  block.set(disk.subarray(index * blockSize, (index + 1) * blockSize));
  return block;
}

describe('a disk in blocks', () => {
  test('every block has the bytes of the disk, and a missing one those it stands for', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(change, { maxLength: 12 }),
        fc.boolean(),
        fc.constantFrom(512, 4096, 16384, 65536),
        fc.constantFrom(512, 1536, 4096, 65536, 1048576),
        async (changes, overlay, clusterSize, blockSize) => {
          const image = await changed(changes, overlay, clusterSize);
          const bytes = new Uint8Array(SIZE);
          await image.read(0, bytes);
          const disk = await BlockDisk.open(image, { blockSize });
          expect(disk.virtualSize).toBe(SIZE);
          expect(disk.isDifferencing).toBe(overlay);
          const below = overlay ? BELOW : new Uint8Array(0);
          const present = [...disk.blockIndexes()];
          expect(present.length).toBe(disk.presentCount);
          for (let index = 0; index < disk.blockCount; index++) {
            const { data } = await disk.readBlock(index);
            const wanted = blockOf(bytes, index, blockSize);
            expect(Buffer.compare(data, wanted)).toBe(0);
            expect(disk.hasBlock(index)).toBe(present.includes(index));
            if (!disk.hasBlock(index))
              expect(Buffer.compare(wanted, blockOf(below, index, blockSize))).toBe(0);
          }
          expect(disk.hasBlock(disk.blockCount)).toBe(false);
          await disk.close();
        },
      ),
      { numRuns: 60 },
    );
  });

  test('what hides the parent is there, what was never written is not', async () => {
    const image = await changed([{ at: 64 * KIB, length: 64 * KIB, kind: 'zero' }], true, 65536);
    const top = await BlockDisk.open(image);
    expect([...top.blockIndexes()]).toEqual([1]);
    const parent = await top.openParent();
    expect([parent.blockSize, parent.isDifferencing]).toEqual([65536, false]);
    expect(parent.virtualSize).toBe(BELOW.length);
    expect(Buffer.compare((await parent.readBlock(1)).data, blockOf(BELOW, 1, 65536))).toBe(0);
    expect((await top.readBlock(1)).data.every((byte) => byte === 0)).toBe(true);
    await expect(parent.openParent()).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    const whole = await BlockDisk.open(image, { differencing: false });
    expect(whole.hasBlock(1)).toBe(false);
    expect(whole.hasBlock(0)).toBe(true);
    await top.close();
  });

  test('a chain has a disk for each image', async () => {
    const [lower, upper] = [new MemoryStorage(), new MemoryStorage()];
    const shape = { format: 'qcow2', size: SIZE, backingFile: 'b', backingFormat: 'raw' } as const;
    await create(lower, { ...shape, clusterSize: 4096 });
    await create(upper, { ...shape, backingFormat: 'qcow2' });
    const base = { source: BELOW, format: 'raw' } as const;
    const middle = await Image.open(lower, { writable: true, backingFile: base });
    await middle.write(200 * KIB, makeContent('text', 4 * KIB, 5));
    await middle.close();
    const backingFile = { source: lower, format: 'qcow2', backingFile: base } as const;
    const disk = await BlockDisk.open(await Image.open(upper, { backingFile }), {
      blockSize: 4096,
    });
    expect(disk.presentCount).toBe(0);
    const parent = await disk.openParent();
    expect([...parent.blockIndexes()]).toEqual([50]);
    const last = await parent.openParent();
    expect(last.isDifferencing).toBe(false);
    expect(Buffer.compare((await last.readBlock(50)).data, blockOf(BELOW, 50, 4096))).toBe(0);
    await disk.close();
  });

  test('reads may overlap', async () => {
    const storage = new MemoryStorage();
    const raw = await Image.open(BELOW, { format: 'raw' });
    await convert(raw, storage, { format: 'qcow2', compress: true });
    const disk = await BlockDisk.open(await Image.open(storage), { blockSize: 8192 });
    const blocks = await Promise.all(
      Array.from({ length: disk.blockCount }, (_, i) => disk.readBlock(i)),
    );
    for (const { index, data } of blocks)
      expect(Buffer.compare(data, blockOf(BELOW, index, 8192))).toBe(0);
  });

  test('what cannot be is refused', async () => {
    const open = (options: object) =>
      Image.open(BELOW, { format: 'raw' }).then((image) => BlockDisk.open(image, options));
    for (const blockSize of [0, 511, 700, 2 ** 31, Number.NaN])
      await expect(open({ blockSize })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await expect(open({ differencing: true })).rejects.toThrow(/no backing file/);
    await expect(open({ signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ABORTED' });
    const disk = await open({});
    for (const index of [-1, 0.5, disk.blockCount])
      await expect(disk.readBlock(index)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });
});
