import { createHash } from 'node:crypto';
import { constants, deflateRawSync, deflateSync, inflateRawSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DeflateCodec } from '../../src/codecs/deflate.ts';
import { createKernel } from '../../src/kernel/kernel.ts';
import { makeContent } from '../support/data.ts';
import { bytes } from './frames.ts';
import { caught, sameBytes } from './support.ts';
import { payloadVectors } from './vectors.ts';

const badData = (reason = '') =>
  expect.objectContaining({ code: 'BAD_DATA', message: expect.stringContaining(reason) });

describe.each(['wasm-simd', 'wasm', 'js'] as const)('deflate by %s', (backend) => {
  const kernel = createKernel({ backend });
  const codec = new DeflateCodec(kernel);

  const decode = (stream: Uint8Array, length: number): Uint8Array => {
    const output = new Uint8Array(length).fill(0xee);
    codec.decompress(stream, output);
    return output;
  };
  const encode = (plain: Uint8Array): Uint8Array => {
    // Stored data is cut in blocks of less than 64 KiB.
    const output = new Uint8Array(plain.length * 1.01 + 1024);
    return output.subarray(0, codec.compress(plain, output));
  };

  it.each(payloadVectors('deflate-raw'))(
    'reads what QEMU wrote: $id',
    ({ stream, plainLength, sha256 }) => {
      for (const padding of [0, 1, 433]) {
        const plain = decode(bytes(stream, new Uint8Array(padding).fill(0xed)), plainLength);
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
        expect(sameBytes(inflateRawSync(stream, { windowBits: 12 }), plain)).toBe(true);
        const padded = Buffer.concat([stream, makeContent('random', 300, bits)]);
        expect(sameBytes(decode(padded, plain.length), plain)).toBe(true);
      }
    },
  );

  it('goes around with any content, level and window', () => {
    const runs = fc.array(
      fc.record({ value: fc.nat(255), run: fc.integer({ min: 1, max: 400 }) }),
      { minLength: 1, maxLength: 40 },
    );
    const options = fc.record({
      level: fc.integer({ min: 0, max: 9 }),
      windowBits: fc.integer({ min: 9, max: 15 }),
      strategy: fc.constantFrom(
        constants.Z_DEFAULT_STRATEGY,
        constants.Z_HUFFMAN_ONLY,
        constants.Z_RLE,
        constants.Z_FIXED,
      ),
    });
    fc.assert(
      fc.property(runs, options, fc.uint8Array({ maxLength: 40 }), (content, how, behind) => {
        const plain = new Uint8Array(4096);
        let at = 0;
        for (const { value, run } of content) {
          plain.fill(value, at, at + run);
          at += run;
        }
        expect(
          sameBytes(decode(bytes(deflateRawSync(plain, how), behind), plain.length), plain),
        ).toBe(true);
      }),
      { numRuns: 200 },
    );
  });

  it('compresses at three levels, each shorter than the one before', () => {
    const plain = makeContent('text', 65536);
    const lengths = (['fast', 'default', 'best'] as const).map((level) => {
      const output = new Uint8Array(65536);
      const compressor = new DeflateCodec(kernel, { level, compress: true });
      const stream = output.subarray(0, compressor.compress(plain, output));
      expect(sameBytes(decode(stream, plain.length), plain)).toBe(true);
      return stream.length;
    });
    expect(lengths).toEqual([...lengths].sort((a, b) => b - a));
    expect(new Set(lengths).size).toBe(3);
    expect(encode(plain).length).toBe(lengths[1]);
  });

  it('compresses between all kinds of memory, and leaves what lies behind', () => {
    const plain = makeContent('text', 4096);
    const stream = encode(plain);
    for (const inputInside of [true, false]) {
      for (const outputInside of [true, false]) {
        const source = kernel.arena.allocate(5000);
        const target = kernel.arena.allocate(5000);
        source.bytes.fill(0xff);
        source.bytes.set(plain, 3);
        target.bytes.fill(0x55);
        const outside = new Uint8Array(5000).fill(0x55);
        const input = inputInside ? source.bytes.subarray(3, 4099) : plain;
        const output = outputInside ? target.bytes : outside;
        expect(codec.compress(input, output.subarray(1, 1 + stream.length))).toBe(stream.length);
        expect(output[0]).toBe(0x55);
        expect(sameBytes(output.subarray(1, 1 + stream.length), stream)).toBe(true);
        expect(output.subarray(1 + stream.length).every((byte) => byte === 0x55)).toBe(true);
        kernel.arena.release(source);
        kernel.arena.release(target);
      }
    }
  });

  it('compresses into kernel memory although its own regions make that grow', () => {
    const fresh = createKernel({ backend });
    const source = fresh.arena.allocate(8192);
    const target = fresh.arena.allocate(8192);
    const plain = makeContent('text', 8192);
    source.bytes.set(plain);
    const length = new DeflateCodec(fresh).compress(source.bytes, target.bytes);
    expect(sameBytes(inflateRawSync(target.bytes.subarray(0, length)), plain)).toBe(true);
    const ready = createKernel({ backend });
    const compressor = new DeflateCodec(ready, { compress: true });
    const views = [ready.arena.allocate(8192), ready.arena.allocate(8192)] as const;
    const [input, output] = views.map(({ bytes: view }) => view) as [Uint8Array, Uint8Array];
    input.set(plain);
    expect(compressor.compress(input, output)).toBe(length);
    expect(input.length).toBe(8192);
  });

  it('goes around between all kinds of memory', () => {
    const plain = makeContent('text', 4096);
    const stream = encode(plain);
    for (const inputInside of [true, false]) {
      for (const outputInside of [true, false]) {
        const source = kernel.arena.allocate(stream.length + 100);
        const target = kernel.arena.allocate(8192);
        source.bytes.fill(0xff);
        source.bytes.set(stream, 3);
        target.bytes.fill(0x55);
        const outside = new Uint8Array(8192).fill(0x55);
        const input = inputInside ? source.bytes.subarray(3) : bytes(stream, [0xff]);
        codec.decompress(input, (outputInside ? target.bytes : outside).subarray(1, 4097));
        const filled = outputInside ? target.bytes : outside;
        expect(filled[0]).toBe(0x55);
        expect(sameBytes(filled.subarray(1, 4097), plain)).toBe(true);
        if (!outputInside) expect(filled.subarray(4097).every((byte) => byte === 0x55)).toBe(true);
        kernel.arena.release(source);
        kernel.arena.release(target);
      }
    }
  });

  it('decodes into kernel memory although its own first region makes that grow', () => {
    const fresh = createKernel({ backend });
    const target = fresh.arena.allocate(2 ** 21);
    const plain = makeContent('mixed', 2 ** 21);
    new DeflateCodec(fresh).decompress(deflateRawSync(plain), target.bytes);
    expect(sameBytes(target.bytes, plain)).toBe(true);
  });

  it('drops what a stream holds beyond the cluster', () => {
    const plain = makeContent('text', 4096);
    expect(decode(deflateRawSync(plain), 512)).toEqual(plain.slice(0, 512));
  });

  it.each([
    ['less than a cluster', deflateRawSync(new Uint8Array(511)), 'less than the 512 bytes'],
    ['an empty input', new Uint8Array(0), 'does not end within its 0 bytes'],
    ['a zlib header', deflateSync(new Uint8Array(512)), ''],
    ['a reserved block type', Uint8Array.of(0x07, 0, 0, 0, 0, 0), 'no deflate stream'],
    [
      'a stored block with a wrong length',
      Uint8Array.of(1, 5, 0, 5, 0, 1, 2, 3, 4, 5),
      'no deflate',
    ],
  ])('refuses %s', (_, stream, reason) => {
    expect(() => decode(stream, 512)).toThrow(badData(reason));
  });

  it('a stream that would go on for ever fills one cluster', () => {
    const bomb = deflateRawSync(new Uint8Array(64 * 2 ** 20));
    expect(sameBytes(decode(bomb, 65536), new Uint8Array(65536))).toBe(true);
    expect(kernel.arena.u8.length).toBeLessThan(32 * 2 ** 20);
  });

  it('every cut of a stream is BAD_DATA, or lost nothing but its end mark', () => {
    const plain = makeContent('text', 1024);
    const stream = encode(plain);
    for (let length = 0; length < stream.length; length++) {
      const error = caught(() =>
        expect(sameBytes(decode(stream.subarray(0, length), 1024), plain)).toBe(true),
      );
      if (error !== undefined || length < stream.length - 2) expect(error).toEqual(badData());
    }
  });

  it('damage is BAD_DATA or other bytes, and leaves the codec in order', () => {
    const plain = makeContent('mixed', 8192, 3);
    const stream = encode(plain);
    const damage = fc.array(fc.tuple(fc.nat(stream.length - 1), fc.integer({ min: 1, max: 255 })), {
      minLength: 1,
      maxLength: 4,
    });
    fc.assert(
      fc.property(damage, (changes) => {
        const damaged = stream.slice();
        for (const [at, flip] of changes) damaged[at] = (damaged[at] as number) ^ flip;
        agreesWithZlib(damaged, plain.length);
      }),
      { numRuns: 1000 },
    );
    expect(sameBytes(decode(stream, plain.length), plain)).toBe(true);
  });

  it('any bytes are BAD_DATA or a cluster', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (noise) => agreesWithZlib(noise, 512)),
      { numRuns: 1000 },
    );
  });

  it('returns -1 when the stream does not fit, and takes an exact fit', () => {
    const plain = makeContent('text', 4096);
    const { length } = encode(plain);
    expect(codec.compress(plain, new Uint8Array(length - 1))).toBe(-1);
    expect(codec.compress(plain, new Uint8Array(length))).toBe(length);
    expect(codec.compress(makeContent('random', 4096), new Uint8Array(4095))).toBe(-1);
  });

  /** The same bytes as node:zlib, or BAD_DATA where that gives fewer or an error. */
  function agreesWithZlib(stream: Uint8Array, length: number): void {
    let decoded: Uint8Array | undefined;
    let whole: Uint8Array | undefined;
    const error = caught(() => {
      decoded = decode(stream, length);
    });
    caught(() => {
      whole = inflateRawSync(stream);
    });
    if (error !== undefined) expect(error).toEqual(badData());
    if (whole === undefined) return;
    if (whole.length < length) expect(error).toBeDefined();
    else expect(sameBytes(decoded, whole.subarray(0, length))).toBe(true);
  }
});
