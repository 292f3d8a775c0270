import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { align8, nameOf } from '../../src/format/fields.ts';
import { geometryOf } from '../../src/format/geometry.ts';
import { type Header, parseHeader } from '../../src/format/header.ts';
import { buildHeaderCluster, readBackingFileName } from '../../src/format/header-cluster.ts';
import {
  backingFormatExtension,
  bitmapsExtension,
  dataFileNameExtension,
  encodeHeaderExtension,
  encryptionExtension,
  featureNamesExtension,
  findExtension,
  type HeaderExtension,
  parseHeaderExtensions,
  readFeatureNames,
  validateHeaderExtensions,
} from '../../src/format/header-extensions.ts';
import { fromHex, toHex, vectorById } from './vector.ts';

const v3 = parseHeader(fromHex(vectorById('header-v3-default').hex));
const v2 = parseHeader(fromHex(vectorById('header-v2-default').hex));
const geometry = geometryOf(v3);

/** A first cluster whose extension area (byte 112 on) begins with these bytes and ends with them. */
function areaOf(...parts: (string | Uint8Array)[]): { bytes: Uint8Array; header: Header } {
  const area = parts.map((part) => (typeof part === 'string' ? part : toHex(part))).join('');
  const bytes = new Uint8Array(112 + area.length / 2 + 64);
  bytes.set(fromHex(area), 112);
  return { bytes, header: { ...v3, backingFileOffset: 112 + area.length / 2 } };
}

const parse = (...parts: (string | Uint8Array)[]): HeaderExtension[] => {
  const { bytes, header } = areaOf(...parts);
  return parseHeaderExtensions(bytes, header);
};

const END = '0000000000000000';

describe('extension area', () => {
  it('may lack the end marker if it is filled exactly', () => {
    expect(parse()).toEqual([]);
    expect(parse('41414141000000084242424242424242')).toHaveLength(1);
  });
  it('may cut the padding of the last extension', () => {
    const [extension] = parse('414141410000000342424299') as [HeaderExtension];
    expect(toHex(extension.padding)).toBe('99');
    expect(toHex(encodeHeaderExtension(extension))).toBe('414141410000000342424299');
  });
  it('ends at the end marker, also one with data', () => {
    expect(parse(END, '41414141000000ff')).toEqual([]);
    expect(parse('0000000000000003ffffff0000000000', '41')).toEqual([]);
  });
  it('may be ended by a backing name inside the header', () => {
    const { bytes } = areaOf('4141414100000000');
    expect(parseHeaderExtensions(bytes, { ...v3, backingFileOffset: 8 })).toEqual([]);
  });
  it.each([
    ['left-over bytes', '00'],
    ['seven left-over bytes', '00000000000000'],
    ['data over the end', '4141414100000001'],
    ['a length of 4 GiB', '41414141ffffffff'],
    ['an end marker over the end', '0000000000000001'],
  ])('refuses %s', (_, area) => {
    expect(() => parse(area)).toThrow(/header extension at byte 112 .* must end by byte/);
  });
  it.each([
    ['a backing format of 16 bytes', `e2792aca00000010${'61'.repeat(16)}`, /0 to 15/],
    ['a bitmaps extension of 16 bytes', `2385287500000010${'00'.repeat(16)}`, /must have 24/],
    ['an encryption pointer of 8 bytes', `0537be7700000008${'00'.repeat(8)}`, /must have 16/],
  ])('refuses %s', (_, area, message) => {
    expect(() => parse(area, END)).toThrow(message);
  });
  it('takes the later of two', () => {
    const two = parse(
      encodeHeaderExtension(backingFormatExtension('raw')),
      encodeHeaderExtension(backingFormatExtension('qcow2')),
      END,
    );
    expect(findExtension(two, 'backing-format')?.format.text).toBe('qcow2');
    expect(findExtension(two, 'bitmaps')).toBeUndefined();
  });
  it('gives feature names even when the area is broken behind them', () => {
    const { bytes, header } = areaOf(encodeHeaderExtension(featureNamesExtension()), 'ff');
    expect(readFeatureNames(bytes, header)).toHaveLength(8);
    expect(readFeatureNames(bytes, { ...header, headerLength: 104 })).toEqual([]);
  });
  it('reads a full name and a short row of feature names', () => {
    const rows = [...Buffer.from('\x00\x05'), ...Buffer.alloc(46, 'n'), 1, 2, 0x61];
    const data = toHex(Uint8Array.from(rows));
    const [extension] = parse(`6803f857000000${(51).toString(16)}${data}0000000000`, END);
    if (extension?.kind !== 'feature-names') throw new Error('not a feature name table');
    expect(extension.rows.map(({ type, bit, name }) => [type, bit, name.text])).toEqual([
      [0, 5, 'n'.repeat(46)],
      [1, 2, 'a'],
    ]);
  });
});

describe('validateHeaderExtensions', () => {
  const check = (header: Partial<Header>, extensions: HeaderExtension[]) => () =>
    validateHeaderExtensions({ ...v3, ...header }, extensions, geometry, 0x100000);
  const pointer = encryptionExtension({ offset: 0x40000, length: 0x1000 });
  const directory = { nbBitmaps: 1, bitmapDirectorySize: 32, bitmapDirectoryOffset: 0x50000 };

  it('accepts what belongs together', () => {
    expect(check({}, [])).not.toThrow();
    expect(check({ cryptMethod: 2 }, [pointer])).not.toThrow();
    expect(check({ autoclearFeatures: 1n }, [bitmapsExtension(directory)])).not.toThrow();
  });
  it('ties the encryption pointer to LUKS', () => {
    expect(check({ cryptMethod: 2 }, [])).toThrow(/needs an encryption header pointer/);
    expect(check({ cryptMethod: 1 }, [pointer])).toThrow(/must not come with/);
    const bad = encryptionExtension({ offset: 0x40200, length: 0x1000 });
    expect(check({ cryptMethod: 2 }, [bad])).toThrow(/offset is 0x40200; must be a multiple/);
    const far = encryptionExtension({ offset: 0x40000, length: 0x100000 });
    expect(check({ cryptMethod: 2 }, [far])).toThrow(/past the end of the file/);
  });
  it.each([
    ['no bitmaps', { nbBitmaps: 0 }, /nb_bitmaps/],
    ['65536 bitmaps', { nbBitmaps: 65536 }, /nb_bitmaps/],
    ['an empty directory', { bitmapDirectorySize: 0 }, /bitmap_directory_size/],
    ['a directory too long', { bitmapDirectorySize: 65535 * 1024 + 1 }, /bitmap_directory_size/],
    ['an unaligned directory', { bitmapDirectoryOffset: 0x200 }, /bitmap_directory_offset/],
    ['a directory past the end', { bitmapDirectoryOffset: 0x110000 }, /past the end/],
  ])('refuses %s, unless the extension is out of sync', (_, change, message) => {
    const broken = [bitmapsExtension({ ...directory, ...change })];
    expect(check({ autoclearFeatures: 1n }, broken)).toThrow(message);
    expect(check({}, broken)).not.toThrow();
  });
});

describe('buildHeaderCluster', () => {
  const kinds = (bytes: Uint8Array) =>
    parseHeaderExtensions(bytes, parseHeader(bytes)).map((extension) => extension.kind);
  const all = [
    ...parse('41414141000000054242424242ffffff', '434343430000000141aaaaaaaaaaaaaa', END),
    bitmapsExtension({ nbBitmaps: 1, bitmapDirectorySize: 32, bitmapDirectoryOffset: 0x50000 }),
    encryptionExtension({ offset: 0x40000, length: 0x1000 }),
    dataFileNameExtension('data'),
    backingFormatExtension('raw'),
  ];

  it('orders the parts and zeroes the padding', () => {
    const header = { ...v3, cryptMethod: 2, incompatibleFeatures: 4n };
    const parts = { header, extensions: all, backingFileName: nameOf('base.raw') };
    const bytes = buildHeaderCluster(parts, 65536);
    expect(kinds(bytes)).toEqual([
      'backing-format',
      'data-file-name',
      'encryption-pointer',
      'feature-names',
      'bitmaps',
      'unknown',
      'unknown',
    ]);
    const unknown = parseHeaderExtensions(bytes, parseHeader(bytes)).slice(-2);
    expect(unknown.map((extension) => toHex(extension.data))).toEqual(['4242424242', '41']);
    expect(unknown.map((extension) => toHex(extension.padding))).toEqual([
      '000000',
      '0'.repeat(14),
    ]);
    expect(readBackingFileName(bytes, parseHeader(bytes))?.text).toBe('base.raw');
  });
  it('drops what the header does not call for', () => {
    const bytes = buildHeaderCluster({ header: v3, extensions: all }, 65536);
    expect(kinds(bytes)).toEqual(['feature-names', 'bitmaps', 'unknown', 'unknown']);
    expect(parseHeader(bytes).backingFileOffset).toBe(0);
    expect(readBackingFileName(bytes, parseHeader(bytes))).toBeUndefined();
  });
  it('writes no feature names into small clusters and version 2', () => {
    const small = { ...v3, clusterBits: 12 };
    expect(kinds(buildHeaderCluster({ header: small, extensions: [] }, 4096))).toEqual([]);
    expect(kinds(buildHeaderCluster({ header: v2, extensions: [] }, 65536))).toEqual([]);
  });
  it('keeps the feature names an image has', () => {
    const rows = [{ type: 1, bit: 9, name: nameOf('later') }];
    const parts = { header: v3, extensions: [featureNamesExtension(rows)] };
    const bytes = buildHeaderCluster(parts, 65536);
    expect(readFeatureNames(bytes, parseHeader(bytes))).toEqual(rows);
  });
  it('lengthens a header of 104 bytes and keeps unknown fields', () => {
    const short = { ...v3, headerLength: 104 };
    expect(
      parseHeader(buildHeaderCluster({ header: short, extensions: [] }, 65536)).headerLength,
    ).toBe(112);
    const unknownFields = new Uint8Array(8).fill(7);
    const long = buildHeaderCluster({ header: { ...v3, unknownFields }, extensions: [] }, 65536);
    expect(parseHeader(long).unknownFields).toEqual(unknownFields);
  });
  it('leaves 376 bytes for the name in a 512-byte cluster with a format of 3', () => {
    const build = (length: number) => () =>
      buildHeaderCluster(
        {
          header: { ...v3, clusterBits: 9 },
          extensions: [backingFormatExtension('raw')],
          backingFileName: nameOf('n'.repeat(length)),
        },
        512,
      );
    expect(build(376)).not.toThrow();
    expect(build(377)).toThrow(/need 513 bytes; must fit one cluster of 512/);
    expect(build(1024)).toThrow(/must have at most 1023/);
  });
  it('tells of a file that ends inside the name', () => {
    const header = { ...v3, backingFileOffset: 120, backingFileSize: 9 };
    expect(() => readBackingFileName(new Uint8Array(128), header)).toThrow(/get a whole copy/);
  });
});

const unknown = fc
  .record({
    type: fc.integer({ min: 1, max: 0x05000000 }),
    data: fc.uint8Array({ maxLength: 40 }),
    fill: fc.integer({ min: 0, max: 255 }),
  })
  .map(({ type, data, fill }): HeaderExtension => {
    const padding = new Uint8Array(align8(data.length) - data.length).fill(fill);
    return { kind: 'unknown', type, data, padding };
  });
const name = fc.uint8Array({ maxLength: 15 });
const known = fc.oneof(
  name.map((raw): HeaderExtension => backingFormatExtension(raw)),
  name.map((raw): HeaderExtension => dataFileNameExtension(raw)),
  fc
    .record({ offset: fc.maxSafeNat(), length: fc.maxSafeNat() })
    .map((pointer): HeaderExtension => encryptionExtension(pointer)),
  fc
    .record({
      nbBitmaps: fc.nat(),
      bitmapDirectorySize: fc.maxSafeNat(),
      bitmapDirectoryOffset: fc.maxSafeNat(),
    })
    .map((pointer): HeaderExtension => bitmapsExtension(pointer)),
);

describe('round trip', () => {
  it('of any list of extensions, padding included', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(unknown, known), { maxLength: 8 }), (extensions) => {
        expect(parse(...extensions.map(encodeHeaderExtension), END)).toEqual(extensions);
      }),
    );
  });
});
