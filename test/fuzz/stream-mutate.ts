import type { Random } from './random.ts';
import type { SeedStream } from './stream-seeds.ts';

/** A damaged stream, and how many bytes it is asked for. */
export interface StreamMutant {
  readonly stream: Uint8Array;
  readonly length: number;
}

/** Where headers lie. */
const HEAD_BYTES = 60;

type Change = (stream: Uint8Array, random: Random, other: Uint8Array) => Uint8Array;

/** A place in a stream, every third time near its start, where most can be wrong. */
function place(stream: Uint8Array, random: Random): number {
  const { length } = stream;
  return random.below(random.oneIn(3) ? Math.min(HEAD_BYTES, length) : length);
}

const flipBit: Change = (stream, random) => {
  stream[place(stream, random)]! ^= 1 << random.below(8);
  return stream;
};

const setByte: Change = (stream, random) => {
  stream[place(stream, random)] = random.pick([0, 0xff, random.below(256)]);
  return stream;
};

const truncate: Change = (stream, random) => stream.subarray(0, random.below(stream.length + 1));

const pad: Change = (stream, random) => {
  const noise = Uint8Array.from({ length: random.below(600) }, () => random.below(256));
  return Buffer.concat([stream, random.oneIn(2) ? noise : noise.fill(0)]);
};

const splice: Change = (stream, random, other) =>
  Buffer.concat([stream.subarray(0, place(stream, random)), other.subarray(place(other, random))]);

const remove: Change = (stream, random) => {
  const at = place(stream, random);
  return Buffer.concat([stream.subarray(0, at), stream.subarray(at + 1 + random.below(8))]);
};

const repeat: Change = (stream, random) => {
  const at = place(stream, random);
  return Buffer.concat([stream.subarray(0, at + 1 + random.below(40)), stream.subarray(at)]);
};

/** Small changes go further before they are noticed. */
const CHANGES: readonly Change[] = [
  ...[flipBit, flipBit, flipBit, flipBit, setByte, setByte],
  ...[truncate, pad, splice, remove, repeat],
];

/** Changes of one stream: mostly one, with which decoding goes furthest. */
const COUNTS = [0, 0, 1, 1, 1, 1, 2, 4];

/** The mutant of one run: none to four changes, and sometimes another length. */
export function mutateStream(
  seeds: readonly SeedStream[],
  random: Random,
  maxStream: number,
): StreamMutant {
  const seed = random.pick(seeds);
  // A copy; `slice` of a Buffer is none.
  let stream: Uint8Array = Uint8Array.from(seed.bytes);
  for (let changes = random.pick(COUNTS); changes > 0 && stream.length > 0; changes--) {
    stream = random.pick(CHANGES)(stream, random, random.pick(seeds).bytes);
  }
  return { stream: stream.subarray(0, maxStream), length: newLength(seed.length, random) };
}

function newLength(length: number, random: Random): number {
  switch (random.below(8)) {
    case 0:
      return Math.max(1, length - 1 - random.below(300));
    case 1:
      return length + 1 + random.below(300);
    case 2:
      return 1 + random.below(2 * length);
    default:
      return length;
  }
}
