import { deflateRawSync, inflateRawSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  DEFLATE_BEST,
  DEFLATE_DEFAULT,
  DEFLATE_FAST,
  INFLATE_INPUT_SLACK,
  INFLATE_OK,
  INFLATE_OUTPUT_SLACK,
} from '../../src/kernel/abi.ts';
import { makeContent } from '../support/data.ts';
import { allBackends, loadScalar, type TestKernel } from './backends.ts';
import { Deflater, dissect, roomFor } from './deflate-support.ts';
import { corpus } from './inflate-support.ts';
import { structured } from './structured.ts';

const LEVELS = [DEFLATE_FAST, DEFLATE_DEFAULT, DEFLATE_BEST];
const backends = allBackends().map(({ name, kernel }) => ({
  name,
  kernel,
  deflater: new Deflater(kernel),
}));
const fast = backends.find(({ name }) => name === 'release-simd') as (typeof backends)[number];

/** Decodes with a kernel's own `inflate`. */
function inflate(kernel: TestKernel, stream: Uint8Array, length: number): Buffer | null {
  const { arena, exports } = kernel;
  const source = arena.allocate(stream.length + INFLATE_INPUT_SLACK);
  const target = arena.allocate(length + INFLATE_OUTPUT_SLACK);
  source.bytes.set(stream);
  const status = exports.inflate(source.ptr, stream.length, target.ptr, length);
  const bytes = status === INFLATE_OK ? Buffer.from(target.bytes.subarray(0, length)) : null;
  arena.release(source);
  arena.release(target);
  return bytes;
}

/** The stream, which is the same from every backend and reads back everywhere. */
function encode(plain: Uint8Array, level: number): Buffer {
  const stream = fast.deflater.run(plain, level) as Buffer;
  for (const { name, deflater } of backends) {
    const other = deflater.run(plain, level);
    if (!other?.equals(stream)) throw new Error(`${name}, level ${level}: another stream`);
  }
  expect(inflateRawSync(stream, { windowBits: 12 }).equals(plain)).toBe(true);
  expect(inflate(fast.kernel, stream, plain.length)?.equals(plain)).toBe(true);
  return stream;
}

describe.each(LEVELS)('deflate, level %i', (level) => {
  test.each([9, 10, 11, 12, 13, 14, 15, 16, 17])('cluster bits %i, all contents', (bits) => {
    for (const kind of ['zero', 'text', 'random', 'mixed'] as const) {
      encode(makeContent(kind, 2 ** bits, bits), level);
    }
  });

  test.each([18, 19, 20, 21])('cluster bits %i', (bits) => {
    const plain = makeContent('mixed', 2 ** bits, bits);
    // Compiled modules only: the twin is slow, and has seen several blocks at 17 bits.
    const streams = backends
      .filter(({ name }) => name.startsWith('release'))
      .map(({ deflater }) => deflater.run(plain, level) as Buffer);
    for (const stream of streams) {
      expect(stream.equals(streams[0] as Buffer)).toBe(true);
      expect(inflateRawSync(stream, { windowBits: 12 }).equals(plain)).toBe(true);
      expect(inflate(fast.kernel, stream, plain.length)?.equals(plain)).toBe(true);
    }
  });

  test('real files: strictly valid, distances within the window, about as short as from zlib', () => {
    for (const plain of corpus()) {
      const stream = encode(plain, level);
      const anatomy = dissect(stream);
      expect(anatomy.plain.equals(plain)).toBe(true);
      expect(anatomy.length).toBe(stream.length);
      expect(anatomy.farthest).toBeLessThanOrEqual(4096);
      const zlib = deflateRawSync(plain, { windowBits: 12, level: 6, memLevel: 9 }).length;
      // Rows of numbers want chains longer than most levels follow.
      expect(stream.length).toBeLessThan(zlib * 1.15 + 64);
    }
  });

  test('any content: every backend the same valid stream', () => {
    fc.assert(
      fc.property(structured, (plain) => {
        const stream = encode(plain, level);
        const { plain: decoded, farthest, length } = dissect(stream);
        expect(decoded.equals(plain)).toBe(true);
        expect(farthest).toBeLessThanOrEqual(4096);
        expect(length).toBe(stream.length);
        expect(stream.length).toBeLessThanOrEqual(roomFor(plain.length));
      }),
      { numRuns: 60 },
    );
  });

  test('lengths 0 to 40', () => {
    const text = Buffer.from('abcabcabcabcabcaabbccaaaaaaaaaaaaaaaaaaa');
    for (let length = 0; length <= text.length; length++) encode(text.subarray(0, length), level);
  });

  test('the window is used to its last byte, and no further', () => {
    const pattern = makeContent('random', 300, 5);
    for (const distance of [300, 4095, 4096, 4097, 8192]) {
      const plain = makeContent('text', distance + 300, distance);
      plain.set(pattern, 0);
      plain.set(pattern, distance);
      const { farthest, plain: decoded } = dissect(encode(plain, level));
      expect(decoded.equals(plain)).toBe(true);
      if (distance === 4096) expect(farthest).toBe(4096);
      else expect(farthest).toBeLessThanOrEqual(4096);
    }
  });

  test('capacity: an exact fit is taken, one byte less is refused', () => {
    const contents = [...corpus().map((data) => data.subarray(0, 9000)), Buffer.alloc(0)];
    for (const { deflater } of backends) {
      for (const plain of contents) {
        const { length } = deflater.run(plain, level) as Buffer;
        expect(deflater.run(plain, level, length)?.length).toBe(length);
        expect(deflater.run(plain, level, length - 1)).toBe(null);
        expect(deflater.run(plain, level, 0)).toBe(null);
      }
    }
  });

  test('noise is stored as it is, and refused where that does not fit', () => {
    const noise = makeContent('random', 65536, 9);
    for (const { deflater } of backends) {
      const stream = deflater.run(noise, level) as Buffer;
      expect(dissect(stream).blocks).toEqual([2, 0, 0]);
      expect(stream.length).toBe(65536 + 10);
      expect(deflater.run(noise, level, 65535)).toBe(null);
    }
  });
});

test('noise beside text costs no more than itself', () => {
  const plain = makeContent('random', 65536, 4);
  plain.set(makeContent('text', 16384, 4), 24576);
  const stream = encode(plain, DEFLATE_DEFAULT);
  const zlib = deflateRawSync(plain, { windowBits: 12, level: 6, memLevel: 9 }).length;
  expect(stream.length).toBeLessThan(zlib);
});

test('repeated sectors of noise are no noise', () => {
  const plain = makeContent('random', 65536, 4);
  for (let at = 4096; at < plain.length; at += 4096) plain.copyWithin(at, 0, 4096);
  expect(encode(plain, DEFLATE_FAST).length).toBeLessThan(8192);
});

test('every form of block is used where it is the shortest', () => {
  const forms = (plain: Uint8Array): number[] => dissect(encode(plain, DEFLATE_DEFAULT)).blocks;
  expect(forms(makeContent('random', 512))).toEqual([1, 0, 0]);
  expect(forms(Buffer.from('a short text'))).toEqual([0, 1, 0]);
  expect(forms(makeContent('text', 8192))).toEqual([0, 0, 1]);
  // A change of content starts a block.
  const changing = Buffer.concat(corpus().map((data) => data.subarray(0, 16384)));
  expect(forms(changing)[2]).toBeGreaterThan(1);
});

test('codewords are cut to their greatest length', () => {
  // Frequencies like Fibonacci's numbers make the deepest tree; distances keep matches out.
  const bytes: number[] = [];
  let [a, b] = [1, 1];
  for (let symbol = 0; symbol < 22; symbol++) {
    for (let i = 0; i < a; i++) bytes.push(symbol * 11);
    [a, b] = [b, a + b];
  }
  const random = makeContent('random', bytes.length * 4, 3);
  const view = new DataView(random.buffer);
  for (let i = bytes.length - 1; i > 0; i--) {
    const j = view.getUint32(i * 4, true) % (i + 1);
    [bytes[i], bytes[j]] = [bytes[j] as number, bytes[i] as number];
  }
  for (const level of LEVELS) {
    const plain = Uint8Array.from(bytes);
    expect(dissect(encode(plain, level)).plain.equals(plain)).toBe(true);
  }
});

test('what one call leaves behind does not change the next', () => {
  const [text, code] = corpus() as [Buffer, Buffer];
  const alone = new Deflater(loadScalar()).run(code, DEFLATE_DEFAULT) as Buffer;
  for (const { deflater } of backends) {
    deflater.run(text, DEFLATE_BEST);
    deflater.run(makeContent('random', 8192), DEFLATE_FAST, 100);
    expect(deflater.run(code, DEFLATE_DEFAULT)?.equals(alone)).toBe(true);
  }
});
