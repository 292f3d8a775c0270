import { ZSTD_INVALID } from '../abi.ts';
import { type BackwardBits, type ByteReader, ZstdStop } from './zstd-bits.ts';

/** Finite state entropy (RFC 8878, 4.1): a table of states, each with a symbol. */
export class FseTable {
  readonly log: number;
  readonly symbols: Uint8Array;
  /** Bits that choose the next state, and the state they count from. */
  readonly bits: Uint8Array;
  readonly bases: Uint16Array;

  /** @param counts probabilities in `1 << log`; -1 is less than one */
  constructor(counts: readonly number[], log: number) {
    const size = 2 ** log;
    this.log = log;
    this.symbols = spread(counts, size);
    this.bits = new Uint8Array(size);
    this.bases = new Uint16Array(size);
    const next = counts.map((count) => Math.abs(count));
    this.symbols.forEach((symbol, state) => {
      const order = next[symbol]!++;
      const bits = log - (31 - Math.clz32(order));
      this.bits[state] = bits;
      this.bases[state] = order * 2 ** bits - size;
    });
  }

  /** A table of one symbol, which takes no bits. */
  static single(symbol: number): FseTable {
    const counts = new Array<number>(symbol + 1).fill(0);
    counts[symbol] = 1;
    return new FseTable(counts, 0);
  }
}

/** The symbol of each state (RFC 8878, 4.1.1). */
export function spread(counts: readonly number[], size: number): Uint8Array {
  const symbols = new Uint8Array(size);
  let high = size;
  counts.forEach((count, symbol) => {
    if (count === -1) symbols[--high] = symbol;
  });
  const step = (size >> 1) + (size >> 3) + 3;
  let state = 0;
  counts.forEach((count, symbol) => {
    for (let i = 0; i < count; i++) {
      symbols[state] = symbol;
      if (size === 1) continue;
      do state = (state + step) & (size - 1);
      while (state >= high);
    }
  });
  return symbols;
}

/**
 * Reads a table description (RFC 8878, 4.1.1) and steps over it.
 * @param maxSymbol the largest symbol that may have a probability
 */
export function readFseTable(bytes: ByteReader, maxSymbol: number, maxLog: number): FseTable {
  const { u8, position, end } = bytes;
  let at = 0;
  const read = (count: number): number => {
    let value = 0;
    for (let i = 0; i < count; i++, at++) {
      const address = position + (at >> 3);
      if (address >= end) throw new ZstdStop(ZSTD_INVALID);
      value |= (((u8[address] as number) >> (at & 7)) & 1) << i;
    }
    return value;
  };
  const log = read(4) + 5;
  if (log > maxLog) throw new ZstdStop(ZSTD_INVALID);
  const counts: number[] = [];
  for (let remaining = 2 ** log; remaining > 0; ) {
    if (counts.length > maxSymbol) throw new ZstdStop(ZSTD_INVALID);
    const bits = 32 - Math.clz32(remaining + 1);
    const spare = 2 ** bits - 2 - remaining;
    let value = read(bits - 1);
    if (value >= spare) {
      value += read(1) << (bits - 1);
      if (value >= 2 ** (bits - 1)) value -= spare;
    }
    counts.push(value - 1);
    remaining -= Math.abs(value - 1);
    if (value !== 1) continue;
    for (let repeat = 3; repeat === 3; ) {
      repeat = read(2);
      for (let i = 0; i < repeat; i++) counts.push(0);
      if (counts.length > maxSymbol + 1) throw new ZstdStop(ZSTD_INVALID);
    }
  }
  bytes.skip((at + 7) >> 3);
  return new FseTable(counts, log);
}

/** A walk through the states of a table. */
export class FseState {
  readonly #table: FseTable;
  readonly #bits: BackwardBits;
  #state: number;

  constructor(table: FseTable, bits: BackwardBits) {
    this.#table = table;
    this.#bits = bits;
    this.#state = bits.read(table.log);
  }

  get symbol(): number {
    return this.#table.symbols[this.#state] as number;
  }

  /** To the next state. Whether there were bits enough is for the caller to see. */
  advance(): void {
    const { bits, bases } = this.#table;
    const more = this.#bits.tryRead(bits[this.#state] as number);
    this.#state = (bases[this.#state] as number) + more;
  }
}
