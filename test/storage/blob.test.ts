import fc from 'fast-check';
import { expect, test } from 'vitest';
import { BlobStorage } from '../../src/storage/blob.ts';
import { makeContent } from '../support/data.ts';

const MIB = 1 << 20;

/** A blob that remembers what was asked of it. */
class CountedBlob extends Blob {
  readonly parts: [start: number, length: number][] = [];

  override slice(start = 0, end = this.size): Blob {
    const part = super.slice(start, end);
    this.parts.push([start, part.size]);
    return part;
  }
}

const content = makeContent('mixed', 13 * MIB + 777, 5) as Uint8Array<ArrayBuffer>;

test('reads what is there, in whatever order it is asked for', async () => {
  const read = fc.record({
    offset: fc.integer({ min: 0, max: content.length + 10 }),
    length: fc.oneof(fc.integer({ min: 0, max: 9000 }), fc.integer({ min: 0, max: 5 * MIB })),
    repeat: fc.integer({ min: 1, max: 5 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(read, { maxLength: 6 }), async (reads) => {
      const storage = new BlobStorage(new Blob([content]));
      for (const { offset, length, repeat } of reads)
        for (let i = 0; i < repeat; i++) {
          const into = new Uint8Array(length).fill(0xee);
          const at = offset + i * length;
          const count = await storage.read(at, into);
          const expected = content.subarray(at, at + length);
          expect(count).toBe(expected.length);
          expect(Buffer.compare(into.subarray(0, count), expected)).toBe(0);
          expect(into.subarray(count).every((byte) => byte === 0xee)).toBe(true);
        }
    }),
    { numRuns: 25 },
  );
});

test('reads here and there are as short as they are asked for', async () => {
  const blob = new CountedBlob([content]);
  const storage = new BlobStorage(blob);
  for (const offset of [9 * MIB, 4096, 6 * MIB]) await storage.read(offset, new Uint8Array(512));
  expect(blob.parts.map(([, length]) => length)).toEqual([512, 512, 512]);
});

test('a file that is read on is asked for in windows, each once', async () => {
  const blob = new CountedBlob([content]);
  const storage = new BlobStorage(blob);
  const into = new Uint8Array(65536);
  for (let at = 0; at < content.length; at += into.length) await storage.read(at, into);
  const windows = blob.parts.filter(([, length]) => length > into.length);
  expect(windows.map(([start]) => start)).toEqual([0, 4 * MIB, 8 * MIB, 12 * MIB]);
  expect(blob.parts.length).toBeLessThan(8);
});

test('concurrent reads far apart get their own bytes, although memory is used again', async () => {
  const storage = new BlobStorage(new Blob([content]));
  const length = 1 << 18;
  const places = [0, 1, 2, 3, 4, 5, 6].flatMap((k) => [k * length, 8 * MIB + k * length]);
  for (let round = 0; round < 3; round++)
    await Promise.all(
      places.map(async (at) => {
        const into = new Uint8Array(length);
        for (let k = 0; k < 4; k++) {
          const from = at + k * length;
          await storage.read(from, into);
          expect(Buffer.compare(into, content.subarray(from, from + length))).toBe(0);
        }
      }),
    );
});

/** A blob of which all behind the first 4 MiB is something else. */
function brokenBlob(makePart: (part: Blob) => Blob): Blob {
  const blob = new Blob([content]);
  return Object.assign(new Blob([content]), {
    slice: (start: number, end: number) => {
      const part = blob.slice(start, end);
      return start < 4 * MIB ? part : makePart(part);
    },
  });
}

const gone = () => Promise.reject(new DOMException('it is gone', 'NotReadableError'));
const stream = () => ({ getReader: () => ({ read: gone }) });
const withoutBytes = () => ({
  getReader() {
    throw new TypeError('no byte stream');
  },
});

test.each<[string, string, (part: Blob) => Blob]>([
  ['gone', 'it is gone', () => Object.assign(new Blob([]), { arrayBuffer: gone, stream })],
  ['shorter', 'it has become shorter', (part) => part.slice(0, part.size / 2)],
  [
    'shorter, where memory is not used again',
    'it has become shorter',
    (part) => Object.assign(part.slice(0, part.size / 2), { stream: withoutBytes }),
  ],
])('a file that is %s is an error, also for a window that was read ahead', async (_, why, part) => {
  const storage = new BlobStorage(brokenBlob(part), 'disk.raw');
  const into = new Uint8Array(MIB);
  for (let at = 0; at < 4; at++) expect(await storage.read(at * MIB, into)).toBe(MIB);
  const message = `Could not read 'disk.raw' at offset 4194304: ${why}`;
  await expect(storage.read(4 * MIB, into)).rejects.toMatchObject({ code: 'IO', message });
  const other = new BlobStorage(brokenBlob(part), 'disk.raw');
  await expect(other.read(4 * MIB, into)).rejects.toMatchObject({ code: 'IO', message });
});

test('memory that is not used again does as well', async () => {
  const blob = brokenBlob((part) => Object.assign(part, { stream: withoutBytes }));
  const storage = new BlobStorage(blob);
  const into = new Uint8Array(MIB);
  for (let at = 0; at < 12; at++) {
    await storage.read(at * MIB, into);
    expect(Buffer.compare(into, content.subarray(at * MIB, (at + 1) * MIB))).toBe(0);
  }
});
