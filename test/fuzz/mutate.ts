import { viewOf } from '../../src/format/fields.ts';
import type { Random } from './random.ts';
import { type Region, regionsOf } from './regions.ts';
import type { SeedImage } from './seeds.ts';

/** A seed image and the places it can be changed in. */
export interface Subject extends SeedImage {
  readonly regions: readonly Region[];
  readonly weight: number;
}

/** An image that was changed, and how. */
export interface Mutant {
  readonly bytes: Uint8Array;
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** One line: which image, and each change. */
  readonly description: string;
}

/** Prepares a seed image. */
export function subjectOf(seed: SeedImage): Subject {
  const regions = regionsOf(seed.bytes);
  return { ...seed, regions, weight: regions.reduce((sum, region) => sum + region.weight, 0) };
}

/** Changes one to four words of an image, and sometimes its length. */
export function mutate(subject: Subject, random: Random): Mutant {
  let bytes = subject.bytes.slice();
  const changes: string[] = [];
  const count = 1 + random.below(random.oneIn(2) ? 2 : 4);
  for (let i = 0; i < count; i++) changes.push(changeWord(subject, bytes, random));
  if (random.oneIn(12)) {
    const length = newLength(subject, random);
    const resized = new Uint8Array(length);
    resized.set(bytes.subarray(0, length));
    bytes = resized;
    changes.push(`length ${subject.bytes.length} -> ${length}`);
  }
  const description = `${subject.name}: ${changes.join('; ')}`;
  return { bytes, files: subject.files, description };
}

function newLength({ bytes, regions }: Subject, random: Random): number {
  if (random.oneIn(4)) return bytes.length + random.below(1 << 17);
  if (random.oneIn(2)) return random.below(bytes.length);
  const { at, width, words } = random.pick(regions);
  return Math.min(bytes.length, at + random.below(width * words + 1));
}

function pickRegion({ regions, weight }: Subject, random: Random): Region {
  let left = random.below(weight);
  for (const region of regions) {
    left -= region.weight;
    if (left < 0) return region;
  }
  throw new Error('weights do not add up');
}

function changeWord(subject: Subject, bytes: Uint8Array, random: Random): string {
  const region = pickRegion(subject, random);
  const index = random.below(region.words);
  const at = region.at + index * region.width;
  const old = getWord(bytes, at, region.width);
  const bits = region.width * 8;
  const word = BigInt.asUintN(bits, newWord(old, bits, subject, bytes, random));
  setWord(bytes, at, region.width, word);
  return `${region.name}[${index}] at ${at}: ${old.toString(16)} -> ${word.toString(16)}`;
}

function newWord(
  old: bigint,
  bits: number,
  subject: Subject,
  bytes: Uint8Array,
  random: Random,
): bigint {
  switch (random.below(9)) {
    case 0:
      return old ^ (1n << BigInt(random.below(bits)));
    case 1:
      return old + random.pick([1n, -1n, 8n, 512n, -512n, 4096n, -4096n, 65536n]);
    case 2:
      return random.pick([0n, 1n, 2n, 0xffn, 0x7fffffffn, 0xffffffffn, -1n]);
    case 3:
      return (1n << BigInt(random.below(bits))) - BigInt(random.below(2));
    case 4:
      return random.u64() & ((1n << BigInt(1 + random.below(bits))) - 1n);
    case 5:
      return otherWord(subject, bytes, random);
    case 6:
      // An offset inside the file or just past its end, with the flags that were there.
      return (old & (0xffn << 56n)) | BigInt(random.below(bytes.length * 2) & -512);
    case 7:
      return old ^ (random.pick([1n, 2n, 3n]) << 62n);
    default:
      return old ^ random.u64();
  }
}

/** A word from elsewhere in the image: tables that point into each other, entries twice. */
function otherWord(subject: Subject, bytes: Uint8Array, random: Random): bigint {
  const { at, width, words } = pickRegion(subject, random);
  return getWord(bytes, at + random.below(words) * width, width);
}

function getWord(bytes: Uint8Array, at: number, width: Region['width']): bigint {
  let word = 0n;
  for (let i = 0; i < width; i++) word = (word << 8n) | BigInt(bytes[at + i] ?? 0);
  return word;
}

function setWord(bytes: Uint8Array, at: number, width: Region['width'], word: bigint): void {
  const view = viewOf(bytes);
  if (width === 1) view.setUint8(at, Number(word));
  else if (width === 2) view.setUint16(at, Number(word));
  else if (width === 4) view.setUint32(at, Number(word));
  else view.setBigUint64(at, word);
}
