import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isQcow2Error } from '../../src/errors.ts';
import {
  parseBitmapDirectory,
  parseBitmapsPointer,
  validateBitmapsPointer,
} from '../../src/format/bitmap-directory.ts';
import { dirtyRanges, parseBitmapTable } from '../../src/format/bitmap-table.ts';
import { parseEncryptionPointer } from '../../src/format/encryption-pointer.ts';
import { parseFeatureNames } from '../../src/format/feature-bits.ts';
import { geometryOf } from '../../src/format/geometry.ts';
import { parseHeader, validateHeader } from '../../src/format/header.ts';
import { readBackingFileName } from '../../src/format/header-cluster.ts';
import {
  findExtension,
  parseHeaderExtensions,
  readFeatureNames,
  validateHeaderExtensions,
} from '../../src/format/header-extensions.ts';
import { parseLuksHeader, validateLuksHeader } from '../../src/format/luks-header.ts';
import {
  measureSnapshotTable,
  parseSnapshotTable,
  validateSnapshotL1,
} from '../../src/format/snapshot-table.ts';
import { fromHex, VECTORS, vectorById } from './vector.ts';

const geometry = geometryOf({ clusterBits: 16, refcountOrder: 4, incompatibleFeatures: 0n });

/** All that opening an image does to its first cluster. */
function openHeader(bytes: Uint8Array, fileSize = 0x1000000): void {
  const header = parseHeader(bytes);
  const featureNames = readFeatureNames(bytes, header);
  const extensions = parseHeaderExtensions(bytes, header);
  const found = validateHeader(header, fileSize, { featureNames });
  validateHeaderExtensions(header, extensions, found, fileSize);
  readBackingFileName(bytes, header);
  findExtension(extensions, 'bitmaps');
}

function readLuks(bytes: Uint8Array): void {
  validateLuksHeader(parseLuksHeader(bytes), 2068480);
}

/** Readers that must take any bytes: the last argument is a count a file could claim. */
const READERS: Record<string, (bytes: Uint8Array, count: number) => void> = {
  'header and extensions': (bytes) => openHeader(bytes),
  'extensions alone': (bytes) =>
    parseHeaderExtensions(bytes, {
      ...parseHeader(fromHex(vectorById('header-v3-default').hex)),
      headerLength: 0,
    }),
  'feature names': (bytes) => parseFeatureNames(bytes),
  'snapshot table': (bytes, count) => {
    measureSnapshotTable(bytes, count);
    for (const snapshot of parseSnapshotTable(bytes, count)) {
      validateSnapshotL1(snapshot, geometry, 0x1000000);
    }
  },
  'snapshot table for check': (bytes, count) =>
    parseSnapshotTable(bytes, count, { forCheck: true }),
  'bitmap directory': (bytes, count) => parseBitmapDirectory(bytes, count, geometry),
  'bitmaps extension': (bytes) =>
    validateBitmapsPointer(parseBitmapsPointer(bytes), geometry, 0x1000000),
  'bitmap table': (bytes) => parseBitmapTable(bytes, geometry),
  'bitmap data': (bytes, count) => [...dirtyRanges(bytes, 9, count)],
  'encryption pointer': (bytes) => parseEncryptionPointer(bytes),
  'LUKS header': readLuks,
};

/** Runs a reader: it returns, or throws an error of this package in one line. */
function tame(read: () => void): void {
  try {
    read();
  } catch (error) {
    if (!isQcow2Error(error)) throw error;
    expect(error.message).not.toMatch(/[\n\r]/);
    expect(error.message.length).toBeLessThan(400);
  }
}

const counts = fc.oneof(fc.nat(8), fc.constant(65536), fc.constant(2 ** 32 - 1));

describe('any bytes: a value or an error of this package, at once', () => {
  it.each(Object.entries(READERS))('%s', (_, read) => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 700 }), counts, (bytes, count) => {
        tame(() => read(bytes, count));
      }),
      { numRuns: 500 },
    );
  });
});

/** Structures of real images: the reader that takes vectors of a kind. */
const READER_OF_KIND: Record<string, keyof typeof READERS> = {
  header: 'header and extensions',
  snapshot_table_entry: 'snapshot table',
  bitmap_directory_entry: 'bitmap directory',
  luks1_header: 'LUKS header',
};

const RECORDED = VECTORS.flatMap((vector): [string, Uint8Array, (bytes: Uint8Array) => void][] => {
  const read = READERS[READER_OF_KIND[vector.kind] ?? ''];
  return read ? [[vector.id, fromHex(vector.hex), (bytes) => read(bytes, 1)]] : [];
});

describe('recorded bytes with some changed', () => {
  it('of four kinds', () => expect(RECORDED).toHaveLength(32 + 4 + 6 + 1));

  it.each(RECORDED)('%s', (_, original, read) => {
    const at = fc.nat(original.length - 1);
    const value = fc.constantFrom(0, 1, 0x40, 0x7f, 0x80, 0xfe, 0xff);
    fc.assert(
      fc.property(fc.array(fc.tuple(at, value), { minLength: 1, maxLength: 4 }), (changes) => {
        const bytes = original.slice();
        for (const [index, byte] of changes) bytes[index] = byte;
        tame(() => read(bytes));
      }),
    );
    for (let length = 0; length < original.length; length++) {
      tame(() => read(original.slice(0, length)));
    }
  });
});

describe('numbers in the bytes cost nothing', () => {
  it('extension length, snapshot count, name sizes', () => {
    const before = process.memoryUsage().arrayBuffers;
    const bytes = new Uint8Array(64).fill(0xff);
    for (const read of Object.values(READERS)) tame(() => read(bytes, 2 ** 32 - 1));
    const zeros = new Uint8Array(4096);
    const started = performance.now();
    tame(() => measureSnapshotTable(zeros, 2 ** 32 - 1));
    tame(() => parseSnapshotTable(zeros, 2 ** 32 - 1));
    tame(() => parseBitmapDirectory(zeros, 2 ** 32 - 1, geometry));
    expect(performance.now() - started).toBeLessThan(1000);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1 << 20);
  });
});
