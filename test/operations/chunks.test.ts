import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Source } from '../../src/operations/chunks.ts';
import { makeContent } from '../support/data.ts';
import { anyClusters, clusterDisk } from './cluster-disk.ts';

const MIB = 1 << 20;

describe('Source', () => {
  it('lists the chunks that hold data, in order and once, over several images', async () => {
    const anyImages = fc.array(anyClusters, { minLength: 1, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(
        anyImages,
        fc.constantFrom(4096, 8192, 65536),
        async (images, chunkBytes) => {
          const source = new Source(
            await Promise.all(images.map((clusters) => clusterDisk(clusters, false))),
          );
          const clusters = images.flat();
          expect(source.size).toBe(clusters.length * 4096);
          const chunks: number[] = [];
          for await (const chunk of source.chunks(chunkBytes, 'data')) chunks.push(chunk);
          const wanted = clusters.flatMap((data, i) =>
            data ? [Math.floor((i * 4096) / chunkBytes) * chunkBytes] : [],
          );
          expect(chunks).toEqual([...new Set(wanted)]);
          const all: number[] = [];
          for await (const chunk of source.chunks(chunkBytes, 'all')) all.push(chunk);
          expect(all.length).toBe(Math.ceil(source.size / chunkBytes));
        },
      ),
      { numRuns: 30 },
    );
  });

  it('reads across images, and zeros behind the last', async () => {
    const source = new Source([
      await clusterDisk([true], false),
      await clusterDisk([false, true], true),
    ]);
    const into = new Uint8Array(MIB).fill(0xee);
    await source.read(0, into);
    expect(Buffer.compare(into.subarray(0, 4096), makeContent('text', 4096, 1))).toBe(0);
    expect(into.subarray(4096, 8192).every((byte) => byte === 0)).toBe(true);
    expect(Buffer.compare(into.subarray(8192, 12288), makeContent('text', 4096, 2))).toBe(0);
    expect(into.subarray(12288).every((byte) => byte === 0)).toBe(true);
  });

  it('reads a range as if it were all', async () => {
    const disks = [[true, false, true], [false], [true, true]];
    const images = await Promise.all(disks.map((clusters) => clusterDisk(clusters, true)));
    const whole = new Source(images);
    const bytes = new Uint8Array(whole.size);
    await whole.read(0, bytes);
    const anyRange = fc.record({
      offset: fc.nat({ max: whole.size + 9000 }),
      length: fc.nat({ max: whole.size + 9000 }),
    });
    await fc.assert(
      fc.asyncProperty(anyRange, fc.nat({ max: 3 }), async (range, chunk) => {
        const source = new Source(images, range);
        const part = bytes.subarray(range.offset, range.offset + range.length);
        expect(source.size).toBe(part.length);
        const start = Math.min(chunk * 4096, part.length);
        const into = new Uint8Array(9000).fill(0xee);
        await source.read(start, into);
        const wanted = new Uint8Array(9000);
        wanted.set(part.subarray(start, start + 9000));
        expect(Buffer.compare(into, wanted)).toBe(0);
        const withData: number[] = [];
        for await (const at of source.chunks(4096, 'data')) withData.push(at);
        for (let at = 0; at < part.length; at += 4096)
          if (part.subarray(at, at + 4096).some((byte) => byte !== 0))
            expect(withData).toContain(at);
        expect(withData.every((at) => at < part.length)).toBe(true);
      }),
      { numRuns: 100 },
    );
  });

  it.each([
    [-1, 1],
    [0, -1],
    [0.5, 1],
    [0, Number.NaN],
  ])('refuses a range of offset %d and length %d', (offset, length) => {
    expect(() => new Source([], { offset, length })).toThrow('whole numbers');
  });
});
