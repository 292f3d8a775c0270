import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type BitmapDirectoryEntry,
  encodeBitmapDirectory,
  parseBitmapDirectory,
} from '../../src/format/bitmap-directory.ts';
import {
  type BitmapTableEntry,
  bitmapClusterCoverage,
  bitmapTableNeeded,
  decodeBitmapTableEntry,
  dirtyRanges,
  encodeBitmapTable,
  markDirty,
  parseBitmapTable,
  validateBitmapTableSize,
} from '../../src/format/bitmap-table.ts';
import { nameOf } from '../../src/format/fields.ts';
import { geometryOf } from '../../src/format/geometry.ts';

const geometry = geometryOf({ clusterBits: 16, refcountOrder: 4, incompatibleFeatures: 0n });
const entry: BitmapDirectoryEntry = {
  bitmapTableOffset: 0xb0000,
  bitmapTableSize: 1,
  flags: 2,
  type: 1,
  granularityBits: 16,
  extraData: new Uint8Array(0),
  name: nameOf('b0'),
};
const parse = (entries: BitmapDirectoryEntry[], count = entries.length) =>
  parseBitmapDirectory(encodeBitmapDirectory(entries), count, geometry);

describe('bitmap directory', () => {
  it.each<[string, Partial<BitmapDirectoryEntry>, RegExp]>([
    ['table offset 0', { bitmapTableOffset: 0 }, /bitmap_table_offset \(byte 0\) is 0x0/],
    ['an unaligned table', { bitmapTableOffset: 0xb0200 }, /bitmap_table_offset/],
    ['an empty table', { bitmapTableSize: 0 }, /must be 1 to 8192/],
    ['more than 512 MiB of data', { bitmapTableSize: 8193 }, /must be 1 to 8192/],
    ['flag bit 3', { flags: 8 }, /flags \(byte 12\) is 0x8/],
    ['flag bit 31', { flags: 2 ** 31 }, /flags/],
    ['type 2', { type: 2 }, /type \(byte 16\) is 2/],
    ['granularity 2^8', { granularityBits: 8 }, /must be 9 to 31/],
    ['granularity 2^32', { granularityBits: 32 }, /must be 9 to 31/],
    ['a name of 1024 bytes', { name: nameOf('n'.repeat(1024)) }, /must be at most 1023/],
  ])('refuses %s', (_, change, message) => {
    expect(() => parse([{ ...entry, ...change }])).toThrow(message);
  });
  it('refuses duplicates and a directory that is not exactly filled', () => {
    expect(() => parse([entry, entry])).toThrow(/entry 1: at byte 32 repeats the name/);
    const two = [entry, { ...entry, name: nameOf('b1') }];
    expect(() => parse(two, 1)).toThrow(/has 64 bytes, its 1 entries take 32/);
    expect(() => parse(two, 3)).toThrow(/entry 2: needs/);
    expect(() => parse(two, 2 ** 32 - 1)).toThrow(/entry 2: needs/);
  });
  it('bounds the sizes in an entry', () => {
    const bytes = encodeBitmapDirectory([entry]);
    new DataView(bytes.buffer).setUint32(20, 2 ** 32 - 1);
    expect(() => parseBitmapDirectory(bytes, 1, geometry)).toThrow(/the directory has 32 bytes/);
  });
  it('ignores padding', () => {
    const bytes = encodeBitmapDirectory([entry]).fill(0xff, 26);
    expect(parseBitmapDirectory(bytes, 1, geometry)).toEqual([entry]);
  });
  it('round trips', () => {
    const any = fc.record({
      bitmapTableOffset: fc.integer({ min: 1, max: 2 ** 31 }).map((n) => n * 65536),
      bitmapTableSize: fc.integer({ min: 1, max: 8192 }),
      flags: fc.integer({ min: 0, max: 7 }),
      type: fc.constant(1),
      granularityBits: fc.integer({ min: 9, max: 31 }),
      extraData: fc.uint8Array({ maxLength: 20 }),
      name: fc.uint8Array({ maxLength: 40 }).map(nameOf),
    });
    const list = fc.uniqueArray(any, { maxLength: 6, selector: (e) => e.name.raw.join() });
    fc.assert(
      fc.property(list, (entries) => {
        expect(parse(entries)).toEqual(entries);
      }),
    );
  });
});

describe('bitmap table', () => {
  it.each([
    0x2n,
    0x100n,
    1n << 56n,
    1n << 63n,
    0xa0200n,
    0xa0001n,
    0xffff_ffff_ffff_ffffn,
    1n << 54n,
  ])('refuses %s', (word) => {
    expect(() => decodeBitmapTableEntry(word, geometry)).toThrow(/bitmap table entry .* invalid/);
  });
  it('needs an exact size unless in use', () => {
    const disk = 10 * 1024 * 1024;
    const wrong = { ...entry, bitmapTableSize: 2 };
    expect(() => validateBitmapTableSize(entry, disk, geometry)).not.toThrow();
    expect(() => validateBitmapTableSize(wrong, disk, geometry)).toThrow(/must be 1 for a disk/);
    expect(() => validateBitmapTableSize({ ...wrong, flags: 3 }, disk, geometry)).not.toThrow();
    expect(bitmapTableNeeded(0, 16, geometry)).toBe(0);
    expect(bitmapTableNeeded(2 ** 35 + 1, 16, geometry)).toBe(2);
    expect(bitmapClusterCoverage(16, geometry)).toBe(2 ** 35);
  });
  it('round trips', () => {
    const any = fc.oneof(
      fc.constant<BitmapTableEntry>({ kind: 'zeros' }),
      fc.constant<BitmapTableEntry>({ kind: 'ones' }),
      fc
        .integer({ min: 1, max: 2 ** 31 })
        .map((n): BitmapTableEntry => ({ kind: 'data', hostOffset: n * 65536 })),
    );
    fc.assert(
      fc.property(fc.array(any, { maxLength: 20 }), (entries) => {
        expect(parseBitmapTable(encodeBitmapTable(entries), geometry)).toEqual(entries);
      }),
    );
  });
});

describe('bitmap data', () => {
  it('clips to the disk and to the data', () => {
    const data = new Uint8Array(2).fill(0xff);
    expect([...dirtyRanges(data, 9, 1000)]).toEqual([{ offset: 0, length: 1000 }]);
    expect([...dirtyRanges(data, 9, 2 ** 40, 8192)]).toEqual([{ offset: 8192, length: 8192 }]);
    expect([...dirtyRanges(data, 9, 8192, 8192)]).toEqual([]);
    expect([...dirtyRanges(Uint8Array.of(0b1101), 9, 1e6)]).toEqual([
      { offset: 0, length: 512 },
      { offset: 1024, length: 1024 },
    ]);
  });
  it('ignores what lies outside when marking', () => {
    const data = new Uint8Array(1);
    markDirty(data, 9, { offset: 0, length: 0 });
    expect(data[0]).toBe(0);
    markDirty(data, 9, { offset: 0, length: 4096 + 513 }, 4096);
    expect(data[0]).toBe(0b11);
    markDirty(data, 9, { offset: 4096 + 7 * 512 + 1, length: 1e9 }, 4096);
    expect(data[0]).toBe(0b10000011);
  });
  it('reports exactly what was marked', () => {
    const range = fc.record({ offset: fc.nat(50000), length: fc.nat(9000) });
    fc.assert(
      fc.property(fc.array(range, { maxLength: 5 }), fc.nat(60000), (ranges, disk) => {
        const data = new Uint8Array(16);
        for (const r of ranges) markDirty(data, 9, r);
        const dirty = [...dirtyRanges(data, 9, disk)];
        for (let unit = 0; unit * 512 < disk; unit++) {
          const at = unit * 512;
          const touched = ranges.some(
            (r) => r.length > 0 && r.offset < at + 512 && r.offset + r.length > at,
          );
          const found = dirty.some((d) => d.offset <= at && at < d.offset + d.length);
          expect(found).toBe(touched);
        }
        expect(dirty.every((d) => d.length > 0 && d.offset + d.length <= disk)).toBe(true);
      }),
    );
  });
});
