import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import * as fzstd from 'fzstd';
import { describe, expect, test } from 'vitest';
import { makeContent } from '../support/data.ts';
import { allBackends } from './backends.ts';
import { structured } from './structured.ts';
import { partsOf, roomFor, ZstdEncoder } from './zstd-encode-support.ts';
import { compress, contents, decodeByLibrary, makeRandom, ZstdDecoder } from './zstd-support.ts';

const backends = allBackends().map(({ name, kernel }) => ({
  name,
  encoder: new ZstdEncoder(kernel),
  decoder: new ZstdDecoder(kernel),
}));
type Backend = (typeof backends)[number];
const named = (wanted: string) => backends.find(({ name }) => name === wanted) as Backend;
const fast = named('release-simd');
const twin = named('js');

/** Whether libzstd, fzstd and both of our decoders read `plain` from the frame. */
function expectDecoded(frame: Uint8Array, plain: Uint8Array, what: string): void {
  const results = {
    libzstd: decodeByLibrary(frame, plain.length),
    fzstd: plain.length > 0 ? fzstd.decompress(frame) : plain,
    kernel: fast.decoder.run(frame, plain.length).bytes,
    twin: twin.decoder.run(frame, plain.length).bytes,
  };
  for (const [name, bytes] of Object.entries(results)) {
    if (bytes === undefined || Buffer.compare(bytes, plain) !== 0) {
      throw new Error(`${name} does not read ${what}`);
    }
  }
  expect(partsOf(frame).contentSize).toBe(plain.length);
}

/** The frame, which is the same from every backend and read by every decoder. */
function encode(plain: Uint8Array, what = 'the frame'): Buffer {
  const frame = fast.encoder.run(plain) as Buffer;
  for (const { name, encoder } of backends) {
    if (!encoder.run(plain)?.equals(frame)) throw new Error(`${name} makes another of ${what}`);
  }
  expectDecoded(frame, plain, what);
  return frame;
}

describe('every backend the same frame, read by every decoder', () => {
  test('a sequence whose bits fill the 64 that are held', () => {
    const packed = readFileSync(new URL('./fixtures/zstd-64-bits-held.gz', import.meta.url));
    encode(gunzipSync(packed));
  });

  test.each([9, 10, 11, 12, 13, 14, 15, 16])('%i cluster bits, all contents', (bits) => {
    for (const [i, plain] of contents(2 ** bits).entries()) encode(plain, `content ${i}`);
    for (const kind of ['zero', 'text', 'random', 'mixed'] as const) {
      encode(makeContent(kind, 2 ** bits, bits), kind);
    }
  });

  test.each([17, 18, 19, 20, 21])('%i cluster bits', (bits) => {
    for (const plain of [contents(2 ** bits)[7]!, makeContent('mixed', 2 ** bits, bits)]) {
      // The twin is slow, and at 18 bits has seen several blocks.
      const compiled = backends.filter(({ name }) => name.startsWith('release') || bits < 19);
      const frames = compiled.map(({ encoder }) => encoder.run(plain) as Buffer);
      for (const frame of frames) expect(frame.equals(frames[0] as Buffer)).toBe(true);
      expectDecoded(frames[0] as Buffer, plain, `${bits} bits`);
    }
  });

  test('structured content', () => {
    fc.assert(
      fc.property(structured, (plain) => {
        expect(encode(plain).length).toBeLessThanOrEqual(roomFor(plain.length));
      }),
      { numRuns: 200 },
    );
  });

  test('periods of 1 to 300 bytes', () => {
    const noise = makeContent('random', 300, 3);
    for (let period = 1; period <= 300; period++) {
      const plain = Uint8Array.from({ length: 1536 }, (_, i) => noise[i % period] as number);
      expect(encode(plain, `period ${period}`).length).toBeLessThan(period + 90);
    }
  });

  test('lengths 0 to 300, of text and noise', () => {
    const text = makeContent('text', 300);
    const noise = makeContent('random', 300);
    for (let length = 0; length <= 300; length++) {
      encode(text.subarray(0, length), `text of ${length}`);
      encode(noise.subarray(0, length), `noise of ${length}`);
    }
  });

  test('lengths around the change of a form', () => {
    const text = makeContent('mixed', 2 ** 18, 5);
    const turns = [1024, 2 ** 14, 65536, 65792, 2 ** 17, 2 ** 17 + 32, 2 ** 18];
    for (const turn of turns) {
      for (const length of [turn - 1, turn, Math.min(turn + 1, text.length)]) {
        encode(text.subarray(0, length), `${length} bytes`);
      }
    }
  });

  test('near noise: values of a few bits, and a few values among noise', () => {
    const random = makeRandom(7);
    for (const values of [2, 3, 5, 17, 64, 129, 200, 255]) {
      const plain = Uint8Array.from(
        { length: 9000 },
        () => random(values) * (values < 128 ? 2 : 1),
      );
      encode(plain, `${values} values`);
    }
    for (let share = 1; share <= 64; share *= 2) {
      const plain = Uint8Array.from({ length: 9000 }, () =>
        random(share) === 0 ? 7 : random(256),
      );
      encode(plain, `one of ${share}`);
    }
  });
});

test('codewords are cut to their greatest length', () => {
  // Frequencies like Fibonacci's numbers make the deepest tree; shuffled, so that matches are few.
  const bytes: number[] = [];
  let [a, b] = [1, 1];
  for (let symbol = 0; symbol < 22; symbol++) {
    for (let i = 0; i < a; i++) bytes.push(symbol * 11);
    [a, b] = [b, a + b];
  }
  const random = makeRandom(3);
  for (let i = bytes.length - 1; i > 0; i--) {
    const j = random(i + 1);
    [bytes[i], bytes[j]] = [bytes[j] as number, bytes[i] as number];
  }
  const { literals } = partsOf(encode(Uint8Array.from(bytes)));
  expect(literals).toEqual([{ type: 2, streams: 4 }]);
});

test('every form of literals and of tables is used where it is the shortest', () => {
  const parts = (plain: Uint8Array) => partsOf(encode(plain));
  expect(parts(makeContent('random', 4096))).toMatchObject({ raw: 1, literals: [] });
  // Raw, of one value, in one stream, in four.
  const noise = makeContent('random', 600, 2);
  const twice = Buffer.concat([noise, noise]);
  expect(parts(twice).literals).toEqual([{ type: 0, streams: 0 }]);
  const bits = Uint8Array.from({ length: 200 }, (_, i) => 65 + ((noise[i] as number) & 3));
  expect(parts(bits).literals).toEqual([{ type: 2, streams: 1 }]);
  const [text] = contents(65536) as [Uint8Array];
  expect(parts(text)).toMatchObject({ literals: [{ type: 2, streams: 4 }], modes: [[2, 2, 2]] });
  expect(parts(new Uint8Array(65536)).modes).toEqual([[0, 0, 0]]);
  // Records of 20 bytes with 4 new ones: all matches are of 16 bytes.
  const records = Buffer.from(
    Array.from({ length: 20 * 60 }, (_, i) =>
      i % 20 < 4 ? Math.floor(i / 20) * 4 + (i % 20) : 236 + (i % 20),
    ),
  );
  expect(parts(records).modes[0]?.[2]).toBe(1);
});

test('blocks that do not shrink are stored among others that do', () => {
  const plain = makeContent('random', 2 ** 19, 6);
  plain.set(makeContent('text', 2 ** 17), 2 ** 17);
  plain.copyWithin(3 * 2 ** 17, 2 ** 17, 2 ** 18);
  const { raw, literals } = partsOf(encode(plain));
  expect(raw).toBe(2);
  expect(literals.length).toBe(2);
});

test('capacity: an exact fit is taken, one byte less is refused, and nothing behind it changes', () => {
  const plains = [
    ...contents(9000),
    ...contents(512),
    makeContent('mixed', 2 ** 18),
    new Uint8Array(0),
  ];
  for (const { name, encoder } of backends) {
    for (const [i, plain] of plains.entries()) {
      const { length } = encoder.run(plain) as Buffer;
      const what = `${name}, content ${i}`;
      expect(encoder.run(plain, length)?.length, what).toBe(length);
      for (const capacity of [length - 1, length - 2, length - 9, length >> 1, 12, 9, 8, 1, 0]) {
        if (capacity < length) expect(encoder.run(plain, capacity), what).toBe(null);
      }
    }
  }
});

test('every capacity up to the length is safe', () => {
  for (const plain of contents(700)) {
    const { length } = fast.encoder.run(plain) as Buffer;
    for (let capacity = 0; capacity < length; capacity++) {
      for (const { encoder } of backends) expect(encoder.run(plain, capacity)).toBe(null);
    }
  }
});

test('what one call leaves behind does not change the next', () => {
  const [text, code] = contents(65536) as [Uint8Array, Uint8Array];
  const alone = new ZstdEncoder(allBackends()[0]!.kernel).run(code) as Buffer;
  for (const { encoder } of backends) {
    encoder.run(text);
    encoder.run(makeContent('mixed', 2 ** 18));
    encoder.run(makeContent('random', 8192), 100);
    expect(encoder.run(code)?.equals(alone)).toBe(true);
  }
});

test('about as short as level 3 of libzstd', () => {
  const sizes = [12, 14, 16, 18, 21].flatMap((bits) =>
    contents(2 ** bits).map((plain) => [
      Math.min((fast.encoder.run(plain) as Buffer).length, plain.length),
      Math.min(compress(plain, 3).length, plain.length),
    ]),
  );
  for (const [ours, theirs] of sizes as [number, number][]) {
    // Of a block of one value, libzstd tells that value alone.
    expect(ours).toBeLessThan(theirs * 1.06 + 160);
  }
  const sum = (i: 0 | 1) => sizes.reduce((total, pair) => total + (pair[i] as number), 0);
  expect(sum(0)).toBeLessThan(sum(1) * 1.01);
});
