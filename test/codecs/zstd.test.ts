import { createHash } from 'node:crypto';
import * as library from '@bokuweb/zstd-wasm';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { hostZlib } from '../../src/codecs/host-zlib.ts';
import { ZstdCodec } from '../../src/codecs/zstd.ts';
import { loadZstdBackend, type ZstdBackend } from '../../src/codecs/zstd-backend.ts';
import { parseZstdFrame } from '../../src/codecs/zstd-frame.ts';
import { makeContent } from '../support/data.ts';
import {
  bytes,
  CHECKSUM_FRAMES,
  header,
  le,
  raw,
  rle,
  sizedHeader,
  skippable,
  windowHeader,
} from './frames.ts';
import { caught, sameBytes } from './support.ts';
import { payloadVectors } from './vectors.ts';

const fromHex = (text: string) => new Uint8Array(Buffer.from(text, 'hex'));
const badData = (reason = '') =>
  expect.objectContaining({ code: 'BAD_DATA', message: expect.stringContaining(reason) });

/** The library everywhere, and node:zlib too on hosts that have zstd in it. */
const backends: [string, () => Promise<ZstdBackend>][] = [
  ['library', () => loadZstdBackend(undefined, async () => library)],
];
if (hostZlib()?.zstdCompressSync) {
  backends.push([
    'node:zlib',
    () => loadZstdBackend(hostZlib(), () => Promise.reject(new Error('not to be used'))),
  ]);
}

describe.each(backends)('zstd by %s', (_, load) => {
  let codec: ZstdCodec;
  beforeAll(async () => {
    codec = new ZstdCodec(await load());
  });

  const decode = (stream: Uint8Array, length: number): Uint8Array => {
    const output = new Uint8Array(length).fill(0xee);
    codec.decompress(stream, output);
    return output;
  };
  const encode = (plain: Uint8Array): Uint8Array => {
    const output = new Uint8Array(plain.length + 1024);
    return output.subarray(0, codec.compress(plain, output));
  };

  it.each(payloadVectors('zstd'))(
    'reads what QEMU wrote: $id',
    ({ stream, plainLength, sha256 }) => {
      for (const padding of [0, 1, 492]) {
        const plain = decode(bytes(stream, new Uint8Array(padding).fill(0x28)), plainLength);
        expect(createHash('sha256').update(plain).digest('hex')).toBe(sha256);
      }
    },
  );

  it.each([9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21])(
    'goes around at cluster bits %i',
    (bits) => {
      for (const kind of ['zero', 'text', 'random', 'mixed'] as const) {
        const plain = makeContent(kind, 2 ** bits, bits);
        const stream = encode(plain);
        const frame = parseZstdFrame(stream, 0);
        expect(frame).toMatchObject({
          kind: 'data',
          length: stream.length,
          contentSize: plain.length,
          hasChecksum: false,
        });
        const padded = bytes(stream, makeContent('random', 300, bits));
        expect(sameBytes(decode(padded, plain.length), plain)).toBe(true);
      }
    },
  );

  it('goes around with any content', () => {
    const content = fc.array(
      fc.record({ value: fc.nat(255), run: fc.integer({ min: 1, max: 400 }) }),
      { minLength: 1, maxLength: 40 },
    );
    fc.assert(
      fc.property(content, fc.uint8Array({ maxLength: 40 }), (runs, behind) => {
        const plain = new Uint8Array(512 * 8);
        let at = 0;
        for (const { value, run } of runs) {
          plain.fill(value, at, at + run);
          at += run;
        }
        expect(sameBytes(decode(bytes(encode(plain), behind), plain.length), plain)).toBe(true);
      }),
      { numRuns: 200 },
    );
  });

  it('returns -1 when the stream does not fit, and takes an exact fit', () => {
    const plain = makeContent('text', 4096);
    const { length } = encode(plain);
    expect(codec.compress(plain, new Uint8Array(length - 1))).toBe(-1);
    expect(codec.compress(plain, new Uint8Array(length))).toBe(length);
    expect(codec.compress(makeContent('random', 4096), new Uint8Array(4095))).toBe(-1);
  });

  it('keeps within the buffers it is given', () => {
    const plain = makeContent('text', 4096);
    const room = new Uint8Array(3 * 4096).fill(0x55);
    const length = codec.compress(plain, room.subarray(4096, 8192));
    const stream = room.slice(4096, 4096 + length);
    expect(room.subarray(4096 + length).every((byte) => byte === 0x55)).toBe(true);
    room.fill(0x55);
    codec.decompress(stream, room.subarray(4096, 8192));
    expect(room.subarray(4096, 8192)).toEqual(plain);
    expect(room.subarray(0, 4096).every((byte) => byte === 0x55)).toBe(true);
    expect(room.subarray(8192).every((byte) => byte === 0x55)).toBe(true);
  });

  describe('frames (format section 8)', () => {
    const full = new Uint8Array(512).fill(7);

    it.each([
      ['one frame', bytes(sizedHeader(512), rle(7, 512))],
      ['several frames', bytes(sizedHeader(500), rle(7, 500), header(0x20, 12), rle(7, 12))],
      ['skippable frames around', bytes(skippable(3), sizedHeader(512), rle(7, 512), skippable(9))],
      ['an empty frame in front', bytes(header(0x20, 0), raw([]), sizedHeader(512), rle(7, 512))],
      ['garbage behind', bytes(sizedHeader(512), rle(7, 512), [0x28, 0xb5, 0x2f, 0xfd, 0xff])],
      [
        'a further frame behind',
        bytes(sizedHeader(512), rle(7, 512), sizedHeader(512), rle(8, 512)),
      ],
      ['no content size', bytes(windowHeader(0), rle(7, 512))],
      ['no content size, several blocks', bytes(windowHeader(0), rle(7, 500, false), rle(7, 12))],
      ['no content size, empty last block', bytes(windowHeader(0), rle(7, 512, false), raw([]))],
      ['no content size, 128 MiB window', bytes(windowHeader(17), rle(7, 512))],
      ['content size, 2 TiB window', bytes(header(0x40, 0xff, ...le(256, 2)), rle(7, 512))],
      ['checksum', fromHex(CHECKSUM_FRAMES.sized)],
      ['checksum, no content size', fromHex(CHECKSUM_FRAMES.unsized)],
    ])('reads %s', (_, stream) => {
      expect(decode(stream, 512)).toEqual(full);
    });

    it('reads a block above the window if the content size is told', () => {
      const stream = bytes(header(0x80, 0, ...le(2048, 4)), rle(7, 2048));
      expect(decode(stream, 2048)).toEqual(new Uint8Array(2048).fill(7));
    });

    it.each([
      ['nothing', bytes(), 'hold 0 of 512'],
      ['only a skippable frame', bytes(skippable(8)), 'hold 0 of 512'],
      ['too little', bytes(sizedHeader(511), rle(7, 511)), 'hold 511 of 512'],
      [
        'too little, then garbage',
        bytes(sizedHeader(511), rle(7, 511), [1, 2, 3, 4]),
        'no zstd frame',
      ],
      [
        'a larger frame',
        bytes(sizedHeader(513), rle(7, 513)),
        'frame of 513 bytes where 512 remain',
      ],
      [
        'a larger second frame',
        bytes(sizedHeader(500), rle(7, 500), sizedHeader(13), rle(7, 13)),
        'where 12 remain',
      ],
      ['a larger frame without size', bytes(windowHeader(0), rle(7, 513)), 'more than the cluster'],
      [
        'one more block',
        bytes(windowHeader(0), rle(7, 512, false), rle(7, 1)),
        'more than the cluster',
      ],
      ['less than the size says', bytes(sizedHeader(512), rle(7, 511)), ''],
      ['more than the size says', bytes(sizedHeader(511), rle(7, 512)), ''],
      [
        'a window above 128 MiB',
        bytes(header(0, (17 << 3) | 1), rle(7, 512)),
        'window of 150994944',
      ],
      ['a cut frame', bytes(sizedHeader(512), rle(7, 512)).subarray(0, 12), 'ends inside'],
    ])('refuses %s', (_, stream, reason) => {
      expect(() => decode(stream, 512)).toThrow(badData(reason));
    });

    it.each(Object.entries(CHECKSUM_FRAMES))('refuses a wrong checksum (%s)', (_, hex) => {
      const stream = fromHex(hex);
      for (let bit = 0; bit < 32; bit++) {
        const damaged = stream.slice();
        const at = damaged.length - 4 + (bit >> 3);
        damaged[at] = (damaged[at] as number) ^ (1 << (bit & 7));
        expect(() => decode(damaged, 512)).toThrow(badData());
      }
    });
  });

  describe('hostile streams', () => {
    /** A million RLE blocks of 128 KiB would be 128 GiB. */
    const bomb = (head: number[]) => {
      const block = rle(0, 128 * 1024, false);
      return bytes(head, ...new Array<number[]>(5000).fill(block), rle(0, 1));
    };

    it.each([
      ['claims 16 EiB', bytes(header(0xe0, ...new Array<number>(8).fill(0xff)), rle(0, 512))],
      ['claims 4 GiB less one', bytes(header(0xa0, ...le(0xffffffff, 4)), rle(0, 512))],
      ['produces 640 MiB', bomb(windowHeader(17))],
      ['produces 640 MiB and claims a cluster', bomb(sizedHeader(65536))],
    ])('a frame that %s does not allocate it', (_, stream) => {
      const before = process.memoryUsage();
      for (let i = 0; i < 20; i++) {
        expect(() => decode(stream, 65536)).toThrow(badData());
      }
      const after = process.memoryUsage();
      expect(after.rss - before.rss).toBeLessThan(64 * 2 ** 20);
    });

    it('a large window without content size does not allocate it', () => {
      const stream = bytes(windowHeader(17), rle(5, 65536));
      const before = process.memoryUsage().rss;
      for (let i = 0; i < 200; i++) expect(decode(stream, 65536)[65535]).toBe(5);
      expect(process.memoryUsage().rss - before).toBeLessThan(64 * 2 ** 20);
    });

    it('every cut of a stream is BAD_DATA', () => {
      const stream = encode(makeContent('text', 1024));
      for (let length = 0; length < stream.length; length++) {
        expect(() => decode(stream.subarray(0, length), 1024)).toThrow(badData());
      }
    });

    it('damage is BAD_DATA or other bytes, and leaves the codec in order', () => {
      const plain = makeContent('mixed', 8192, 3);
      const stream = encode(plain);
      const damage = fc.array(
        fc.tuple(fc.nat(stream.length - 1), fc.integer({ min: 1, max: 255 })),
        {
          minLength: 1,
          maxLength: 4,
        },
      );
      fc.assert(
        fc.property(damage, (changes) => {
          const damaged = stream.slice();
          for (const [at, flip] of changes) damaged[at] = (damaged[at] as number) ^ flip;
          const error = caught(() => decode(damaged, plain.length));
          if (error !== undefined) expect(error).toEqual(badData());
        }),
        { numRuns: 2000 },
      );
      expect(decode(stream, plain.length)).toEqual(plain);
    });

    it('any bytes are BAD_DATA or a cluster', () => {
      fc.assert(
        fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), (noise, withMagic) => {
          const stream = withMagic ? bytes([0x28, 0xb5, 0x2f, 0xfd], noise) : noise;
          const error = caught(() => decode(stream, 512));
          if (error !== undefined) expect(error).toEqual(badData());
        }),
        { numRuns: 1000 },
      );
    });

    it('does not leak over many good and bad calls', () => {
      const plain = makeContent('text', 4096);
      const stream = encode(plain);
      const damaged = stream.slice();
      damaged[40] = (damaged[40] as number) ^ 0xff;
      const turn = () => {
        caught(() => decode(damaged, 4096));
        decode(stream, 4096);
        codec.compress(plain, new Uint8Array(4096));
      };
      // Warm: what the host frees late is not a leak, a context for each call would be.
      for (let i = 0; i < 1000; i++) turn();
      const before = process.memoryUsage().rss;
      for (let i = 0; i < 5000; i++) turn();
      expect(process.memoryUsage().rss - before).toBeLessThan(200 * 2 ** 20);
    });
  });
});
