import { constants, deflateRawSync } from 'node:zlib';
import { DeflateCodec } from '../../src/codecs/deflate.ts';
import { loadTarget } from '../kernel/backends.ts';
import { BitWriter } from '../kernel/inflate-support.ts';
import { contents, sequenceBlock, withoutSize } from '../kernel/zstd-support.ts';
import type { NativeZstd } from './native-codecs.ts';
import { Random } from './random.ts';

/** A stream to start from, and the bytes it decodes to (or may decode to). */
export interface SeedStream {
  readonly bytes: Uint8Array;
  readonly length: number;
}

const LENGTHS = [61, 700, 2048, 4100];
const LARGE = 65_536;
const STRATEGIES = [
  constants.Z_DEFAULT_STRATEGY,
  constants.Z_FILTERED,
  constants.Z_HUFFMAN_ONLY,
  constants.Z_RLE,
  constants.Z_FIXED,
];
/** Streams with codes nobody's encoder makes. */
const RANDOM_CODES = 200;

/** Cuts bytes in one to four parts. */
function partsOf(plain: Uint8Array, random: Random): Uint8Array[] {
  const count = 1 + random.below(4);
  const cuts = Array.from({ length: count - 1 }, () => random.below(plain.length + 1));
  const ends = [...cuts.sort((a, b) => a - b), plain.length];
  return ends.map((end, i) => plain.subarray(ends[i - 1] ?? 0, end));
}

/** Deflate: blocks of every type, alone and mixed, of zlib and our encoder, and random codes. */
export function deflateSeeds(): SeedStream[] {
  const random = new Random(1);
  const encoder = new DeflateCodec(loadTarget('release-simd'), { compress: true });
  const seeds: SeedStream[] = [];
  for (const length of [...LENGTHS, LARGE]) {
    for (const plain of contents(length)) {
      const add = (bytes: Uint8Array): number => seeds.push({ bytes, length });
      if (length < LARGE) {
        for (const strategy of STRATEGIES) add(deflateRawSync(plain, { strategy }));
        add(deflateRawSync(plain, { level: 0 }));
        for (let i = 0; i < 4; i++) add(mixedBlocks(plain, random));
      }
      add(deflateRawSync(plain, { level: 9, windowBits: 12 }));
      const room = new Uint8Array(length + 1024);
      add(room.slice(0, encoder.compress(plain, room)));
    }
  }
  for (let i = 0; i < RANDOM_CODES; i++) seeds.push(randomCodes(random));
  return seeds;
}

/** Parts compressed each in its own way; a full flush ends all but the last. */
function mixedBlocks(plain: Uint8Array, random: Random): Uint8Array {
  const parts = partsOf(plain, random);
  const streams = parts.map((part, i) =>
    deflateRawSync(part, {
      level: random.pick([0, 1, 6, 9]),
      strategy: random.pick(STRATEGIES),
      finishFlush: i === parts.length - 1 ? constants.Z_FINISH : constants.Z_FULL_FLUSH,
    }),
  );
  return Buffer.concat(streams);
}

/** A dynamic block with complete codes up to 15 bits, and noise for its symbols. */
function randomCodes(random: Random): SeedStream {
  const writer = new BitWriter();
  // A start to copy from, so that fewer distances reach too far.
  if (random.oneIn(2)) writer.stored(contents(700)[random.below(9)]!, false);
  writer.dynamicBlock(splitCode(286, 256, random), splitCode(30, 0, random));
  for (let i = 50 + random.below(300); i > 0; i--) writer.bits(random.below(256), 8);
  return { bytes: writer.bytes(), length: 1 + random.below(3000) };
}

/** Lengths of a complete code over some of `count` symbols, `needed` among them. */
function splitCode(count: number, needed: number, random: Random): number[] {
  const leaves = [1, 1];
  for (let size = 2 + random.below(count - 2); leaves.length < size; ) {
    // Splitting the newest leaf often makes some codewords long.
    const chosen = random.oneIn(3) ? random.below(leaves.length) : leaves.length - 1;
    const at = leaves[chosen]! < 15 ? chosen : leaves.findIndex((length) => length < 15);
    leaves[at]! += 1;
    leaves.push(leaves[at]!);
  }
  const lengths = new Array<number>(count).fill(0);
  lengths[needed] = leaves.pop()!;
  for (const length of leaves) {
    let symbol = random.below(count);
    while (lengths[symbol] !== 0) symbol = (symbol + 1) % count;
    lengths[symbol] = length;
  }
  return lengths;
}

/** zstd: one and many blocks, with and without content size and checksum, two frames, hand-made ones. */
export function zstdSeeds(library: NativeZstd): SeedStream[] {
  const random = new Random(2);
  const seeds: SeedStream[] = handMade();
  for (const length of [...LENGTHS, LARGE]) {
    for (const plain of contents(length)) {
      for (const level of length < LARGE ? [-5, 1, 3, 6, 12, 19] : [3]) {
        const whole = library.encode([plain], level, false);
        const blocks = library.encode(partsOf(plain, random), level, random.oneIn(2));
        const frames = partsOf(plain, random).map((part) => library.encode([part], level, false));
        for (const bytes of [whole, withoutSize(whole), blocks, Buffer.concat(frames)]) {
          seeds.push({ bytes, length });
        }
      }
    }
  }
  return seeds;
}

/** Frames of one match, with distances that repeat or reach around. */
function handMade(): SeedStream[] {
  const seeds: SeedStream[] = [];
  const literals = Buffer.from('0123456789abcdefghijklmnop');
  for (const offsetValue of [1, 2, 3, 4, 7, 13, 28, 29, 300]) {
    for (const matchLength of [3, 4, 17, 35, 131, 500]) {
      for (const literalLength of [0, 1, 10, 26]) {
        const block = sequenceBlock({ literals, literalLength, offsetValue, matchLength });
        // No content size, a window of 8 MiB; the block is the last: 1, of type 2.
        const header = (block.length << 3) | 5;
        const start = Buffer.from('28b52ffd0068', 'hex');
        const size = Uint8Array.of(header & 255, (header >> 8) & 255, header >> 16);
        const bytes = Buffer.concat([start, size, block]);
        seeds.push({ bytes, length: literals.length + matchLength });
      }
    }
  }
  return seeds;
}
