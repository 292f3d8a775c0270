import { describe, expect, expectTypeOf, it } from 'vitest';
import {
  type GuestOffset,
  geometryOf,
  guestOffsetOf,
  type HostOffset,
  l1Index,
  l1Needed,
  l2Index,
  maxRefcount,
  maxVirtualSize,
  refcountBlockIndex,
  refcountTableEntries,
  refcountTableIndex,
  requireInFile,
  subclusterIndex,
  vmStateOffset,
} from '../../src/format/geometry.ts';

const geometry = (clusterBits: number, extended = false, refcountOrder = 4) =>
  geometryOf({ clusterBits, refcountOrder, incompatibleFeatures: extended ? 16n : 0n });

const KIB = 1024;
const GIB = KIB ** 3;

describe('geometry', () => {
  it.each([
    [9, 64, 32 * KIB, 61, 128 * KIB],
    [12, 512, 2 * KIB ** 2, 58, 8 * KIB ** 2],
    [16, 8192, 512 * KIB ** 2, 54, 2 * GIB],
    [21, 262144, 512 * GIB, 49, 2 * KIB * GIB],
  ])('cluster_bits %i', (bits, entries, coverage, x, perBlock) => {
    const g = geometry(bits);
    expect(g.l2Entries).toBe(entries);
    expect(g.l2Coverage).toBe(coverage);
    expect(g.compressedOffsetBits).toBe(x);
    expect(g.refcountBlockEntries * g.clusterSize).toBe(perBlock);
    expect([g.subclustersPerCluster, g.subclusterSize]).toEqual([1, g.clusterSize]);
  });

  it.each([
    [14, 1024, 16 * KIB ** 2, 512],
    [16, 4096, 256 * KIB ** 2, 2048],
    [21, 131072, 256 * GIB, 65536],
  ])('cluster_bits %i with extended L2 entries', (bits, entries, coverage, subcluster) => {
    const g = geometry(bits, true);
    expect(g.l2EntrySize).toBe(16);
    expect(g.l2Entries).toBe(entries);
    expect(g.l2Coverage).toBe(coverage);
    expect([g.subclustersPerCluster, g.subclusterSize]).toEqual([32, subcluster]);
  });

  it.each([
    [8, false],
    [22, false],
    [13, true],
    [16.5, false],
  ])('refuses cluster_bits %d (extended: %s)', (bits, extended) => {
    expect(() => geometry(bits, extended)).toThrow(/cluster_bits/);
  });

  it('stays exact near 2^53', () => {
    const g = geometry(9);
    const guest = 2 ** 53 - 1;
    expect(l1Index(guest, g)).toBe(2 ** 38 - 1);
    expect(l2Index(guest, g)).toBe(63);
    expect(guestOffsetOf(2 ** 38 - 1, 63, g)).toBe(2 ** 53 - 512);
    expect(subclusterIndex(guest, geometry(16, true))).toBe(31);
  });

  it('counts L1 entries, VM state and sizes', () => {
    const g = geometry(16);
    expect([0, 1, g.l2Coverage, g.l2Coverage + 1].map((size) => l1Needed(size, g))).toEqual([
      0, 1, 1, 2,
    ]);
    expect(vmStateOffset(10 * KIB ** 2, g)).toBe(512 * KIB ** 2);
    expect(maxVirtualSize(g)).toBe(2 * KIB ** 2 * GIB);
    expect(maxVirtualSize(geometry(9))).toBe(128 * GIB);
    expect(maxVirtualSize(geometry(21))).toBe(2 ** 53 - 512);
  });

  it('finds counters', () => {
    const g = geometry(9, false, 0);
    expect(g.refcountBlockEntries).toBe(4096);
    expect([refcountTableIndex(4097, g), refcountBlockIndex(4097, g)]).toEqual([1, 1]);
    expect(refcountTableEntries(2, g)).toBe(128);
    expect([0, 4, 6].map(maxRefcount)).toEqual([1n, 65535n, 2n ** 64n - 1n]);
  });

  it('lets a region end less than one cluster past the end of the file', () => {
    const g = geometry(16);
    const inFile = (offset: number, bytes: number, size: number) => () =>
      requireInFile('L1 table', offset, bytes, size, g);
    expect(inFile(0x30000, 8, 0x30000)).not.toThrow();
    expect(inFile(0x30000, 0x10000, 0x30001)).not.toThrow();
    expect(inFile(0x30000, 0x10000, 0x30000)).toThrow(/L1 table at 0x30000 .* end of the file/);
    expect(inFile(2 ** 52, 0, 0)).not.toThrow();
  });

  it('keeps guest and host offsets apart', () => {
    expectTypeOf<number>().toExtend<GuestOffset>();
    expectTypeOf<GuestOffset>().not.toExtend<HostOffset>();
    expectTypeOf<HostOffset>().not.toExtend<GuestOffset>();
  });
});
