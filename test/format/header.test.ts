import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isQcow2Error } from '../../src/errors.ts';
import { nameOf } from '../../src/format/fields.ts';
import {
  encodeHeader,
  type Header,
  parseHeader,
  type ValidateHeaderOptions,
  validateHeader,
  virtualSize,
} from '../../src/format/header.ts';
import { fromHex, toHex, vectorById } from './vector.ts';

const bytes = fromHex(vectorById('header-v3-default').hex);
const good = parseHeader(bytes);
const FILE_SIZE = 196616;

function rejection(
  change: Partial<Header>,
  options: ValidateHeaderOptions = {},
  fileSize = FILE_SIZE,
): string {
  try {
    validateHeader({ ...good, ...change }, fileSize, options);
    return 'accepted';
  } catch (error) {
    if (!isQcow2Error(error)) throw error;
    expect(error.message).not.toMatch(/\n/);
    return `${error.code} ${error.message}`;
  }
}

describe('parseHeader', () => {
  it('takes files of other formats for what they are', () => {
    expect(() => parseHeader(new Uint8Array(0))).toThrow(/magic/);
    expect(() => parseHeader(bytes.map((b, i) => (i === 3 ? 0 : b)))).toThrow(/magic/);
    expect(() => parseHeader(bytes.map((b, i) => (i === 7 ? 1 : b)))).toThrow(/older qcow/);
    expect(() => parseHeader(bytes.map((b, i) => (i === 7 ? 4 : b)))).toThrow(
      'header: version (byte 4) is 4; must be 2 or 3; use a newer program',
    );
  });

  it.each(Array.from({ length: 112 - 8 }, (_, i) => i + 8))('refuses %i bytes', (length) => {
    expect(() => parseHeader(bytes.slice(0, length))).toThrow(/^header: /);
  });

  it('refuses a header_length below 104 and 64-bit values above 2^53-1', () => {
    const short = bytes.slice();
    short[103] = 103;
    expect(() => parseHeader(short)).toThrow(/header_length \(byte 100\) is 103; must be 104/);
    const far = bytes.slice();
    far[40] = 0x80;
    expect(() => parseHeader(far)).toThrow(/l1_table_offset \(byte 40\) is 0x8000000000030000/);
  });

  it('reads no compression type from a header of 104 bytes', () => {
    const short = bytes.slice();
    short[103] = 104;
    short[104] = 7;
    const header = parseHeader(short);
    expect(header.compressionType).toBe(0);
    expect(encodeHeader(header)).toHaveLength(104);
  });

  it('keeps fields of later versions', () => {
    const long = new Uint8Array(128);
    long.set(bytes);
    long[103] = 128;
    long.fill(9, 112);
    expect(parseHeader(long).unknownFields).toEqual(new Uint8Array(16).fill(9));
    expect(toHex(encodeHeader(parseHeader(long)))).toBe(toHex(long));
  });

  it('rounds the virtual size down to sectors', () => {
    expect(virtualSize({ size: 1023 })).toBe(512);
    expect(virtualSize({ size: 2 ** 53 - 1 })).toBe(2 ** 53 - 512);
  });
});

describe('encodeHeader refuses what would be cut', () => {
  const changes: [string, Partial<Header>][] = [
    ['version 2 with feature bits', { version: 2, headerLength: 72, incompatibleFeatures: 1n }],
    ['version 2 with narrow counters', { version: 2, headerLength: 72, refcountOrder: 3 }],
    ['a length that hides fields', { unknownFields: new Uint8Array(8) }],
    ['a length that hides the compression type', { headerLength: 104, compressionType: 1 }],
    ['a fraction', { l1Size: 1.5 }],
    ['a value too wide', { l1Size: 2 ** 32 }],
    ['an unsafe offset', { l1TableOffset: 2 ** 53 }],
    ['a negative word', { autoclearFeatures: -1n }],
  ];
  it.each(changes)('%s', (_, change) => {
    expect(() => encodeHeader({ ...good, ...change })).toThrow(/cannot be stored|must/);
  });
});

describe('validateHeader', () => {
  it('accepts a fresh image and gives its geometry', () => {
    expect(rejection({})).toBe('accepted');
    expect(validateHeader(good, FILE_SIZE).clusterSize).toBe(65536);
  });

  const far = Number.MAX_SAFE_INTEGER;
  const accepted: [string, Partial<Header>][] = [
    ['an L1 table of 32 MiB', { l1Size: 4194304 }],
    ['a backing name of 1023 bytes', { backingFileOffset: 512, backingFileSize: 1023 }],
    ['an empty backing name at the cluster end', { backingFileOffset: 65536 }],
    ['a backing size without offset', { backingFileSize: 99999 }],
    ['a refcount table of 8 MiB', { refcountTableClusters: 128 }],
    ['65536 snapshots', { nbSnapshots: 65536, snapshotsOffset: 65536 }],
    ['an empty disk without L1 table', { size: 0, l1Size: 0, l1TableOffset: 0 }],
    ['unknown compatible and autoclear bits', { compatibleFeatures: 1n << 63n }],
    ['zstd', { incompatibleFeatures: 8n, compressionType: 1 }],
  ];
  it.each(accepted)('accepts %s', (_, change) => {
    expect(rejection(change, {}, far)).toBe('accepted');
  });

  const refused: [string, RegExp, Partial<Header>][] = [
    [
      'cluster_bits 8',
      /^MALFORMED.*cluster_bits \(byte 20\) is 8; must be 9 to/,
      { clusterBits: 8 },
    ],
    ['cluster_bits 22', /^MALFORMED.*cluster_bits/, { clusterBits: 22 }],
    ['cluster_bits 4 billion', /^MALFORMED.*cluster_bits/, { clusterBits: 2 ** 32 - 1 }],
    [
      'extended L2 with small clusters',
      /^MALFORMED.*must be 14 to 21 with extended/,
      { clusterBits: 13, incompatibleFeatures: 16n },
    ],
    ['refcount_order 7', /^MALFORMED.*refcount_order/, { refcountOrder: 7 }],
    ['header_length 108', /^MALFORMED.*header_length.*multiple of 8/, { headerLength: 108 }],
    ['header_length above a cluster', /^MALFORMED.*header_length/, { headerLength: 65544 }],
    ['crypt_method 3', /^UNSUPPORTED.*crypt_method/, { cryptMethod: 3 }],
    ['a compression type unmarked', /^MALFORMED.*compression_type/, { compressionType: 1 }],
    ['type 2 unmarked', /^MALFORMED.*compression_type/, { compressionType: 2 }],
    ['a marked deflate', /^MALFORMED.*compression_type/, { incompatibleFeatures: 8n }],
    [
      'compression type 2',
      /^UNSUPPORTED.*compression_type/,
      { incompatibleFeatures: 8n, compressionType: 2 },
    ],
    ['raw data file without data file', /^MALFORMED.*autoclear/, { autoclearFeatures: 2n }],
    ['a backing name too far', /^MALFORMED.*backing_file_offset/, { backingFileOffset: 65537 }],
    [
      'a backing name of 1024 bytes',
      /^MALFORMED.*backing_file_size \(byte 16\) is 1024; must be 0 to 1023/,
      { backingFileOffset: 512, backingFileSize: 1024 },
    ],
    [
      'a backing name over the cluster end',
      /^MALFORMED.*must be 0 to 36$/,
      { backingFileOffset: 65500, backingFileSize: 37 },
    ],
    ['an L1 table above 32 MiB', /^TOO_LARGE.*l1_size/, { l1Size: 4194305 }],
    ['an L1 table too short', /^MALFORMED.*l1_size/, { l1Size: 0 }],
    ['an unaligned L1 table', /^MALFORMED.*l1_table_offset/, { l1TableOffset: 0x30200 }],
    ['an L1 table on the header', /^MALFORMED.*l1_table_offset/, { l1TableOffset: 0 }],
    [
      'a size needing 2^31 entries',
      /^TOO_LARGE.*size \(byte 24\)/,
      { clusterBits: 9, size: 2 ** 47 },
    ],
    ['an unaligned refcount table', /^MALFORMED.*refcount_table_off/, { refcountTableOffset: 8 }],
    ['a refcount table on the header', /^MALFORMED.*must not be 0/, { refcountTableOffset: 0 }],
    ['no refcount table', /^MALFORMED.*refcount_table_clu/, { refcountTableClusters: 0 }],
    ['a refcount table above 8 MiB', /^TOO_LARGE/, { refcountTableClusters: 129 }],
    ['65537 snapshots', /^TOO_LARGE.*nb_snapshots/, { nbSnapshots: 65537 }],
    ['an unaligned snapshot table', /^MALFORMED.*snapshots_offset/, { snapshotsOffset: 512 }],
    ['snapshots on the header', /^MALFORMED.*snapshots_offset/, { nbSnapshots: 1 }],
  ];
  it.each(refused)('refuses %s', (_, message, change) => {
    expect(rejection(change, {}, far)).toMatch(message);
  });

  const truncated: [string, Partial<Header>][] = [
    ['active L1 table', { l1TableOffset: 0x50000 }],
    ['refcount table', { refcountTableOffset: 0x50000 }],
    ['snapshot table', { snapshotsOffset: 0x50000, nbSnapshots: 1 }],
  ];
  it.each(truncated)('notices that the %s lies past the end of the file', (structure, change) => {
    expect(rejection(change)).toMatch(`TRUNCATED ${structure} at 0x50000`);
    expect(rejection(change, { forCheck: true })).toBe('accepted');
  });

  it('lets check open what it repairs', () => {
    const forCheck = { forCheck: true };
    expect(rejection({ refcountTableClusters: 0 }, forCheck)).toBe('accepted');
    expect(rejection({ refcountTableOffset: 0 }, forCheck)).toBe('accepted');
    expect(rejection({ nbSnapshots: 70000, snapshotsOffset: 65536 }, forCheck)).toBe('accepted');
    expect(rejection({ clusterBits: 8 }, forCheck)).toMatch(/^MALFORMED/);
  });

  it('names unknown features, from the table of the image where it has them', () => {
    const featureNames = [
      { type: 0, bit: 5, name: nameOf('time travel\n') },
      { type: 1, bit: 6, name: nameOf('not this') },
    ];
    expect(rejection({ incompatibleFeatures: 0x60n }, { featureNames })).toBe(
      'UNSUPPORTED header: incompatible_features (byte 72) is 0x60; names unknown features ' +
        '(time travel\\x0a, bit 6); use a newer program',
    );
  });
});

const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const offset = fc.maxSafeNat();
const word = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const common = {
  backingFileOffset: offset,
  backingFileSize: u32,
  clusterBits: u32,
  size: offset,
  cryptMethod: u32,
  l1Size: u32,
  l1TableOffset: offset,
  refcountTableOffset: offset,
  refcountTableClusters: u32,
  nbSnapshots: u32,
  snapshotsOffset: offset,
};
const version2 = fc.record({
  ...common,
  version: fc.constant(2 as const),
  incompatibleFeatures: fc.constant(0n),
  compatibleFeatures: fc.constant(0n),
  autoclearFeatures: fc.constant(0n),
  refcountOrder: fc.constant(4),
  headerLength: fc.constant(72),
  compressionType: fc.constant(0),
  unknownFields: fc.constant(new Uint8Array(0)),
});
const version3 = fc
  .record({
    ...common,
    version: fc.constant(3 as const),
    incompatibleFeatures: word,
    compatibleFeatures: word,
    autoclearFeatures: word,
    refcountOrder: u32,
    compressionType: fc.integer({ min: 0, max: 255 }),
    unknownFields: fc.uint8Array({ maxLength: 64 }),
  })
  .map((fields) => ({ ...fields, headerLength: 112 + fields.unknownFields.length }));

describe('round trip', () => {
  it('of any header', () => {
    fc.assert(
      fc.property(fc.oneof(version2, version3), (header) => {
        expect(parseHeader(encodeHeader(header))).toEqual(header);
      }),
    );
  });
});
