import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  additionalSectors,
  compressedClusters,
  compressedOffsetLimit,
  decodeCompressedDescriptor,
  encodeCompressed,
  writeCompressed,
} from '../../src/format/compressed-descriptor.ts';
import { geometryOf } from '../../src/format/geometry.ts';
import { decodeL1Entry, encodeL1Entry, writeL1 } from '../../src/format/l1-entry.ts';
import {
  decodeExtendedL2Entry,
  decodeL2Entry,
  encodeL2Normal,
  encodeL2ZeroAllocated,
  encodeSubclusterBitmap,
  L2_COMPRESSED,
  L2_COPIED,
  type L2Context,
  subclusterState,
  writeL2Normal,
  writeL2ZeroAllocated,
} from '../../src/format/l2-entry.ts';

const geometryFor = (clusterBits: number, extended = false) =>
  geometryOf({ clusterBits, refcountOrder: 4, incompatibleFeatures: extended ? 16n : 0n });
const geometry = geometryFor(16);
const image: L2Context = { geometry, version: 3, dataFile: false };
const withDataFile: L2Context = { geometry, version: 3, dataFile: true, guestOffset: 0x20000 };

describe('L1 entry', () => {
  it('reports reserved bits, bit 0 among them, and misalignment', () => {
    expect(decodeL1Entry(0x8000000000040001n, geometry)).toMatchObject({
      l2Offset: 0x40000,
      copied: true,
      reservedBits: 1n,
      invalid: undefined,
    });
    expect(decodeL1Entry(0x7f000000000401ffn, geometry).reservedBits).toBe(0x7f000000000001ffn);
    expect(decodeL1Entry(0x40200n, geometry).invalid).toBe('unaligned');
    expect(decodeL1Entry(0x00ffffffffff0000n, geometry).l2Offset).toBe(2 ** 56 - 65536);
  });
  it.each([0.5, 1, 511, -512, 2 ** 53, Number.NaN])('refuses to store %d', (offset) => {
    expect(() => encodeL1Entry(offset, true)).toThrow(/multiple of 512 below 2\^53/);
    const view = new DataView(new ArrayBuffer(8));
    expect(() => writeL1(view, 0, offset, true)).toThrow(/multiple of 512/);
    expect(() => writeL2Normal(view, 0, offset, true)).toThrow(/multiple of 512/);
    expect(() => writeL2ZeroAllocated(view, 0, offset, true)).toThrow(/multiple of 512/);
  });
});

describe('standard L2 entry', () => {
  it.each([
    ['unallocated with bit 63', 0x8000000000000000n, image, 'unallocated', undefined],
    [
      'data file, offset 0',
      0x8000000000000000n,
      { ...withDataFile, guestOffset: 0 },
      'normal',
      undefined,
    ],
    [
      'data file, offset 0 elsewhere',
      0x8000000000000000n,
      withDataFile,
      'normal',
      'host-not-guest',
    ],
    ['data file, zero at offset 0', 0x8000000000000001n, withDataFile, 'zero-plain', undefined],
    ['data file, wrong offset', 0x8000000000030000n, withDataFile, 'normal', 'host-not-guest'],
    ['data file, no bit 63', 0x20000n, withDataFile, 'normal', undefined],
    [
      'data file, compressed',
      0x4000000000050000n,
      withDataFile,
      'compressed',
      'compressed-in-data-file',
    ],
    ['plain zero in version 2', 1n, { ...image, version: 2 }, 'zero-plain', 'zero-in-v2'],
    [
      'allocated zero in version 2',
      0x50001n,
      { ...image, version: 2 },
      'zero-allocated',
      'zero-in-v2',
    ],
    ['unaligned data', 0x50200n, image, 'normal', 'unaligned'],
    ['unaligned zero', 0x50201n, image, 'zero-allocated', 'unaligned'],
    ['compressed with bit 63', 0xc000000000050000n, image, 'compressed', undefined],
    ['compressed beyond 2^53', 0x4030000000000000n, image, 'compressed', 'offset-too-large'],
  ] as const)('%s', (_, word, context, kind, invalid) => {
    const entry = decodeL2Entry(word, context as L2Context);
    expect(entry).toMatchObject({ kind, invalid, word });
    expect(entry.copied).toBe((word & L2_COPIED) !== 0n);
  });
  it('reports reserved bits of uncompressed entries', () => {
    expect(decodeL2Entry(0x3f000000000501fen, image).reservedBits).toBe(0x3f000000000001fen);
    expect(decodeL2Entry(0x70000000000501fen, image).reservedBits).toBe(0n);
  });
});

describe('extended L2 entry', () => {
  const context: L2Context = { ...image, geometry: geometryFor(16, true) };
  it.each([
    ['overlap', 0x50000n, 0x0000000100000001n, 'allocated', 'alloc-and-zero'],
    ['alloc without offset', 0n, 1n, 'unallocated', 'alloc-without-offset'],
    ['bitmap on compressed', 0x4000000000050000n, 1n, 'compressed', 'bitmap-on-compressed'],
    ['unaligned', 0x50200n, 0n, 'allocated', 'unaligned'],
    ['bit 0 has no effect', 0x50001n, 1n, 'allocated', undefined],
    ['bit 63 without offset', 0x8000000000000000n, 0n, 'unallocated', undefined],
  ] as const)('%s', (_, word, bitmap, kind, invalid) => {
    expect(decodeExtendedL2Entry(word, bitmap, context)).toMatchObject({ kind, invalid });
  });
  it('takes offset 0 with bit 63 as allocated in a data file', () => {
    const inDataFile = { ...context, dataFile: true, guestOffset: 0 };
    const entry = decodeExtendedL2Entry(1n << 63n, 0x8000000000000001n, inDataFile);
    expect(entry.invalid).toBeUndefined();
    expect([0, 1, 31].map((index) => subclusterState(entry, index))).toEqual([
      'normal',
      'unallocated-in-cluster',
      'zero-allocated',
    ]);
  });
  it('knows bit 0 as reserved', () => {
    expect(decodeExtendedL2Entry(0x50001n, 0n, context).reservedBits).toBe(1n);
  });
});

describe('compressed descriptor', () => {
  it.each([
    [0x4e000000000570f4n, 16, 0x570f4, 56, 28940],
    [0x4e4000000005e1aan, 16, 0x5e1aa, 57, 29270],
    [0x4000000000000a08n, 9, 0xa08, 0, 504],
    [0x4000000000005015n, 12, 0x5015, 0, 491],
    [0x4008000000a00802n, 21, 0xa00802, 4, 2558],
  ])('%s', (word, bits, hostOffset, sectors, maxBytes) => {
    expect(decodeCompressedDescriptor(word, geometryFor(bits))).toEqual({
      hostOffset,
      additionalSectors: sectors,
      maxBytes,
    });
  });
  it('counts sectors the way a writer needs them', () => {
    expect(additionalSectors(0x570f4, 28854)).toBe(56);
    expect(additionalSectors(511, 1)).toBe(0);
    expect(additionalSectors(511, 2)).toBe(1);
  });
  it('covers every cluster of the sector-rounded range', () => {
    const stream = { hostOffset: 0x5fe00, additionalSectors: 1, maxBytes: 1024 };
    expect(compressedClusters(stream, geometry)).toEqual({ first: 5, last: 6 });
  });
  it.each([
    [2 ** 49, 10, 21],
    [2 ** 53, 10, 9],
    [-1, 10, 16],
    [0, 0, 16],
    [0, 2 ** 17 + 1, 16],
    [0.5, 10, 16],
    [0, Number.NaN, 16],
  ])('refuses offset %d, length %d, cluster_bits %i', (offset, length, bits) => {
    const message = /does not fit a descriptor/;
    expect(() => encodeCompressed(offset, length, geometryFor(bits))).toThrow(message);
    const view = new DataView(new ArrayBuffer(8));
    expect(() => writeCompressed(view, 0, offset, length, geometryFor(bits))).toThrow(message);
  });
});

const clusterBits = fc.integer({ min: 9, max: 21 });
const unit = fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true });

function writtenWord(write: (view: DataView) => void): bigint {
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, 2n ** 64n - 1n);
  write(view);
  return view.getBigUint64(0);
}

describe('round trip', () => {
  it('of normal, zero and L1 entries, in both encoders', () => {
    fc.assert(
      fc.property(clusterBits, unit, fc.boolean(), (bits, where, copied) => {
        const context: L2Context = { ...image, geometry: geometryFor(bits) };
        const size = 2 ** bits;
        const offset = Math.floor((where * (2 ** 53 - size)) / size) * size + size;
        const normal = encodeL2Normal(offset, copied);
        const zero = encodeL2ZeroAllocated(offset, copied);
        expect(writtenWord((v) => writeL2Normal(v, 0, offset, copied))).toBe(normal);
        expect(writtenWord((v) => writeL2ZeroAllocated(v, 0, offset, copied))).toBe(zero);
        expect(writtenWord((v) => writeL1(v, 0, offset, copied))).toBe(normal);
        const valid = { hostOffset: offset, copied, reservedBits: 0n, invalid: undefined };
        expect(decodeL2Entry(normal, context)).toMatchObject({ ...valid, kind: 'normal' });
        expect(decodeL2Entry(zero, context)).toMatchObject({ ...valid, kind: 'zero-allocated' });
      }),
    );
  });
  it('of compressed entries, in both encoders', () => {
    fc.assert(
      fc.property(clusterBits, unit, unit, (bits, where, howLong) => {
        const g = geometryFor(bits);
        const offset = Math.floor(where * compressedOffsetLimit(g));
        const length = Math.floor(howLong * (g.clusterSize - 1)) + 1;
        const word = encodeCompressed(offset, length, g);
        expect(writtenWord((v) => writeCompressed(v, 0, offset, length, g))).toBe(word);
        const entry = decodeL2Entry(word, { ...image, geometry: g });
        expect(entry).toMatchObject({ kind: 'compressed', hostOffset: offset, copied: false });
        if (entry.kind !== 'compressed') return;
        expect(entry.maxBytes).toBeGreaterThanOrEqual(length);
        expect(entry.maxBytes).toBeLessThan(length + 512);
        expect(encodeCompressed(offset, entry.maxBytes, g)).toBe(word);
      }),
    );
  });
  it('of any word: nothing is lost but what makes it invalid', () => {
    const anyWord = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
    fc.assert(
      fc.property(anyWord, anyWord, clusterBits, fc.boolean(), (word, bitmap, bits, dataFile) => {
        const context: L2Context = { geometry: geometryFor(bits), version: 3, dataFile };
        const entry = decodeL2Entry(word, context);
        expect(entry.word).toBe(word);
        expect(entry.kind === 'compressed').toBe((word & L2_COMPRESSED) !== 0n);
        const extended = decodeExtendedL2Entry(word, bitmap, context);
        expect(encodeSubclusterBitmap(extended.allocBits, extended.zeroBits)).toBe(bitmap);
        decodeL1Entry(word, context.geometry);
      }),
    );
  });
});
