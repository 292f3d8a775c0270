import { spread } from './zstd-fse.ts';

export function highBit(value: number): number {
  return 31 - Math.clz32(value);
}

/** Collects bits, lowest first, for a stream that is read backwards. */
export class BitWriter {
  readonly bytes: number[] = [];
  #buffer = 0;
  #held = 0;

  /** Appends the lowest `count` (0 to 24) bits of `value`. */
  put(value: number, count: number): void {
    this.#buffer |= (value & (2 ** count - 1)) << this.#held;
    this.#held += count;
    for (; this.#held >= 8; this.#held -= 8) {
      this.bytes.push(this.#buffer & 255);
      this.#buffer >>>= 8;
    }
  }

  /** The bytes, with zeros in front of the next whole one. */
  padded(): number[] {
    if (this.#held > 0) this.put(0, 8 - this.#held);
    return this.bytes;
  }

  /** The bytes, with the mark that tells a reader where the bits begin. */
  marked(): number[] {
    this.put(1, 1);
    return this.padded();
  }
}

/** Logarithm of `n` to base 2, times 256: squaring doubles a logarithm. */
function logarithm(n: number): number {
  let result = highBit(n);
  let x = n << (15 - result);
  for (let bit = 0; bit < 8; bit++) {
    x = Math.floor((x * x) / 2 ** 15);
    result *= 2;
    if (x < 2 ** 16) continue;
    x >>= 1;
    result++;
  }
  return result;
}

const LOGARITHMS = Array.from({ length: 513 }, (_, n) => (n === 0 ? 0 : logarithm(n)));

/** Bits, times 256, of symbols with the given frequencies in a table of `1 << log` states. */
export function costOf(
  frequencies: readonly number[],
  shares: readonly number[],
  log: number,
): number {
  return frequencies.reduce((cost, frequency, symbol) => {
    const states = Math.abs(shares[symbol] as number);
    return cost + frequency * (log * 256 - (LOGARITHMS[states] as number));
  }, 0);
}

/** Accuracy for `total` symbols of `kinds`: not more than they pay for. */
export function chooseLog(total: number, kinds: number, maxLog: number): number {
  const paid = total > 8 ? highBit(total - 1) - 2 : 0;
  return Math.min(Math.max(paid, 5, highBit(kinds) + 1), maxLog);
}

/** Shares of `1 << log` states for symbols that occur `total` times together. */
export function normalize(frequencies: readonly number[], total: number, log: number): number[] {
  const shares = frequencies.map((frequency) => {
    const states = Math.floor((frequency * 2 ** (log + 1) + total) / (total * 2));
    return frequency === 0 ? 0 : Math.max(1, states);
  });
  let left = 2 ** log - shares.reduce((sum, states) => sum + states, 0);
  let largest = shares.indexOf(Math.max(...shares));
  if (left > 0) shares[largest] = (shares[largest] as number) + left;
  for (; left < 0; left++) {
    shares.forEach((states, symbol) => {
      if (states > (shares[largest] as number)) largest = symbol;
    });
    shares[largest] = (shares[largest] as number) - 1;
  }
  return shares;
}

/** The description of a distribution (RFC 8878, 4.1.1). */
export function describeShares(shares: readonly number[], log: number): number[] {
  const writer = new BitWriter();
  writer.put(log - 5, 4);
  let remaining = 2 ** log;
  for (let symbol = 0; remaining > 0; ) {
    const states = shares[symbol++] as number;
    const width = 32 - Math.clz32(remaining + 1);
    const spare = 2 ** width - 2 - remaining;
    const value = states + 1;
    writer.put(
      value >= 2 ** (width - 1) ? value + spare : value,
      value < spare ? width - 1 : width,
    );
    remaining -= states;
    if (states > 0) continue;
    let run = 0;
    for (; shares[symbol] === 0; symbol++) run++;
    for (; run >= 3; run -= 3) writer.put(3, 2);
    writer.put(run, 2);
  }
  return writer.padded();
}

/** What leads from a state to the one that decodes a symbol in front. */
interface Entry {
  readonly count: number;
  readonly states: readonly number[];
}

/** Encodes with a table of `1 << log` states, which are numbered from its size on. */
export class FseEncoder {
  readonly log: number;
  readonly #entries: readonly Entry[];

  constructor(shares: readonly number[], log: number) {
    const size = 2 ** log;
    const states = shares.map((): number[] => []);
    spread(shares, size).forEach((symbol, state) => {
      (states[symbol] as number[]).push(size + state);
    });
    this.log = log;
    this.#entries = states.map((list) => ({ count: list.length, states: list }));
  }

  /** The first state of a symbol: whoever decodes must read bits to leave it. */
  first(symbol: number): number {
    return (this.#entries[symbol] as Entry).states[0] as number;
  }

  /** Writes the bits that lead to `state` from the state of `symbol`, which is returned. */
  encode(writer: BitWriter, state: number, symbol: number): number {
    const { count, states } = this.#entries[symbol] as Entry;
    let bits = 0;
    while (state >> bits >= 2 * count) bits++;
    writer.put(state, bits);
    return states[(state >> bits) - count] as number;
  }

  /** Writes the state that decoding begins with. */
  finish(writer: BitWriter, state: number): void {
    writer.put(state, this.log);
  }
}
