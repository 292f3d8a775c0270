import { expect, test } from 'vitest';
import { ZSTD_INVALID, ZSTD_OK, ZSTD_UNSUPPORTED } from '../../src/kernel/abi.ts';
import { xxh64 } from '../../src/kernel/scalar/xxh64.ts';
import { loadScalar, loadTarget, TARGETS } from './backends.ts';
import {
  compress,
  contents,
  decodeByLibrary,
  frameLength,
  hasFourStreams,
  makeRandom,
  withChecksum,
  withoutSize,
  ZstdDecoder,
} from './zstd-support.ts';

const twin = new ZstdDecoder(loadScalar());
const modules = TARGETS.map((name: string) => ({
  name,
  decoder: new ZstdDecoder(loadTarget(name)),
}));
const random = makeRandom(20_221);

interface Base {
  readonly stream: Uint8Array;
  readonly length: number;
}

function makeBases(): Base[] {
  return [600, 2048].flatMap((length) =>
    contents(length).flatMap((plain) =>
      [1, 6, 19].flatMap((level) => {
        const stream = compress(plain, level);
        const forms = [stream, withoutSize(stream), withChecksum(stream, xxh64(plain))];
        return forms.map((form) => ({ stream: form, length }));
      }),
    ),
  );
}

/** One to four changes; a third of them in the headers, where they do most. */
function mutate(stream: Uint8Array): Uint8Array {
  // A copy; `slice` of a Buffer is none.
  const result = Uint8Array.from(stream);
  for (let changes = 1 + random(4); changes > 0; changes--) {
    const at = random(random(3) === 0 ? Math.min(40, result.length) : result.length);
    result[at] = random(2) === 0 ? random(256) : result[at]! ^ (1 << random(8));
  }
  return result;
}

/** The twin's status, which is that of all modules, as its bytes are. */
function expectAgreement(stream: Uint8Array, length: number) {
  const expected = twin.run(stream, length);
  for (const { name, decoder } of modules) {
    const got = decoder.run(stream, length, random(256));
    const isSame =
      got.status === expected.status &&
      (expected.bytes === undefined || got.bytes?.equals(expected.bytes));
    if (!isSame) {
      const hex = Buffer.from(stream).toString('hex');
      throw new Error(`${name}: status ${got.status}, twin ${expected.status}, ${length}: ${hex}`);
    }
  }
  return expected;
}

test('10,000 damaged frames: modules, twin and libzstd agree', { timeout: 120_000 }, () => {
  const bases = makeBases();
  let accepted = 0;
  let lenient = 0;
  for (let turn = 0; turn < 10_000; turn++) {
    const { stream: base, length } = bases[turn % bases.length]!;
    const stream = mutate(base);
    const { status, bytes } = expectAgreement(stream, length);
    // What is behind the first frame is ignored here, and an error there.
    const end = frameLength(stream);
    const theirs = end === undefined ? undefined : decodeByLibrary(stream.subarray(0, end), length);
    if (status === ZSTD_OK) {
      accepted++;
      expect(theirs !== undefined && bytes?.equals(theirs)).toBe(true);
    } else if (theirs !== undefined) {
      lenient++;
      // libzstd decoding in one go knows no limit of windows, and it does not ask whether each of
      // four Huffman streams ends with its last bit, as RFC 8878 (4.2.2) wants.
      const isKnown =
        status === ZSTD_UNSUPPORTED ||
        (status === ZSTD_INVALID && hasFourStreams(stream.subarray(0, end)));
      expect(isKnown, Buffer.from(stream).toString('hex')).toBe(true);
    }
  }
  expect(accepted).toBeGreaterThan(500);
  expect(lenient).toBeLessThan(200);
});

test('noise behind a magic number', () => {
  for (let turn = 0; turn < 2000; turn++) {
    const noise = Buffer.from(Array.from({ length: random(60) }, () => random(256)));
    const descriptor = [0x00, 0x20, 0x60, 0x04][random(4)]!;
    const magic = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, descriptor]);
    // A compressed block of all that follows, so that more than headers is reached.
    const size = (noise.length << 3) | 5;
    const block = Buffer.from([10, size & 255, size >> 8, 0]);
    expectAgreement(Buffer.concat(random(2) === 0 ? [magic, noise] : [magic, block, noise]), 512);
  }
});
