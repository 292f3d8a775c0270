import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Image } from '../../src/image/image.ts';
import { type MapEntry, map } from '../../src/operations/map.ts';
import { anyClusters, clusterDisk } from './cluster-disk.ts';

async function entriesOf(image: Image, options = {}): Promise<MapEntry[]> {
  const entries: MapEntry[] = [];
  for await (const entry of map(image, options)) entries.push(entry);
  return entries;
}

describe('map', () => {
  it('covers any range asked for, merged, with what is in the files', async () => {
    await fc.assert(
      fc.asyncProperty(
        anyClusters,
        fc.boolean(),
        fc.nat(),
        fc.nat(),
        async (clusters, compress, a, b) => {
          const image = await clusterDisk(clusters, compress);
          const start = a % (image.virtualSize + 1);
          const length = b % (image.virtualSize - start + 1);
          const entries = await entriesOf(image, { start, length });
          let at = start;
          for (const [i, entry] of entries.entries()) {
            expect(entry.start).toBe(at);
            const before = entries[i - 1];
            if (before && !compress) expect(before.data).not.toBe(entry.data);
            for (let k = Math.floor(at / 4096); k * 4096 < at + entry.length; k++)
              expect(entry.data).toBe(clusters[k]);
            if (entry.offset !== undefined) expect(entry.file).toBe('top');
            at += entry.length;
          }
          expect(at).toBe(start + length);
        },
      ),
      { numRuns: 40 },
    );
  });

  it('ends with the disk, and refuses what is not on it', async () => {
    const image = await clusterDisk([true, false], false);
    expect(await entriesOf(image, { start: 4096, length: 2 ** 52 })).toHaveLength(1);
    expect(await entriesOf(image, { start: 8192 })).toEqual([]);
    for (const options of [{ start: -1 }, { start: 9000 }, { start: Number.NaN }, { length: -1 }])
      await expect(entriesOf(image, options)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });
});
