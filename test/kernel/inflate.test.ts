import { constants, deflateRawSync, inflateRawSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  INFLATE_INPUT_SLACK,
  INFLATE_INVALID,
  INFLATE_OK,
  INFLATE_OUTPUT_SLACK,
  INFLATE_SHORT,
  INFLATE_TRUNCATED,
} from '../../src/kernel/abi.ts';
import { allBackends, loadScalar, type TestKernel } from './backends.ts';
import { BitWriter, corpus } from './inflate-support.ts';

const MAX_STREAM = 300_000;
const MAX_OUTPUT = 131_072;
const GUARD = 64;

/** Runs the kernel between guard bytes, with rubbish behind the stream. */
class Inflater {
  readonly #kernel: TestKernel;
  readonly #input;
  readonly #output;

  constructor(kernel: TestKernel) {
    this.#kernel = kernel;
    this.#input = kernel.arena.allocate(MAX_STREAM + INFLATE_INPUT_SLACK);
    this.#output = kernel.arena.allocate(GUARD + MAX_OUTPUT + INFLATE_OUTPUT_SLACK + GUARD);
  }

  run(stream: Uint8Array, length: number, behind = 0xa5): { status: number; bytes?: Buffer } {
    const input = this.#input.bytes;
    input.set(stream);
    input.fill(behind, stream.length, stream.length + INFLATE_INPUT_SLACK);
    const output = this.#output.bytes;
    output.fill(0xc3, 0, GUARD + length + INFLATE_OUTPUT_SLACK + GUARD);
    const start = this.#output.ptr + GUARD;
    const status = this.#kernel.exports.inflate(this.#input.ptr, stream.length, start, length);
    const after = GUARD + length + INFLATE_OUTPUT_SLACK;
    for (let i = 0; i < GUARD; i++) {
      if (output[i] !== 0xc3 || output[after + i] !== 0xc3) throw new Error('guard bytes changed');
    }
    if (status !== INFLATE_OK) return { status };
    return { status, bytes: Buffer.from(output.subarray(GUARD, GUARD + length)) };
  }
}

const twin = new Inflater(loadScalar());
const backends = allBackends().map(({ name, kernel }) => ({
  name,
  inflater: new Inflater(kernel),
}));
/** Statuses and bytes of all backends are the twin's. */
function expectAgreement(stream: Uint8Array, length: number, behind = 0xa5): number {
  const expected = twin.run(stream, length);
  for (const { name, inflater } of backends) {
    const { status, bytes } = inflater.run(stream, length, behind);
    if (status !== expected.status) {
      throw new Error(
        `${name}: status ${status}, twin ${expected.status}: ${Buffer.from(stream).toString('hex')}`,
      );
    }
    if (bytes && expected.bytes && !bytes.equals(expected.bytes)) throw new Error(`${name}: bytes`);
  }
  return expected.status;
}

describe.each(backends)('inflate of $name', ({ inflater }) => {
  test('streams of zlib: levels, strategies, windows, texts', () => {
    for (const data of corpus()) {
      for (const level of [0, 1, 6, 9]) {
        for (const strategy of [
          constants.Z_DEFAULT_STRATEGY,
          constants.Z_FILTERED,
          constants.Z_HUFFMAN_ONLY,
          constants.Z_RLE,
          constants.Z_FIXED,
        ]) {
          const windowBits = level === 1 ? 9 : level === 6 ? 12 : 15;
          const stream = deflateRawSync(data, { level, strategy, windowBits });
          const { status, bytes } = inflater.run(stream, data.length);
          expect(status).toBe(INFLATE_OK);
          expect(bytes?.equals(data)).toBe(true);
        }
      }
    }
  });

  test('output of every length is a prefix', () => {
    const data = Buffer.from('abcabcabcabcabcabc0123456789'.repeat(12) + 'x'.repeat(300));
    for (const options of [{}, { strategy: constants.Z_FIXED }, { level: 0 }]) {
      const stream = deflateRawSync(data, options);
      for (let length = 0; length <= data.length; length++) {
        const { status, bytes } = inflater.run(stream, length);
        expect(status).toBe(INFLATE_OK);
        expect(bytes?.equals(data.subarray(0, length))).toBe(true);
      }
      expect(inflater.run(stream, data.length + 1).status).toBe(INFLATE_SHORT);
    }
  });

  test('matches of every distance and length', () => {
    const prefix = Buffer.from(Array.from({ length: 70 }, (_, i) => (i * 37) & 255));
    for (let distance = 1; distance <= 70; distance++) {
      for (const length of [3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 64, 100, 257, 258]) {
        const writer = new BitWriter().fixedBlock(true);
        for (const byte of prefix) writer.fixedLiteral(byte);
        writer.fixedMatch(length, distance).fixedEnd();
        const expected = [...prefix];
        for (let i = 0; i < length; i++)
          expected.push(expected[expected.length - distance] as number);
        const { status, bytes } = inflater.run(writer.bytes(), expected.length);
        expect(status).toBe(INFLATE_OK);
        expect(bytes?.equals(Buffer.from(expected))).toBe(true);
      }
    }
  });

  test('distances up to 32 KiB, and never before the output', () => {
    const data = Buffer.alloc(32768, 0);
    for (let i = 0; i < data.length; i++) data[i] = (i * i) >> 7;
    const stream = (distance: number): Uint8Array => {
      const writer = new BitWriter().stored(data, false).fixedBlock(true);
      return writer.fixedMatch(258, distance).fixedEnd().bytes();
    };
    const { status, bytes } = inflater.run(stream(32768), 32768 + 258);
    expect(status).toBe(INFLATE_OK);
    expect(bytes?.subarray(32768).equals(data.subarray(0, 258))).toBe(true);
    const short = (literals: number, distance: number): Uint8Array => {
      const writer = new BitWriter().fixedBlock(true);
      for (let i = 0; i < literals; i++) writer.fixedLiteral(i);
      return writer.fixedMatch(10, distance).fixedEnd().bytes();
    };
    for (const literals of [0, 1, 2, 20]) {
      expect(inflater.run(short(literals, literals + 1), literals + 10).status).toBe(
        INFLATE_INVALID,
      );
      if (literals > 0)
        expect(inflater.run(short(literals, literals), literals + 10).status).toBe(INFLATE_OK);
    }
  });

  test('broken streams', () => {
    const bad = (hex: string, length = 100): number =>
      inflater.run(Buffer.from(hex, 'hex'), length).status;
    expect(bad('')).toBe(INFLATE_TRUNCATED);
    expect(bad('', 0)).toBe(INFLATE_OK);
    expect(bad('07')).toBe(INFLATE_INVALID);
    expect(bad('01000000')).toBe(INFLATE_TRUNCATED);
    expect(bad('0100000000')).toBe(INFLATE_INVALID);
    expect(bad('010000ffff')).toBe(INFLATE_SHORT);
    expect(bad('010500fafff061')).toBe(INFLATE_TRUNCATED);
    expect(bad('0300')).toBe(INFLATE_SHORT);
    // A zlib header in front.
    expect(bad('789c4b4c4c4c040006000003')).not.toBe(INFLATE_OK);
    const symbol = (value: number): number =>
      inflater.run(new BitWriter().fixedBlock(true).fixedLitlen(value).bits(0, 32).bytes(), 5)
        .status;
    expect([symbol(286), symbol(287)]).toEqual([INFLATE_INVALID, INFLATE_INVALID]);
    const distance = (value: number): number => {
      const writer = new BitWriter().fixedBlock(true).fixedLiteral(1).fixedLitlen(257);
      return inflater.run(writer.code(value, 5).bits(0, 32).bytes(), 5).status;
    };
    expect([distance(30), distance(31)]).toEqual([INFLATE_INVALID, INFLATE_INVALID]);
  });

  test('dynamic headers', () => {
    const run = (writer: BitWriter, length: number): number =>
      inflater.run(writer.bits(0, 64).bytes(), length).status;
    const lengths = (changes: Record<number, number>, count: number): number[] =>
      Array.from({ length: count }, (_, i) => changes[i] ?? 0);
    const dynamic = (
      litlen: Record<number, number>,
      distances: Record<number, number>,
    ): BitWriter => new BitWriter().dynamicBlock(lengths(litlen, 286), lengths(distances, 30));
    // One codeword of one bit, and no distance code: zlib takes both.
    expect(run(dynamic({ 256: 1 }, {}), 1)).toBe(INFLATE_SHORT);
    expect(run(dynamic({ 65: 1, 256: 1 }, {}), 4)).toBe(INFLATE_OK);
    expect(run(dynamic({ 65: 1, 256: 1 }, { 0: 1 }), 4)).toBe(INFLATE_OK);
    // Incomplete, over-subscribed, without end marker.
    expect(run(dynamic({ 65: 2, 256: 2 }, {}), 4)).toBe(INFLATE_INVALID);
    expect(run(dynamic({ 65: 1, 66: 1, 256: 1 }, {}), 4)).toBe(INFLATE_INVALID);
    expect(run(dynamic({ 65: 1, 66: 1 }, {}), 4)).toBe(INFLATE_INVALID);
    expect(run(dynamic({ 65: 1, 256: 1 }, { 0: 2 }), 4)).toBe(INFLATE_INVALID);
    expect(run(dynamic({ 65: 1, 256: 1 }, { 0: 1, 1: 1, 2: 1 }), 4)).toBe(INFLATE_INVALID);
    // A length, then a distance where there is none.
    const none = dynamic({ 65: 2, 66: 2, 256: 2, 257: 2 }, {}).code(0, 2).code(3, 2);
    expect(run(none, 4)).toBe(INFLATE_INVALID);
    // Too many codes.
    expect(run(new BitWriter().bits(1, 1).bits(2, 2).bits(30, 5).bits(0, 9), 4)).toBe(
      INFLATE_INVALID,
    );
    expect(run(new BitWriter().bits(1, 1).bits(2, 2).bits(0, 5).bits(30, 5).bits(0, 4), 4)).toBe(
      INFLATE_INVALID,
    );
    // All precode lengths 0.
    expect(run(new BitWriter().bits(1, 1).bits(2, 2).bits(0, 14).bits(0, 64), 4)).toBe(
      INFLATE_INVALID,
    );
  });
});

test('a long run of fixed blocks, then dynamic and stored ones', () => {
  const writer = new BitWriter();
  for (let i = 0; i < 500; i++)
    writer
      .fixedBlock(false)
      .fixedLiteral(i & 255)
      .fixedEnd();
  writer.stored(Buffer.alloc(0), false);
  const lengths = new Array<number>(286).fill(0);
  lengths[65] = 1;
  lengths[256] = 1;
  writer.dynamicBlock(lengths, new Array<number>(30).fill(0), false).code(0, 1).code(1, 1);
  writer.fixedBlock(true).fixedLiteral(66).fixedEnd();
  const stream = writer.bytes();
  expect(expectAgreement(stream, 502)).toBe(INFLATE_OK);
  expect(twin.run(stream, 502).bytes?.equals(inflateRawSync(stream))).toBe(true);
});

test('truncated at every length: the same everywhere, whatever lies behind', () => {
  for (const data of corpus().slice(0, 4)) {
    const plain = data.subarray(0, 600);
    for (const options of [{ level: 0 }, {}, { strategy: constants.Z_FIXED }]) {
      const stream = deflateRawSync(plain, options);
      let last = INFLATE_TRUNCATED;
      for (let length = 0; length <= stream.length; length++) {
        const cut = stream.subarray(0, length);
        const status = expectAgreement(cut, plain.length, 0);
        expect(status).toBe(expectAgreement(cut, plain.length, 0xff));
        // Once the output is full, the end marker may be missing.
        if (last === INFLATE_OK) expect(status).toBe(INFLATE_OK);
        else expect([INFLATE_TRUNCATED, INFLATE_OK]).toContain(status);
        last = status;
      }
      expect(last).toBe(INFLATE_OK);
    }
  }
});

/** What zlib makes of it: the bytes, or undefined. */
function zlibBytes(stream: Uint8Array, length: number): Buffer | undefined {
  try {
    return inflateRawSync(stream, {
      maxOutputLength: length + 1024,
      finishFlush: constants.Z_SYNC_FLUSH,
    });
  } catch {
    return undefined;
  }
}

test('mutated streams: no trap, the same everywhere, and as zlib decodes them', () => {
  const plains = corpus().map((data) => data.subarray(0, 4000));
  let decoded = 0;
  fc.assert(
    fc.property(
      fc.nat(plains.length - 1),
      fc.constantFrom(constants.Z_DEFAULT_STRATEGY, constants.Z_HUFFMAN_ONLY, constants.Z_FIXED),
      fc.array(fc.tuple(fc.oneof(fc.nat(100), fc.nat(5000)), fc.integer({ min: 1, max: 255 })), {
        maxLength: 4,
      }),
      fc.integer({ min: -400, max: 400 }),
      (index, strategy, changes, more) => {
        const plain = plains[index] as Buffer;
        const stream = deflateRawSync(plain, { strategy });
        for (const [at, flip] of changes) {
          const place = at % stream.length;
          stream[place] = (stream[place] as number) ^ flip;
        }
        const length = Math.max(0, plain.length + more);
        const status = expectAgreement(stream, length);
        const expected = zlibBytes(stream, length);
        if (!expected) return;
        decoded++;
        if (expected.length >= length) {
          expect(status).toBe(INFLATE_OK);
          expect(twin.run(stream, length).bytes?.equals(expected.subarray(0, length))).toBe(true);
        } else expect([INFLATE_SHORT, INFLATE_TRUNCATED]).toContain(status);
      },
    ),
    { numRuns: 800 },
  );
  expect(decoded).toBeGreaterThan(100);
});

test('10,000 mutants of short streams: no trap, the same everywhere', () => {
  const streams = corpus().flatMap((data) =>
    [{}, { level: 1 }, { strategy: constants.Z_FIXED }].map((options) =>
      deflateRawSync(data.subarray(100, 500), options),
    ),
  );
  const next = random(1);
  const seen = new Map<number, number>();
  for (let round = 0; round < 10_000; round++) {
    const stream = Buffer.from(streams[next() % streams.length] as Buffer);
    for (let changes = 1 + (next() % 3); changes > 0; changes--) {
      // Headers of blocks, at the start, hold most of what can be wrong.
      const place = next() % (next() % 2 === 0 ? Math.min(80, stream.length) : stream.length);
      stream[place] = (stream[place] as number) ^ (1 << (next() % 8));
    }
    const status = expectAgreement(stream, 380 + (next() % 60), next() & 255);
    seen.set(status, (seen.get(status) ?? 0) + 1);
  }
  for (const status of [INFLATE_OK, INFLATE_SHORT, INFLATE_INVALID, INFLATE_TRUNCATED]) {
    expect(seen.get(status)).toBeGreaterThan(100);
  }
});

test('random bytes, and random blocks behind a valid header', () => {
  const bytes = fc.uint8Array({ maxLength: 300 });
  fc.assert(
    fc.property(bytes, fc.constantFrom(-1, 3, 5), fc.nat(2000), (stream, header, length) => {
      if (header >= 0 && stream.length > 0) stream[0] = ((stream[0] as number) & 0xf8) | header;
      const status = expectAgreement(stream, length);
      const expected = zlibBytes(stream, length);
      if (expected && expected.length >= length) expect(status).toBe(INFLATE_OK);
    }),
    { numRuns: 1000 },
  );
});

test('random complete codes, to 15 bits', () => {
  fc.assert(
    fc.property(
      fc.infiniteStream(fc.nat(2 ** 30)),
      fc.uint8Array({ minLength: 200, maxLength: 400 }),
      (random, body) => {
        const next = (): number => random.next().value as number;
        const writer = new BitWriter();
        writer.dynamicBlock(splitCode(286, next, 256), splitCode(30, next, 0));
        for (const byte of body) writer.bits(byte, 8);
        const stream = writer.bytes();
        const status = expectAgreement(stream, 3000);
        expectAgreement(stream, 37);
        const expected = zlibBytes(stream, 3000);
        if (expected && expected.length >= 3000) expect(status).toBe(INFLATE_OK);
      },
    ),
    { numRuns: 150 },
  );
});

/** A generator of 31-bit numbers that depends on its seed alone. */
function random(seed: number): () => number {
  let state = seed | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 1;
  };
}

/** Lengths of a complete code over some of `count` symbols, `needed` among them. */
function splitCode(count: number, next: () => number, needed: number): number[] {
  const leaves = [1, 1];
  const size = 2 + (next() % (count - 2));
  while (leaves.length < size) {
    // Splitting the newest leaf often makes some codewords long.
    let at = next() % 3 === 0 ? next() % leaves.length : leaves.length - 1;
    if ((leaves[at] as number) >= 15) at = leaves.findIndex((length) => length < 15);
    const length = (leaves[at] as number) + 1;
    leaves[at] = length;
    leaves.push(length);
  }
  const symbols = Array.from({ length: count }, (_, i) => i).filter((i) => i !== needed);
  for (let i = symbols.length - 1; i > 0; i--) {
    const j = next() % (i + 1);
    [symbols[i], symbols[j]] = [symbols[j] as number, symbols[i] as number];
  }
  const lengths = new Array<number>(count).fill(0);
  lengths[needed] = leaves[0] as number;
  for (let i = 1; i < leaves.length; i++) lengths[symbols[i - 1] as number] = leaves[i] as number;
  return lengths;
}
