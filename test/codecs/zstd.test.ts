import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { loadCodec } from '../../src/codecs/load.ts';
import { ZstdCodec } from '../../src/codecs/zstd.ts';
import { createKernel, type KernelBackend } from '../../src/kernel/kernel.ts';
import { makeContent } from '../support/data.ts';
import { bytes, CHECKSUM_FRAMES, header, le, rle, sizedHeader, windowHeader } from './frames.ts';
import { caught, sameBytes } from './support.ts';
import { payloadVectors } from './vectors.ts';

const fromHex = (text: string) => new Uint8Array(Buffer.from(text, 'hex'));
const badData = (reason = '') =>
  expect.objectContaining({ code: 'BAD_DATA', message: expect.stringContaining(reason) });

describe.each<KernelBackend>(['wasm-simd', 'wasm', 'js'])('zstd compressed by %s', (backend) => {
  const kernel = createKernel({ backend });
  const codec = new ZstdCodec(kernel, { compress: true });

  const decode = (stream: Uint8Array, length: number): Uint8Array => {
    const output = new Uint8Array(length).fill(0xee);
    codec.decompress(stream, output);
    return output;
  };
  const encode = (plain: Uint8Array): Uint8Array => {
    const output = new Uint8Array(plain.length + 1024);
    return output.subarray(0, codec.compress(plain, output));
  };

  it.each([9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21])(
    'goes around at cluster bits %i',
    (bits) => {
      for (const kind of ['zero', 'text', 'random', 'mixed'] as const) {
        const plain = makeContent(kind, 2 ** bits, bits);
        const stream = encode(plain);
        // With a content size, without a checksum, as QEMU writes them.
        expect([...stream.subarray(0, 4)]).toEqual([0x28, 0xb5, 0x2f, 0xfd]);
        expect(stream[4]! & 0x04).toBe(0);
        expect(stream[4]! >> 6).toBeGreaterThan(0);
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
      { numRuns: 300 },
    );
  });

  it('says when a stream does not fit, and writes nothing behind it', () => {
    const plain = makeContent('random', 4096);
    expect(codec.compress(plain, new Uint8Array(4095))).toBe(-1);
    const room = new Uint8Array(8192).fill(0x55);
    const length = codec.compress(makeContent('text', 4096), room.subarray(1024, 5120));
    expect(room.subarray(1024 + length).every((byte) => byte === 0x55)).toBe(true);
    expect(room.subarray(0, 1024).every((byte) => byte === 0x55)).toBe(true);
  });

  it('compresses the same in kernel memory, and takes its memory at once', () => {
    const plain = makeContent('text', 65536);
    const stream = encode(plain);
    const input = kernel.arena.allocate(65536);
    const output = kernel.arena.allocate(131072);
    const size = kernel.arena.u8.length;
    input.bytes.set(plain);
    output.bytes.fill(0x55);
    const room = output.bytes.subarray(100, 100 + stream.length);
    expect(codec.compress(input.bytes, room)).toBe(stream.length);
    expect(sameBytes(room, stream)).toBe(true);
    expect(output.bytes[99]).toBe(0x55);
    expect(output.bytes.subarray(100 + stream.length).every((byte) => byte === 0x55)).toBe(true);
    // From either side alone.
    expect(codec.compress(plain, room)).toBe(stream.length);
    expect(codec.compress(input.bytes, new Uint8Array(65535))).toBe(stream.length);
    expect(kernel.arena.u8.length).toBe(size);
  });

  it('does not leak over many good and bad calls', () => {
    const plain = makeContent('text', 4096);
    const stream = encode(plain);
    const damaged = stream.slice();
    damaged[40] = damaged[40]! ^ 0xff;
    const turn = () => {
      caught(() => decode(damaged, 4096));
      decode(stream, 4096);
      codec.compress(plain, new Uint8Array(4096));
    };
    // Warm: what the host frees late is not a leak, a context for each call would be.
    for (let i = 0; i < 1000; i++) turn();
    const before = process.memoryUsage().rss;
    for (let i = 0; i < 3000; i++) turn();
    expect(process.memoryUsage().rss - before).toBeLessThan(200 * 2 ** 20);
  });
});

describe.each<KernelBackend>(['wasm-simd', 'wasm', 'js'])('decoding with %s', (backend) => {
  const kernel = createKernel({ backend });
  const codec = new ZstdCodec(kernel);
  const decode = (stream: Uint8Array, length: number): Uint8Array => {
    const output = new Uint8Array(length).fill(0xee);
    codec.decompress(stream, output);
    return output;
  };

  it.each(payloadVectors('zstd'))('reads what QEMU wrote: $id', (vector) => {
    for (const padding of [0, 1, 492]) {
      const stream = bytes(vector.stream, new Uint8Array(padding).fill(0x28));
      const plain = decode(stream, vector.plainLength);
      expect(createHash('sha256').update(plain).digest('hex')).toBe(vector.sha256);
    }
  });

  it.each(Object.entries(CHECKSUM_FRAMES))('verifies checksums (%s)', (_, hex) => {
    const stream = fromHex(hex);
    expect(decode(stream, 512)).toEqual(new Uint8Array(512).fill(7));
    stream[stream.length - 1] = stream[stream.length - 1]! ^ 0x80;
    expect(() => decode(stream, 512)).toThrow(badData('checksum'));
  });

  it.each([
    ['nothing', bytes(), 'less than the 512 bytes'],
    ['too little', bytes(sizedHeader(511), rle(7, 511)), 'less than the 512 bytes'],
    ['too much', bytes(windowHeader(0), rle(7, 513)), 'more than the 512 bytes'],
    ['a cut frame', bytes(sizedHeader(512), rle(7, 512)).subarray(0, 12), 'within its 12 bytes'],
    ['a dictionary', bytes(header(0xa1, 5, ...le(512, 4)), rle(7, 512)), 'dictionary'],
    ['other bytes', bytes([1, 2, 3, 4, 5]), 'no zstd frames'],
  ])('refuses %s', (_, stream, reason) => {
    const error = caught(() => decode(stream, 512)) as Error;
    expect(error).toEqual(badData(reason));
    expect(error.message).not.toContain('\n');
  });

  it('writes to the output alone, in any memory', () => {
    const stream = bytes(sizedHeader(4096), rle(7, 4096));
    const room = new Uint8Array(12288).fill(0x55);
    codec.decompress(stream, room.subarray(4096, 8192));
    expect(room.subarray(4096, 8192).every((byte) => byte === 7)).toBe(true);
    expect(room.subarray(0, 4096).every((byte) => byte === 0x55)).toBe(true);
    expect(room.subarray(8192).every((byte) => byte === 0x55)).toBe(true);

    const input = kernel.arena.allocate(stream.length);
    const output = kernel.arena.allocate(4096);
    const size = kernel.arena.u8.length;
    input.bytes.set(stream);
    output.bytes.fill(0);
    // Either view in kernel memory, or both; nothing grows, so views stay valid.
    codec.decompress(input.bytes, output.bytes);
    expect(output.bytes.every((byte) => byte === 7)).toBe(true);
    expect(decode(input.bytes, 4096)[4095]).toBe(7);
    output.bytes.fill(0);
    codec.decompress(stream, output.bytes);
    expect(output.bytes[4095]).toBe(7);
    expect(kernel.arena.u8.length).toBe(size);
  });

  it('a bomb allocates nothing', () => {
    const block = rle(0, 128 * 1024, false);
    const bomb = (head: number[]) =>
      bytes(head, ...new Array<number[]>(5000).fill(block), rle(0, 1));
    const size = kernel.arena.u8.length;
    for (const stream of [
      bytes(header(0xe0, ...new Array<number>(8).fill(0xff)), rle(0, 512)),
      bomb(windowHeader(17)),
      bomb(sizedHeader(65536)),
    ]) {
      expect(() => decode(stream, 65536)).toThrow(badData());
    }
    expect(decode(bytes(windowHeader(17), rle(5, 65536)), 65536)[65535]).toBe(5);
    expect(kernel.arena.u8.length - size).toBeLessThan(2 ** 20);
  });

  it('any bytes are BAD_DATA or a cluster', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), (noise, withMagic) => {
        const stream = withMagic ? bytes([0x28, 0xb5, 0x2f, 0xfd], noise) : noise;
        const error = caught(() => decode(stream, 512));
        if (error !== undefined) expect(error).toEqual(badData());
      }),
      { numRuns: 500 },
    );
  });
});

describe('codecs of one kernel', () => {
  it('share their memory', async () => {
    const kernel = createKernel();
    await loadCodec(1, kernel, { compress: true });
    const size = kernel.arena.u8.length;
    for (let i = 0; i < 50; i++) await loadCodec(1, kernel, { compress: true });
    expect(kernel.arena.u8.length).toBe(size);
  });

  it('compress without being told beforehand', async () => {
    const codec = await loadCodec(1, createKernel());
    const plain = makeContent('text', 4096);
    const stream = new Uint8Array(4096);
    const length = codec.compress(plain, stream);
    expect(length).toBeGreaterThan(0);
    codec.decompress(stream.slice(0, length), stream);
    expect(stream).toEqual(plain);
  });
});
