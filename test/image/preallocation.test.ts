import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Image } from '../../src/image/image.ts';
import { createFile } from '../../src/node/create-file.ts';
import { adopt } from '../../src/operations/adopt.ts';
import { create } from '../../src/operations/create.ts';
import { map } from '../../src/operations/map.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import type { Extent } from '../../src/storage/storage.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

const MIB = 1 << 20;

/** A disk whose storage tells these extents, a few at a time. */
class ToldStorage extends MemoryStorage {
  readonly told: readonly Extent[];

  constructor(size: number, told: readonly Extent[]) {
    super(new Uint8Array(size).fill(1));
    this.told = told;
  }

  extents(offset: number, length: number): Extent[] {
    const end = offset + length;
    const inside = this.told.filter(
      (each) => each.offset + each.length > offset && each.offset < end,
    );
    return inside.slice(0, 2);
  }
}

const hole = (offset: number, length: number): Extent => ({ offset, length, data: false });
const data = (offset: number, length: number): Extent => ({ offset, length, data: true });

/** Guest ranges that the adopted image says to hold data. */
async function dataOf(size: number, told: readonly Extent[], extendedL2: boolean) {
  const disk = new ToldStorage(size, told);
  const target = new MemoryStorage();
  await adopt(target, disk, { dataFile: 'disk', extendedL2 });
  const image = await Image.open(target, { dataFile: disk });
  const ranges: [number, number][] = [];
  for await (const entry of map(image)) if (entry.data) ranges.push([entry.start, entry.length]);
  return ranges;
}

describe('adoptTables', () => {
  const K64 = 65536;
  it.each<[string, Extent[], [number, number][], [number, number][]]>([
    ['nothing told is data', [], [[0, 8 * K64]], [[0, 8 * K64]]],
    ['one hole', [hole(0, 8 * K64)], [], []],
    [
      'holes of a part of a cluster',
      [data(0, 3000), hole(3000, K64), data(K64 + 3000, 1000), hole(K64 + 4000, 7 * K64)],
      [[0, 2 * K64]],
      [
        [0, 4096],
        [K64 + 2048, 2048],
      ],
    ],
    [
      'what is left out is data',
      [hole(K64, K64), hole(3 * K64, K64)],
      [
        [0, K64],
        [2 * K64, K64],
        [4 * K64, 4 * K64],
      ],
      [
        [0, K64],
        [2 * K64, K64],
        [4 * K64, 4 * K64],
      ],
    ],
    [
      'many extents',
      [
        hole(0, K64),
        data(K64, K64),
        hole(2 * K64, K64),
        data(3 * K64, K64),
        hole(4 * K64, 4 * K64),
      ],
      [
        [K64, K64],
        [3 * K64, K64],
      ],
      [
        [K64, K64],
        [3 * K64, K64],
      ],
    ],
  ])('%s', async (_, told, standard, extended) => {
    expect(await dataOf(8 * K64, told, false)).toEqual(standard);
    expect(await dataOf(8 * K64, told, true)).toEqual(extended);
  });
});

describe('a signal ends', () => {
  it.each(['falloc', 'full', 'metadata'] as const)('preallocation=%s', async (preallocation) => {
    const controller = new AbortController();
    let writes = 0;
    const target = new MemoryStorage();
    const write = target.write.bind(target);
    target.write = (offset, from) => {
      if (++writes === 3) controller.abort();
      write(offset, from);
    };
    const { signal } = controller;
    const options = { format: 'qcow2', size: 64 * MIB, clusterSize: 4096, preallocation } as const;
    const creating = create(target, { ...options, signal });
    await expect(creating).rejects.toMatchObject({ code: 'ABORTED' });
    expect(writes).toBeLessThan(6);
  });

  it('preallocation that never waits for anything, from a timer', async () => {
    const size = 2 ** 40;
    const nowhere = { size, read: () => 0, write() {}, truncate() {}, close() {} };
    const signal = AbortSignal.timeout(100);
    const creating = create(nowhere, { format: 'raw', size, preallocation: 'full', signal });
    await expect(creating).rejects.toMatchObject({ code: 'ABORTED' });
  });

  it('creating a file, which leaves nothing behind', async () => {
    const dir = makeTempDir('preallocation');
    const signal = AbortSignal.timeout(60);
    const file = join(dir, 'new');
    for (const format of ['raw', 'qcow2'] as const) {
      const options = { path: file, format, size: 2 ** 40, preallocation: 'full', signal } as const;
      await expect(createFile(options)).rejects.toMatchObject({ code: 'ABORTED' });
      expect(readdirSync(dir)).toEqual([]);
    }
    removeTempDir(dir);
  });

  it('adopting', async () => {
    const disk = new MemoryStorage(new Uint8Array(MIB));
    const target = new MemoryStorage();
    const adopting = adopt(target, disk, { dataFile: 'disk', signal: AbortSignal.abort() });
    await expect(adopting).rejects.toMatchObject({ code: 'ABORTED' });
  });
});
