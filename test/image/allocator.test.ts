import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseHeader } from '../../src/format/header.ts';
import { findingsOf, newImage, openWritable, withDisk } from './writable-image.ts';

const WIDTHS = [1, 2, 4, 8, 16, 32, 64];

describe('ClusterAllocator', () => {
  it('allocates first fit, and goes back to what became free', async () => {
    const storage = await newImage({ size: 1 << 20 });
    await withDisk(storage, async ({ allocator }) => {
      const run = await allocator.allocateRun(10);
      expect(run).toEqual({ offset: 4 * 65536, clusters: 10 });
      await allocator.addReference(run.offset + 2 * 65536, 3, -1);
      expect(await allocator.allocateRun(10)).toEqual({ offset: 6 * 65536, clusters: 3 });
      expect(await allocator.allocateRun(1)).toEqual({ offset: 14 * 65536, clusters: 1 });
      await allocator.addReference(run.offset, 2, -1);
      // Too small a hole for three next to each other; it is not forgotten.
      expect(await allocator.allocateClusters(3)).toBe(15 * 65536);
      expect(await allocator.allocateRun(5)).toEqual({ offset: 4 * 65536, clusters: 2 });
    });
  });

  it('hands out what was freed only when the tables on the disk do not name it any more', async () => {
    const storage = await newImage({ size: 1 << 20 });
    const image = await openWritable(storage);
    await image.withWritable(async ({ allocator }) => {
      const { offset } = await allocator.allocateRun(4);
      allocator.freeClusters(offset, 4);
      expect((await allocator.allocateRun(1)).offset).toBe(offset + 4 * 65536);
    });
    await image.flush();
    await image.withWritable(async ({ allocator }) => {
      expect((await allocator.allocateRun(1)).offset).toBe(4 * 65536);
    });
    await image.close();
  });

  for (const refcountBits of WIDTHS) {
    it(`counts up to what ${refcountBits} bits hold, and refuses more`, async () => {
      const storage = await newImage({ size: 1 << 20, refcountBits });
      await withDisk(storage, async ({ allocator }) => {
        const { refcounts } = allocator;
        const { offset } = await allocator.allocateRun(5);
        const cluster = offset / 65536;
        const most = Math.min(2 ** refcountBits - 1, 2 ** 53 - 1);
        await allocator.addReference(offset + 65536, 1, most - 1);
        expect(await refcounts.get(cluster + 1)).toBe(most);
        if (refcountBits < 64) {
          // All or none: the neighbours keep their counters.
          await expect(allocator.addReference(offset, 3, 1)).rejects.toMatchObject({
            code: 'TOO_LARGE',
            message: expect.stringContaining(`${refcountBits} bits hold no more`),
          });
        }
        for (const i of [0, 2, 3, 4]) expect(await refcounts.get(cluster + i)).toBe(1);
        await expect(allocator.addReference(offset, 1, -2)).rejects.toMatchObject({
          code: 'BAD_ENTRY',
        });
        await allocator.addReference(offset + 65536, 1, 1 - most);
        await allocator.addReference(offset, 5, -1);
        expect(await refcounts.get(cluster + 1)).toBe(0);
      });
      expect(await findingsOf(storage)).toEqual([]);
    });
  }

  it('refuses over several blocks together, and leaves every counter as it was', async () => {
    const storage = await newImage({ size: 1 << 20, clusterSize: 512, refcountBits: 8 });
    await withDisk(storage, async ({ allocator }) => {
      const offset = await allocator.allocateClusters(1500);
      await allocator.addReference(offset + 1400 * 512, 1, 254);
      await expect(allocator.addReference(offset, 1500, 1)).rejects.toMatchObject({
        code: 'TOO_LARGE',
        details: { offset: offset + 1400 * 512 },
      });
      expect(await allocator.refcounts.get(offset / 512)).toBe(1);
      expect(await allocator.refcounts.get(offset / 512 + 1399)).toBe(1);
    });
  });

  it.each([
    [512, 64],
    [512, 16],
    [1024, 32],
  ])('grows the refcount table: clusters of %i bytes, %i bits', async (clusterSize, bits) => {
    const storage = await newImage({ size: 1 << 20, clusterSize, refcountBits: bits });
    const before = parseHeader(storage.bytes);
    const image = await openWritable(storage);
    const counted = (clusterSize / 8) * ((clusterSize * 8) / bits);
    const runs: number[][] = [];
    await image.withWritable(async ({ allocator }) => {
      for (let left = Math.ceil(counted * 2.3); left > 0; ) {
        const { offset, clusters } = await allocator.allocateRun(Math.min(left, 1000));
        runs.push([offset, clusters]);
        left -= clusters;
      }
    });
    await image.write(12345, new Uint8Array(50_000).fill(7));
    await image.flush();
    const after = parseHeader(storage.bytes);
    expect(after.refcountTableClusters).toBeGreaterThan(before.refcountTableClusters);
    expect(after.refcountTableOffset).not.toBe(before.refcountTableOffset);
    // Nothing was handed out twice.
    const taken = runs.sort((a, b) => a[0]! - b[0]!);
    for (let i = 1; i < taken.length; i++)
      expect(taken[i]![0]).toBeGreaterThanOrEqual(
        taken[i - 1]![0]! + taken[i - 1]![1]! * clusterSize,
      );
    await image.withWritable(async ({ allocator }) => {
      for (const [offset, clusters] of runs) await allocator.addReference(offset!, clusters!, -1);
    });
    await image.close();
    expect(await findingsOf(storage)).toEqual([]);
  });

  it('finds room for long runs across blocks that do not exist yet', async () => {
    for (const refcountBits of [64, 16, 1]) {
      const storage = await newImage({ size: 1 << 20, clusterSize: 512, refcountBits });
      await withDisk(storage, async ({ allocator }) => {
        const first = await allocator.allocateClusters(900);
        const second = await allocator.allocateClusters(700);
        expect(second).toBeGreaterThanOrEqual(first + 900 * 512);
        for (let i = 0; i < 900; i += 50)
          expect(await allocator.refcounts.get(first / 512 + i)).toBe(1);
        await allocator.addReference(first, 900, -1);
        await allocator.addReference(second, 700, -1);
      });
      expect(await findingsOf(storage)).toEqual([]);
    }
  });

  it('keeps the counters a plain array keeps', async () => {
    const step = fc.record({
      take: fc.boolean(),
      count: fc.integer({ min: 1, max: 90 }),
      pick: fc.nat(),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { maxLength: 60 }),
        fc.constantFrom(...WIDTHS),
        async (steps, refcountBits) => {
          const storage = await newImage({ size: 1 << 20, clusterSize: 512, refcountBits });
          await withDisk(storage, async ({ allocator }) => {
            const taken = new Set<number>();
            const runs: { first: number; count: number }[] = [];
            for (const { take, count, pick } of steps) {
              if (take || runs.length === 0) {
                const { offset, clusters } = await allocator.allocateRun(count);
                for (let i = 0; i < clusters; i++) {
                  expect(taken.has(offset / 512 + i)).toBe(false);
                  taken.add(offset / 512 + i);
                }
                runs.push({ first: offset / 512, count: clusters });
              } else {
                const [run] = runs.splice(pick % runs.length, 1);
                await allocator.addReference(run!.first * 512, run!.count, -1);
                for (let i = 0; i < run!.count; i++) taken.delete(run!.first + i);
              }
            }
            for (const cluster of taken) expect(await allocator.refcounts.get(cluster)).toBe(1);
            for (const { first, count } of runs)
              await allocator.addReference(first * 512, count, -1);
          });
          expect(await findingsOf(storage)).toEqual([]);
        },
      ),
      { numRuns: 60 },
    );
  });
});
