import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { maxVirtualSize } from '../../src/format/geometry.ts';
import {
  layOutImage,
  mostHostClusters,
  type NewImageLayout,
  type NewImageOptions,
} from '../../src/image/new-image.ts';

/** Shapes up to the largest disk, as an exponent, that clusters of a size can map. */
const anyShape: fc.Arbitrary<NewImageOptions> = fc
  .record({
    bits: fc.integer({ min: 9, max: 21 }),
    refcountBits: fc.constantFrom(1, 2, 4, 8, 16, 32, 64),
    extendedL2: fc.boolean(),
    exponent: fc.double({ min: 0, max: 1, noNaN: true }),
  })
  .map(({ bits, refcountBits, extendedL2, exponent }) => {
    const options = {
      clusterSize: 2 ** bits,
      refcountBits,
      extendedL2: extendedL2 && bits >= 14,
      size: 0,
    };
    const most = maxVirtualSize(layOutImage(options, 0).geometry);
    return { ...options, size: Math.floor(most ** exponent / 512) * 512 };
  });

/** Clusters in use when the whole disk is written: data, tables, and a block before each range. */
function clustersWritten(layout: NewImageLayout, options: NewImageOptions): number {
  const { l2Coverage, clusterSize, refcountBlockEntries: perBlock } = layout.geometry;
  const tables = Math.ceil(options.size / l2Coverage);
  let next = layout.headClusters + tables + Math.ceil(options.size / clusterSize);
  let blocks = layout.headBlocks;
  for (; blocks * perBlock < next; blocks++) next++;
  return next;
}

describe('layOutImage', () => {
  it('has counters for the head, and table entries for all of them', () => {
    fc.assert(
      fc.property(anyShape, (options) => {
        const { headClusters, headBlocks, header, geometry } = layOutImage(options, 0);
        expect(headBlocks * geometry.refcountBlockEntries).toBeGreaterThanOrEqual(headClusters);
        const entries = (header.refcountTableClusters * geometry.clusterSize) / 8;
        expect(entries).toBeGreaterThanOrEqual(headBlocks);
        expect(1 + header.refcountTableClusters + headBlocks).toBeLessThanOrEqual(headClusters);
      }),
      { numRuns: 300 },
    );
  });

  it('has table entries for everything that can be written to the disk', () => {
    const small = anyShape.filter(({ size, clusterSize }) => size / clusterSize! < 2 ** 22);
    fc.assert(
      fc.property(small, (options) => {
        const layout = layOutImage(options, mostHostClusters(options));
        const { refcountBlockEntries, clusterSize } = layout.geometry;
        const entries = (layout.header.refcountTableClusters * clusterSize) / 8;
        expect(entries * refcountBlockEntries).toBeGreaterThanOrEqual(
          clustersWritten(layout, options),
        );
      }),
      { numRuns: 300 },
    );
  });

  it.each([
    ['64-bit counters', { size: 10 * 2 ** 30, clusterSize: 512, refcountBits: 64 }],
    ['a large L1 table', { size: 60 * 2 ** 30, clusterSize: 512 }],
  ])('512-byte clusters, %s: the table counts the head', (_, options) => {
    const { headBlocks, header } = layOutImage(options, 0);
    expect((header.refcountTableClusters * 512) / 8).toBeGreaterThanOrEqual(headBlocks);
  });

  it.each([
    [{ size: -512 }, 'TOO_LARGE'],
    [{ size: Number.NaN }, 'TOO_LARGE'],
    [{ size: 2 ** 53 }, 'TOO_LARGE'],
    [{ size: 2 ** 38, clusterSize: 512 }, 'TOO_LARGE'],
    [{ size: 512, clusterSize: 256 }, 'INVALID_ARGUMENT'],
    [{ size: 512, clusterSize: 2 ** 22 }, 'INVALID_ARGUMENT'],
    [{ size: 512, clusterSize: 3000 }, 'INVALID_ARGUMENT'],
    [{ size: 512, clusterSize: Number.NaN }, 'INVALID_ARGUMENT'],
    [{ size: 512, refcountBits: 7 }, 'INVALID_ARGUMENT'],
    [{ size: 512, extendedL2: true, clusterSize: 8192 }, 'INVALID_ARGUMENT'],
    [{ size: 512, compat: '0.10' as const, refcountBits: 8 }, 'INVALID_ARGUMENT'],
    [{ size: 512, dataFileRaw: true }, 'INVALID_ARGUMENT'],
  ])('refuses %o', (options, code) => {
    expect(() => layOutImage(options, mostHostClusters(options))).toThrow(
      expect.objectContaining({ code }),
    );
  });
});
