import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import {
  ZSTD_CHECKSUM,
  ZSTD_INVALID,
  ZSTD_LONG,
  ZSTD_OK,
  ZSTD_SHORT,
  ZSTD_TRUNCATED,
  ZSTD_UNSUPPORTED,
} from '../../src/kernel/abi.ts';
import { xxh64 } from '../../src/kernel/scalar/xxh64.ts';
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
} from '../codecs/frames.ts';
import { payloadVectors } from '../codecs/vectors.ts';
import { allBackends } from './backends.ts';
import {
  compress,
  contents,
  hasFourStreams,
  type OneSequence,
  sequenceBlock,
  withChecksum,
  withoutSize,
  ZstdDecoder,
} from './zstd-support.ts';

const decoders = allBackends().map(({ name, kernel }) => ({
  name,
  decoder: new ZstdDecoder(kernel),
}));

/** Every backend decodes `stream` to `plain`. */
function expectAll(stream: Uint8Array, plain: Uint8Array, what: string): void {
  for (const { name, decoder } of decoders) {
    const { status, bytes: got } = decoder.run(stream, plain.length);
    if (status !== ZSTD_OK || !got?.equals(plain)) throw new Error(`${name}, ${what}: ${status}`);
  }
}

describe('streams of libzstd', () => {
  test.each(Array.from({ length: 22 }, (_, i) => i + 1))('level %i', (level) => {
    contents(16_000).forEach((plain, i) => {
      const stream = compress(plain, level);
      const forms = [stream, withoutSize(stream), withChecksum(stream, xxh64(plain))];
      const form = (level + i) % forms.length;
      expectAll(forms[form]!, plain, `content ${i}, form ${form}`);
    });
  });

  test.each(Array.from({ length: 13 }, (_, i) => 2 ** (9 + i)))('%i bytes', (length) => {
    // All kinds of content where that is quick, and the one that mixes them.
    const plains = length < 2 ** 17 ? contents(length) : [contents(length)[7]!];
    plains.forEach((plain, i) => {
      const stream = compress(plain, 3);
      expectAll(stream, plain, `content ${i}`);
      expectAll(withoutSize(stream), plain, `content ${i} without size`);
    });
  });

  test.each([5, 8, 13, 19])('blocks that use tables of others, level %i', (level) => {
    const parts = contents(300_000);
    for (const i of [0, 1, 6, 7]) {
      const plain = parts[i]!;
      const stream = compress(plain, level);
      if (i === 0) expect(hasFourStreams(stream)).toBe(true);
      expectAll(stream, plain, `content ${i}`);
    }
  });

  test('lengths from 0 to 300', () => {
    const plain = contents(300)[0]!;
    for (let length = 1; length <= 300; length++) {
      expectAll(compress(plain.subarray(0, length), 6), plain.subarray(0, length), `${length}`);
    }
  });
});

describe.each(decoders)('zstd_decompress of $name', ({ decoder }) => {
  const statusOf = (stream: Uint8Array, length = 512) => decoder.run(stream, length).status;
  /** A frame without content size, of blocks. */
  const frame = (...blocks: Uint8Array[]): Uint8Array =>
    bytes(
      windowHeader(10),
      ...blocks.map((block, i) =>
        bytes(blockHeader(2, block.length, i === blocks.length - 1), block),
      ),
    );

  test.each(payloadVectors('zstd'))('what QEMU wrote: $id', ({ stream, plainLength, sha256 }) => {
    const { bytes: plain } = decoder.run(bytes(stream, new Array(300).fill(0x28)), plainLength);
    expect(createHash('sha256').update(plain!).digest('hex')).toBe(sha256);
  });

  // Checksums of the program zstd.
  test.each([
    [0, '99e9d851'],
    [1, 'b64b1fbc'],
    [3, 'c964e552'],
    [4, 'da9fee66'],
    [7, 'd860ce59'],
    [8, '9200f9c6'],
    [12, '3351af33'],
    [31, '19614acc'],
    [32, '97fd90f7'],
    [33, '848758ba'],
    [40, 'b6763d25'],
    [63, '3c49c731'],
    [64, '1fb0eef6'],
    [100, '31e50f17'],
    [1000, 'fba3f133'],
    [4096, 'cc972743'],
  ])('checksum of %i bytes', (length, checksum) => {
    const plain = Array.from({ length }, (_, i) => (i * 7 + 3) & 255);
    const sum = Buffer.from(checksum, 'hex');
    // One byte more in a frame of its own: a kernel that has nothing to fill decodes nothing.
    const behind = bytes(sizedHeader(1), raw([9]));
    const whole = bytes(header(0xa4, ...le(length, 4)), raw(plain), sum, behind);
    expect(decoder.run(whole, length + 1).bytes).toEqual(Buffer.from([...plain, 9]));
    for (let bit = 0; bit < 32; bit++) {
      const damaged = whole.slice();
      damaged[whole.length - behind.length - 4 + (bit >> 3)]! ^= 1 << (bit & 7);
      expect(statusOf(damaged, length + 1)).toBe(ZSTD_CHECKSUM);
    }
  });

  test('matches of every distance and length', () => {
    const literals = Uint8Array.from({ length: 70 }, (_, i) => i * 37);
    const lengths = [
      3, 4, 15, 16, 17, 31, 32, 33, 34, 35, 64, 130, 131, 257, 258, 259, 1000, 65538,
    ];
    for (let distance = 1; distance <= 66; distance++) {
      for (const matchLength of distance % 8 < 2 ? lengths : lengths.slice(0, 10)) {
        const literalLength = 66 + (distance & 3);
        const offsetValue = distance + 3;
        const sequence = { literals, literalLength, offsetValue, matchLength };
        const expected = [...literals.subarray(0, literalLength)];
        for (let i = 0; i < matchLength; i++) expected.push(expected.at(-distance)!);
        expected.push(...literals.subarray(literalLength));
        const { bytes: got } = decoder.run(frame(sequenceBlock(sequence)), expected.length);
        expect(got?.equals(Buffer.from(expected)), `${distance}, ${matchLength}`).toBe(true);
      }
    }
  });

  test('distances reach to the start of the frame', () => {
    const block = (distance: number): Uint8Array =>
      sequenceBlock({
        literals: Uint8Array.of(1, 2, 3, 4, 5),
        literalLength: 5,
        offsetValue: distance + 3,
        matchLength: 3,
      });
    expect(decoder.run(frame(block(5)), 8).bytes).toEqual(Buffer.from([1, 2, 3, 4, 5, 1, 2, 3]));
    for (const distance of [6, 8, 1000, 2 ** 20, 2 ** 26, 2 ** 31]) {
      expect(statusOf(frame(block(distance)), 8)).toBe(ZSTD_INVALID);
      const second = bytes(sizedHeader(2000), rle(1, 2000), frame(block(distance)));
      expect(statusOf(second, 2008)).toBe(ZSTD_INVALID);
    }
    // Of one frame, blocks see each other.
    const blocks = bytes(windowHeader(10), raw([7, 8, 9], false), frame(block(8)).subarray(6));
    expect(decoder.run(blocks, 11).bytes?.subarray(8)).toEqual(Buffer.from([7, 8, 9]));
  });

  test('distances repeat', () => {
    const literals = Uint8Array.from({ length: 20 }, (_, i) => i);
    const sequence = (literalLength: number, offsetValue: number): OneSequence => ({
      literals: literals.subarray(0, literalLength),
      literalLength,
      offsetValue,
      matchLength: 3,
    });
    const distances = (...values: [number, number][]): number[] => {
      const blocks = values.map(([length, value]) => sequenceBlock(sequence(length, value)));
      const first = sequenceBlock({ ...sequence(20, 18), literals });
      const total = 23 + values.reduce((sum, [length]) => sum + length + 3, 0);
      const { bytes: got } = decoder.run(frame(first, ...blocks), total);
      let at = 23;
      return values.map(([length]) => {
        at += length + 3;
        return got?.[at - 3] ?? -1;
      });
    };
    // The last distances are 15, 1 and 4; the byte that a match begins with tells which one it is.
    expect(distances([5, 1])).toEqual([(5 + 23 - 15) % 20]);
    expect(distances([5, 2])).toEqual([4]);
    expect(distances([5, 3])).toEqual([1]);
    expect(distances([0, 1])).toEqual([7]);
    expect(distances([0, 2])).toEqual([5 + 14]);
    expect(distances([0, 3])).toEqual([9]);
    expect(distances([5, 3], [5, 2], [5, 1])).toEqual([1, 6, 2]);
    // The first distance of a frame is 1, and without literals 1 less is none.
    expect(statusOf(frame(sequenceBlock(sequence(0, 3))), 3)).toBe(ZSTD_INVALID);
    const none = bytes(
      windowHeader(10),
      rle(1, 9, false),
      frame(sequenceBlock(sequence(0, 3))).subarray(6),
    );
    expect(statusOf(none, 12)).toBe(ZSTD_INVALID);
  });

  test('literals of one byte, and sections without sequences', () => {
    expect(decoder.run(frame(Uint8Array.of(0x29, 65, 0)), 5).bytes?.toString()).toBe('AAAAA');
    const long = Uint8Array.of(0x0d | 0x30, 0x02, 0, 66, 0);
    expect(decoder.run(frame(long), 35).bytes).toEqual(Buffer.alloc(35, 66));
    expect(decoder.run(frame(Uint8Array.of(0x00, 0), Uint8Array.of(0x29, 65, 0)), 5).status).toBe(
      0,
    );
    // Bytes behind the number 0, in either of its forms, and a literal too much.
    expect(statusOf(frame(Uint8Array.of(0x29, 65, 0, 0)), 5)).toBe(ZSTD_INVALID);
    expect(statusOf(frame(Uint8Array.of(0x29, 65, 0x80, 0)), 5)).toBe(ZSTD_OK);
    expect(statusOf(frame(Uint8Array.of(0x29, 65, 0x80)), 5)).toBe(ZSTD_INVALID);
    expect(statusOf(frame(Uint8Array.of(0x29, 65, 0)), 4)).toBe(ZSTD_LONG);
    expect(statusOf(frame(Uint8Array.of(0x29, 65)), 5)).toBe(ZSTD_INVALID);
    expect(statusOf(frame(new Uint8Array(0)), 5)).toBe(ZSTD_INVALID);
  });

  test('tables of the block before', () => {
    const literals = Uint8Array.of(1, 2, 3, 4, 5);
    const sequence = { literals, literalLength: 5, offsetValue: 8, matchLength: 3 };
    const first = sequenceBlock(sequence);
    const again = sequenceBlock({ ...sequence, modes: 0xfc });
    expect(decoder.run(frame(first, again), 16).bytes).toEqual(
      Buffer.from([1, 2, 3, 4, 5, 1, 2, 3, 1, 2, 3, 4, 5, 1, 2, 3]),
    );
    expect(statusOf(frame(again), 8)).toBe(ZSTD_INVALID);
    expect(statusOf(bytes(frame(first), frame(again)), 16)).toBe(ZSTD_INVALID);
    for (const reserved of [1, 2, 3]) {
      expect(
        statusOf(frame(first, sequenceBlock({ ...sequence, modes: 0xfc | reserved })), 16),
      ).toBe(ZSTD_INVALID);
    }
    // A Huffman code that no block described: one stream, of one byte, for one literal.
    expect(statusOf(frame(Uint8Array.of(0x13, 0x40, 0, 2, 0)), 1)).toBe(ZSTD_INVALID);
  });

  describe('frames (format section 8)', () => {
    const full = bytes(sizedHeader(512), rle(7, 512));

    test.each([
      ['one frame', full],
      ['several frames', bytes(sizedHeader(500), rle(7, 500), header(0x20, 12), rle(7, 12))],
      [
        'skippable frames around',
        bytes(skippable(3), skippable(0, 0x184d2a5f), full, skippable(9)),
      ],
      ['an empty frame in front', bytes(header(0x20, 0), raw([]), full)],
      ['garbage behind', bytes(full, [0x28, 0xb5, 0x2f, 0xfd, 0xff])],
      ['a further frame behind', bytes(full, sizedHeader(512), rle(8, 512))],
      ['two bytes of content size', bytes(header(0x60, ...le(256, 2)), rle(7, 512))],
      ['eight bytes of content size', bytes(header(0xe0, ...le(512, 8)), rle(7, 512))],
      ['a dictionary id of zero', bytes(header(0xa3, 0, 0, 0, 0, ...le(512, 4)), rle(7, 512))],
      ['no content size', bytes(windowHeader(0), rle(7, 512))],
      ['no content size, several blocks', bytes(windowHeader(0), rle(7, 500, false), rle(7, 12))],
      ['no content size, empty last block', bytes(windowHeader(0), rle(7, 512, false), raw([]))],
      ['no content size, 128 MiB window', bytes(windowHeader(17), rle(7, 512))],
      ['content size, 3.75 TiB window', bytes(header(0x40, 0xff, ...le(256, 2)), rle(7, 512))],
    ])('takes %s', (_, stream) => {
      const { status, bytes: got } = decoder.run(stream, 512);
      expect(status).toBe(ZSTD_OK);
      expect(got?.every((byte) => byte === 7)).toBe(true);
    });

    test('takes a block above the window if the content size is told', () => {
      expect(statusOf(bytes(header(0x80, 0, ...le(2048, 4)), rle(7, 2048)), 2048)).toBe(ZSTD_OK);
      expect(statusOf(bytes(windowHeader(0), rle(7, 1025)), 1025)).toBe(ZSTD_INVALID);
    });

    test.each<[string, Uint8Array, number]>([
      ['nothing', bytes(), ZSTD_SHORT],
      ['only a skippable frame', bytes(skippable(8)), ZSTD_SHORT],
      ['too little', bytes(sizedHeader(511), rle(7, 511)), ZSTD_SHORT],
      [
        'too little, then garbage',
        bytes(sizedHeader(511), rle(7, 511), [1, 2, 3, 4]),
        ZSTD_INVALID,
      ],
      ['a zlib header', bytes([0x78, 0x9c, 0, 0, 0]), ZSTD_INVALID],
      ['a magic number too far', bytes(skippable(0, 0x184d2a60)), ZSTD_INVALID],
      ['a larger frame', bytes(sizedHeader(513), rle(7, 513)), ZSTD_LONG],
      ['16 EiB', bytes(header(0xe0, ...new Array(8).fill(0xff)), rle(7, 512)), ZSTD_LONG],
      ['4 GiB less one', bytes(sizedHeader(0xffffffff), rle(7, 512)), ZSTD_LONG],
      ['a larger second frame', bytes(sizedHeader(500), rle(7, 500), sizedHeader(13)), ZSTD_LONG],
      ['a larger frame without size', bytes(windowHeader(0), rle(7, 513)), ZSTD_LONG],
      ['one more block', bytes(windowHeader(0), rle(7, 512, false), rle(7, 1)), ZSTD_LONG],
      ['less than the size says', bytes(sizedHeader(512), rle(7, 511)), ZSTD_INVALID],
      ['more than the size says', bytes(sizedHeader(511), rle(7, 512)), ZSTD_INVALID],
      ['a window above 128 MiB', bytes(header(0, (17 << 3) | 1), rle(7, 512)), ZSTD_UNSUPPORTED],
      ['a dictionary', bytes(header(0xa1, 5, ...le(512, 4)), rle(7, 512)), ZSTD_UNSUPPORTED],
      ['the reserved bit', bytes(header(0xa8, ...le(512, 4)), rle(7, 512)), ZSTD_INVALID],
      ['the reserved block', bytes(sizedHeader(512), blockHeader(3, 1, true), [0]), ZSTD_INVALID],
      ['a block above 128 KiB', bytes(windowHeader(12), rle(1, 128 * 1024 + 1)), ZSTD_INVALID],
    ])('refuses %s', (_, stream, status) => {
      expect(statusOf(stream)).toBe(status);
    });

    test('fills nothing with nothing', () => {
      expect(statusOf(bytes(), 0)).toBe(ZSTD_OK);
      expect(statusOf(bytes([1, 2, 3]), 0)).toBe(ZSTD_OK);
    });
  });

  test('every cut of a stream is noticed', () => {
    const plain = contents(900)[0]!;
    for (const stream of [
      compress(plain, 3),
      withChecksum(withoutSize(compress(plain, 19)), xxh64(plain)),
      bytes(skippable(7), sizedHeader(900), raw([...plain])),
    ]) {
      expect(statusOf(stream, 900)).toBe(ZSTD_OK);
      expect(statusOf(stream.subarray(0, 0), 900)).toBe(ZSTD_SHORT);
      for (let length = 1; length < stream.length; length++) {
        // What is behind is the rest of the stream: it must not be looked at.
        const behind = stream[length]!;
        const { status } = decoder.run(stream.subarray(0, length), 900, behind);
        expect(status).toBe(length === 15 && stream[0] !== 0x28 ? ZSTD_SHORT : ZSTD_TRUNCATED);
      }
    }
  });
});
