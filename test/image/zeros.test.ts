import { describe, expect, it } from 'vitest';
import { findingsOf, newImage, openWritable } from './writable-image.ts';
import { firstDifference } from './write-model.ts';

describe('zeros written up to the end of a disk', () => {
  it.each([
    { size: 512, clusterSize: 65536 },
    { size: 65536 + 1024, clusterSize: 65536 },
    { size: 65536 + 1024, clusterSize: 65536, compat: '0.10' },
    { size: 65536 + 3072, clusterSize: 65536, extendedL2: true },
    { size: 3 * 512, clusterSize: 4096 },
  ] as const)('leave what is before them in its last cluster: %j', async (options) => {
    const { size } = options;
    for (const unmap of [false, true])
      for (const start of [size - 1, size - 100, size - 500]) {
        const storage = await newImage(options);
        const image = await openWritable(storage);
        await image.write(0, new Uint8Array(size).fill(7));
        await image.writeZeroes(start, size - start, { unmap });
        const found = new Uint8Array(size);
        await image.read(0, found);
        await image.close();
        const wanted = new Uint8Array(size).fill(7, 0, start);
        expect(firstDifference(found, wanted)).toBe(-1);
        expect(await findingsOf(storage)).toEqual([]);
      }
  });
});
