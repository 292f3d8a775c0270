import { ZSTD_INVALID } from '../abi.ts';
import { BackwardBits, type ByteReader, ZstdStop } from './zstd-bits.ts';
import { FseState, FseTable, readFseTable } from './zstd-fse.ts';

/** Literals to copy, and a match behind them; `offset` is not yet a distance. */
export interface Sequence {
  readonly literals: number;
  readonly match: number;
  readonly offset: number;
}

/** One of the three kinds of codes (RFC 8878, 3.1.1.3.2.1). */
export interface Kind {
  /** Base and extra bits of each code. */
  readonly codes: readonly (readonly [base: number, bits: number])[];
  readonly maxLog: number;
  /** The predefined distribution in `1 << log`, and its table. */
  readonly shares: readonly number[];
  readonly log: number;
  readonly predefined: FseTable;
}

function lengthCodes(plain: number, first: number, extra: readonly number[]): [number, number][] {
  const codes: [number, number][] = [];
  let base = first;
  for (const bits of [...new Array<number>(plain).fill(0), ...extra]) {
    codes.push([base, bits]);
    base += 2 ** bits;
  }
  return codes;
}

/** A distribution, as pairs of a probability and how many codes have it. */
function runs(...pairs: readonly (readonly [value: number, times: number])[]): number[] {
  return pairs.flatMap(([value, times]) => new Array<number>(times).fill(value));
}

function kind(codes: Kind['codes'], maxLog: number, shares: readonly number[], log: number): Kind {
  let table: FseTable | undefined;
  return {
    codes,
    maxLog,
    shares,
    log,
    // Made when it is needed: most who load this decode no zstd.
    get predefined() {
      table ??= new FseTable(shares, log);
      return table;
    },
  };
}

export const LITERAL_LENGTHS = kind(
  lengthCodes(16, 0, [1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
  9,
  runs([4, 1], [3, 1], [2, 11], [1, 3], [2, 9], [3, 1], [2, 1], [1, 5], [-1, 4]),
  6,
);
export const MATCH_LENGTHS = kind(
  lengthCodes(32, 3, [1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
  9,
  runs([1, 1], [4, 1], [3, 1], [2, 6], [1, 37], [-1, 7]),
  6,
);
export const OFFSETS = kind(
  Array.from({ length: 32 }, (_, code) => [2 ** code, code] as const),
  8,
  runs([1, 6], [2, 3], [1, 15], [-1, 5]),
  5,
);

/** The sequences sections of the blocks of a frame, which share tables (RFC 8878, 3.1.1.3.2). */
export class SequenceReader {
  #literalLengths: FseTable | undefined;
  #offsets: FseTable | undefined;
  #matchLengths: FseTable | undefined;

  /** Decodes a section, all that `bytes` has left. */
  read(bytes: ByteReader): Sequence[] {
    let count = bytes.number(1);
    if (count === 255) count = bytes.number(2) + 0x7f00;
    else if (count >= 128) count = (count - 128) * 256 + bytes.number(1);
    if (count === 0) {
      if (bytes.left > 0) throw new ZstdStop(ZSTD_INVALID);
      return [];
    }
    const modes = bytes.number(1);
    if (modes & 3) throw new ZstdStop(ZSTD_INVALID);
    this.#literalLengths = readTable(bytes, modes >> 6, LITERAL_LENGTHS, this.#literalLengths);
    this.#offsets = readTable(bytes, (modes >> 4) & 3, OFFSETS, this.#offsets);
    this.#matchLengths = readTable(bytes, (modes >> 2) & 3, MATCH_LENGTHS, this.#matchLengths);
    const bits = new BackwardBits(bytes);
    const literals = new FseState(this.#literalLengths, bits);
    const offsets = new FseState(this.#offsets, bits);
    const matches = new FseState(this.#matchLengths, bits);
    const sequences: Sequence[] = [];
    while (true) {
      const offset = readValue(bits, OFFSETS, offsets.symbol);
      const match = readValue(bits, MATCH_LENGTHS, matches.symbol);
      sequences.push({
        literals: readValue(bits, LITERAL_LENGTHS, literals.symbol),
        match,
        offset,
      });
      if (sequences.length === count) break;
      literals.advance();
      matches.advance();
      offsets.advance();
    }
    if (bits.left !== 0) throw new ZstdStop(ZSTD_INVALID);
    return sequences;
  }
}

/** @param previous the table of the block before, which mode 3 takes again */
function readTable(
  bytes: ByteReader,
  mode: number,
  kind: Kind,
  previous: FseTable | undefined,
): FseTable {
  if (mode === 0) return kind.predefined;
  if (mode === 1) {
    const code = bytes.number(1);
    if (code >= kind.codes.length) throw new ZstdStop(ZSTD_INVALID);
    return FseTable.single(code);
  }
  if (mode === 2) return readFseTable(bytes, kind.codes.length - 1, kind.maxLog);
  if (previous === undefined) throw new ZstdStop(ZSTD_INVALID);
  return previous;
}

function readValue(bits: BackwardBits, kind: Kind, code: number): number {
  const [base, extra] = kind.codes[code] as readonly [number, number];
  return base + bits.read(extra);
}
