import { describe, expect, it } from 'vitest';
import { parseZstdFrame } from '../../src/codecs/zstd-frame.ts';
import {
  blockHeader,
  bytes,
  header,
  le,
  raw,
  rle,
  sizedHeader,
  skippable,
  windowHeader,
} from './frames.ts';

describe('frame headers', () => {
  const last = raw([]);
  it.each([
    ['one byte, single segment', header(0x20, 200), 200, 200, false],
    ['two bytes count from 256', header(0x60, ...le(0xff00, 2)), 65536, 65536, false],
    ['four bytes', header(0xa0, ...le(0x12345678, 4)), 0x12345678, 0x12345678, false],
    ['eight bytes', header(0xe0, ...le(2 ** 40 + 5, 8)), 2 ** 40 + 5, 2 ** 40 + 5, false],
    ['no size, 1 KiB window', header(0x00, 0x00), undefined, 1024, true],
    [
      'no size, 128 KiB and three eighths',
      header(0x00, (7 << 3) | 3),
      undefined,
      131072 + 3 * 16384,
      true,
    ],
    ['no size, largest window', header(0x00, 0xff), undefined, 2 ** 41 + 7 * 2 ** 38, true],
    ['size and window', header(0x40, 0x50, ...le(0, 2)), 256, 2 ** 20, true],
    ['a dictionary id of zero', header(0x23, 0, 0, 0, 0, 9), 9, 9, false],
  ])('%s', (_, head, contentSize, windowSize, hasWindowDescriptor) => {
    const stream = bytes(head, last, [1, 2, 3]);
    expect(parseZstdFrame(stream, 0)).toEqual({
      kind: 'data',
      length: head.length + 3,
      headerLength: head.length,
      contentSize,
      windowSize,
      hasWindowDescriptor,
      hasChecksum: false,
    });
  });

  it.each([
    ['reserved bit', header(0x28, 1), 'reserved bit 3'],
    ['a dictionary', header(0x21, 5, 1), 'dictionary'],
    ['another magic number', [0x27, 0xb5, 0x2f, 0xfd, 0x20, 1], 'no zstd frame at byte 0'],
    ['a zlib header', [0x78, 0x9c, 0, 0, 0, 0], 'no zstd frame at byte 0'],
  ])('refuses %s', (_, head, reason) => {
    expect(() => parseZstdFrame(bytes(head, last), 0)).toThrow(
      expect.objectContaining({ code: 'BAD_DATA', message: expect.stringContaining(reason) }),
    );
  });
});

describe('extent', () => {
  it('walks raw, RLE and compressed blocks and the checksum', () => {
    const frame = bytes(
      header(0x24, 50),
      raw([1, 2, 3], false),
      rle(7, 40, false),
      blockHeader(2, 6, true),
      [0, 0, 0, 0, 0, 0],
      [9, 9, 9, 9],
    );
    const stream = bytes([1, 2, 3], frame, [5, 5, 5]);
    expect(parseZstdFrame(stream, 3)).toMatchObject({ length: frame.length, hasChecksum: true });
  });

  it.each([0, 15])('steps over skippable frames of magic number %i', (digit) => {
    const stream = bytes(skippable(20, 0x184d2a50 + digit), [1]);
    expect(parseZstdFrame(stream, 0)).toEqual({ kind: 'skippable', length: 28 });
  });

  it('takes a magic number next to the skippable ones for garbage', () => {
    for (const magic of [0x184d2a4f, 0x184d2a60]) {
      expect(() => parseZstdFrame(bytes(skippable(0, magic)), 0)).toThrow('no zstd frame');
    }
  });

  it('refuses a reserved block type and a block above 128 KiB or the window', () => {
    const reserved = bytes(windowHeader(7), blockHeader(3, 1, true), [0]);
    expect(() => parseZstdFrame(reserved, 0)).toThrow('reserved type 3');
    const large = bytes(windowHeader(12), rle(1, 128 * 1024 + 1));
    expect(() => parseZstdFrame(large, 0)).toThrow('131073 bytes');
    const beyondWindow = bytes(windowHeader(0), rle(1, 1025));
    expect(() => parseZstdFrame(beyondWindow, 0)).toThrow('1025 bytes');
  });

  it.each([
    ['a data frame', bytes(sizedHeader(12), raw([1, 2, 3], false), rle(1, 9))],
    ['a frame with checksum', bytes(header(0x24, 3), raw([1, 2, 3]), [1, 2, 3, 4])],
    ['a skippable frame', bytes(skippable(5))],
  ])('reports every cut of %s', (_, frame) => {
    for (let length = 0; length < frame.length; length++) {
      expect(() => parseZstdFrame(frame.subarray(0, length), 0)).toThrow(
        expect.objectContaining({
          code: 'BAD_DATA',
          message: expect.stringContaining('ends inside'),
        }),
      );
    }
    expect(parseZstdFrame(frame, 0).length).toBe(frame.length);
  });
});
