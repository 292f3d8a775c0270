import { buildLengths } from './deflate-code.ts';
import {
  BitWriter,
  chooseLog,
  costOf,
  describeShares,
  FseEncoder,
  highBit,
  normalize,
} from './zstd-encode-fse.ts';
import { type EncodedSequence, Matcher } from './zstd-encode-match.ts';
import { type Kind, LITERAL_LENGTHS, MATCH_LENGTHS, OFFSETS } from './zstd-sequences.ts';

const MAGIC = 0xfd2fb528;
const BLOCK_BYTES = 128 * 1024;
const RAW = 0;
const RLE = 1;
const COMPRESSED = 2;
const MAX_LENGTH = 11;
const LEAST_CODED = 64;
const LEAST_FOUR = 256;

/** The `count` bytes of a little-endian number below 2^53. */
function littleEndian(value: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => Math.floor(value / 2 ** (8 * i)) % 256);
}

function frequenciesOf(symbols: ArrayLike<number>, length: number): number[] {
  const frequencies = new Array<number>(length).fill(0);
  for (let i = 0; i < symbols.length; i++) {
    const symbol = symbols[i] as number;
    frequencies[symbol] = (frequencies[symbol] as number) + 1;
  }
  return frequencies.slice(0, frequencies.findLastIndex((frequency) => frequency > 0) + 1);
}

/** Header of literals that are raw or all the same. */
function plainHeader(type: number, length: number): number[] {
  if (length < 32) return [type + length * 8];
  return littleEndian(type + (length < 4096 ? 4 : 12) + length * 16, length < 4096 ? 2 : 3);
}

/** The weights by finite state entropy, two states taking turns; undefined if all are equal. */
function packWeights(weights: readonly number[]): number[] | undefined {
  const frequencies = frequenciesOf(weights, MAX_LENGTH + 1);
  if (frequencies.filter((frequency) => frequency > 0).length < 2) return undefined;
  const log = chooseLog(weights.length, frequencies.length, 6);
  const shares = normalize(frequencies, weights.length, log);
  const encoder = new FseEncoder(shares, log);
  const writer = new BitWriter();
  let at = weights.length - 2;
  let state = encoder.first(weights[at] as number);
  let other = encoder.first(weights[at + 1] as number);
  while (at > 0) {
    const next = encoder.encode(writer, other, weights[--at] as number);
    other = state;
    state = next;
  }
  encoder.finish(writer, other);
  encoder.finish(writer, state);
  return [...describeShares(shares, log), ...writer.marked()];
}

/** The description of a code (RFC 8878, 4.2.1); the last weight follows from the others. */
function describeTree(weights: readonly number[]): number[] | undefined {
  const packed = packWeights(weights);
  const plain = (weights.length + 1) >> 1;
  if (packed && packed.length < 128 && (packed.length < plain || weights.length > 128)) {
    return [packed.length, ...packed];
  }
  if (weights.length > 128) return undefined;
  const pairs = Array.from({ length: plain }, (_, i) => {
    return (weights[2 * i] as number) * 16 + (weights[2 * i + 1] ?? 0);
  });
  return [127 + weights.length, ...pairs];
}

/** Lengths of the codewords, and the codewords: the longest are the lowest. */
function codewordsOf(lengths: readonly number[], longest: number): number[] {
  const codewords = lengths.map(() => 0);
  let next = 0;
  for (let length = longest; length > 0; length--) {
    lengths.forEach((each, symbol) => {
      if (each === length) codewords[symbol] = next++;
    });
    next >>= 1;
  }
  return codewords;
}

/** The literals section of a block (RFC 8878, 3.1.1.3.1). */
function encodeLiterals(literals: Uint8Array): number[] {
  const { length } = literals;
  const raw = (): number[] => [...plainHeader(RAW, length), ...literals];
  if (length < LEAST_CODED) return raw();
  const frequencies = frequenciesOf(literals, 256);
  const most = Math.max(...frequencies);
  if (most === length) return [...plainHeader(RLE, length), literals[0] as number];
  if (most <= (length >> 7) + 4) return raw();
  const limit = Math.max(highBit(length - 1) - 1, highBit(frequencies.length) + 1);
  const lengths = buildLengths(frequencies, Math.min(limit, MAX_LENGTH));
  const longest = Math.max(...lengths);
  const weights = lengths.map((each) => (each === 0 ? 0 : longest + 1 - each));
  const tree = describeTree(weights.slice(0, -1));
  const bits = frequencies.reduce(
    (sum, frequency, i) => sum + frequency * (lengths[i] as number),
    0,
  );
  const format = length < LEAST_FOUR ? 0 : length < 1024 ? 1 : length < 16384 ? 2 : 3;
  const headerBytes = [3, 3, 4, 5][format] as number;
  if (tree === undefined) return raw();
  if (headerBytes + tree.length + (bits >> 3) + (length >> 6) + 2 >= length) return raw();

  const codewords = codewordsOf(lengths, longest);
  const stream = (from: number, to: number): number[] => {
    const writer = new BitWriter();
    for (let i = to - 1; i >= from; i--) {
      const symbol = literals[i] as number;
      writer.put(codewords[symbol] as number, lengths[symbol] as number);
    }
    return writer.marked();
  };
  const coded = [...tree];
  if (format === 0) coded.push(...stream(0, length));
  else {
    const quarter = (length + 3) >> 2;
    const streams = [0, 1, 2, 3].map((i) =>
      stream(i * quarter, i < 3 ? (i + 1) * quarter : length),
    );
    for (const { length: size } of streams.slice(0, 3)) coded.push(...littleEndian(size, 2));
    for (const bytes of streams) for (const byte of bytes) coded.push(byte);
  }
  const width = format < 2 ? 10 : format * 4 + 6;
  const header = COMPRESSED + format * 4 + length * 16 + coded.length * 2 ** (4 + width);
  return [...littleEndian(header, headerBytes), ...coded];
}

/** How the codes of one kind are encoded. */
interface Coding {
  readonly mode: number;
  readonly description: readonly number[];
  readonly encoder: FseEncoder;
}

/** The shortest of the forms of a table. */
function chooseCoding(codes: readonly number[], kind: Kind): Coding {
  const frequencies = frequenciesOf(codes, kind.codes.length);
  const usual = costOf(frequencies, kind.shares, kind.log);
  const predefined = (): Coding => ({
    mode: 0,
    description: [],
    encoder: new FseEncoder(kind.shares, kind.log),
  });
  const highest = frequencies.length - 1;
  if (frequencies[highest] === codes.length) {
    if (usual <= 8 * 256) return predefined();
    const only = frequencies.map((frequency) => (frequency > 0 ? 1 : 0));
    return { mode: 1, description: [highest], encoder: new FseEncoder(only, 0) };
  }
  const log = chooseLog(codes.length, frequencies.length, kind.maxLog);
  const shares = normalize(frequencies, codes.length, log);
  const description = describeShares(shares, log);
  if (usual <= costOf(frequencies, shares, log) + description.length * 8 * 256) return predefined();
  return { mode: 2, description, encoder: new FseEncoder(shares, log) };
}

/** Code of a value: the last whose base is not above it. */
function codeOf(value: number, { codes }: Kind): number {
  let code = codes.length - 1;
  while ((codes[code] as readonly number[])[0]! > value) code--;
  return code;
}

/** The sequences section of a block (RFC 8878, 3.1.1.3.2). */
function encodeSequences(sequences: readonly EncodedSequence[]): number[] {
  const count = sequences.length;
  const number =
    count < 128
      ? [count]
      : count < 0x7f00
        ? [128 + (count >> 8), count & 255]
        : [255, ...littleEndian(count - 0x7f00, 2)];
  if (count === 0) return number;
  const values = [
    { kind: LITERAL_LENGTHS, list: sequences.map(({ literals }) => literals) },
    { kind: OFFSETS, list: sequences.map(({ offset }) => offset) },
    { kind: MATCH_LENGTHS, list: sequences.map(({ length }) => length) },
  ].map(({ kind, list }) => {
    const codes = list.map((value) => codeOf(value, kind));
    return { kind, list, codes, coding: chooseCoding(codes, kind) };
  });
  type Values = (typeof values)[number];
  const [literals, offsets, matches] = values as [Values, Values, Values];
  const modes = literals.coding.mode * 64 + offsets.coding.mode * 16 + matches.coding.mode * 4;
  const writer = new BitWriter();
  const putExtra = ({ kind, list, codes }: Values, i: number): void => {
    const [base, bits] = kind.codes[codes[i] as number] as readonly [number, number];
    writer.put((list[i] as number) - base, bits);
  };
  const first = ({ coding, codes }: Values): number => coding.encoder.first(codes.at(-1) as number);
  let [literal, offset, match] = [first(literals), first(offsets), first(matches)];
  for (let i = count - 1; i >= 0; i--) {
    if (i < count - 1) {
      offset = offsets.coding.encoder.encode(writer, offset, offsets.codes[i] as number);
      match = matches.coding.encoder.encode(writer, match, matches.codes[i] as number);
      literal = literals.coding.encoder.encode(writer, literal, literals.codes[i] as number);
    }
    for (const each of [literals, matches, offsets]) putExtra(each, i);
  }
  matches.coding.encoder.finish(writer, match);
  offsets.coding.encoder.finish(writer, offset);
  literals.coding.encoder.finish(writer, literal);
  const descriptions = values.flatMap(({ coding }) => coding.description);
  return [...number, modes, ...descriptions, ...writer.marked()];
}

/** The content of a compressed block, or undefined if it saves little or is longer than `room`. */
function encodeBlock(
  matcher: Matcher,
  at: number,
  length: number,
  room: number,
): number[] | undefined {
  const gain = (length >> 6) + 2;
  if (length <= gain) return undefined;
  const { sequences, literals } = matcher.parse(at, at + length);
  const bytes = encodeLiterals(literals);
  for (const byte of encodeSequences(sequences)) bytes.push(byte);
  return bytes.length > Math.min(room, length - gain) ? undefined : bytes;
}

function frameHeader(length: number): number[] {
  const magic = littleEndian(MAGIC, 4);
  if (length < 256) return [...magic, 0x20, length];
  if (length < 65536 + 256) return [...magic, 0x60, ...littleEndian(length - 256, 2)];
  return [...magic, 0xa0, ...littleEndian(length, 4)];
}

/** Twin of `zstd_compress`. */
export function zstdCompress(
  u8: Uint8Array,
  src: number,
  srcLength: number,
  out: number,
  capacity: number,
): number {
  if (capacity < 9) return -1;
  const outEnd = out + capacity;
  const end = src + srcLength;
  const matcher = new Matcher(u8, src, srcLength);
  const header = frameHeader(srcLength);
  u8.set(header, out);
  let to = out + header.length;
  let at = src;
  do {
    const length = Math.min(end - at, BLOCK_BYTES);
    const isLast = at + length === end ? 1 : 0;
    const room = outEnd - to - 3;
    if (room < 0) return -1;
    const { distances } = matcher;
    const block = encodeBlock(matcher, at, length, room);
    if (block !== undefined) {
      u8.set([...littleEndian(isLast + COMPRESSED * 2 + block.length * 8, 3)], to);
      u8.set(block, to + 3);
      to += 3 + block.length;
    } else {
      matcher.distances = distances;
      if (length > room) return -1;
      u8.set(littleEndian(isLast + RAW * 2 + length * 8, 3), to);
      u8.copyWithin(to + 3, at, at + length);
      to += 3 + length;
    }
    at += length;
  } while (at < end);
  return to - out;
}
