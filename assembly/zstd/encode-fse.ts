// Finite state entropy for the compressor (RFC 8878, 4.1): distributions, their descriptions, and
// tables to encode with.
//
// A table to encode with is u16 states (those of the symbols in turn, each from `size` up), and for
// each symbol 8 bytes: u32 bits of the next state << 16 minus a threshold, and u32 address in the
// states, so that a state's address is `address + (state >> bits) * 2`.
import { COUNTS, SPREAD, spreadSymbols } from './fse';
import { highBit, setWord, word } from './encode-layout';

/** Fractions, times 256, of the logarithms of 1 to 2; and what a symbol of n states costs. */
const COSTS = memory.data(513 << 1, 16);
const STARTS = memory.data(64 << 2, 16);

/** Fills the table of costs, bit by bit: squaring doubles a logarithm. Runs when the module starts. */
export function fillCosts(): void {
  for (let n: u32 = 1; n <= 512; n++) {
    const top = highBit(n);
    let x: u32 = n << (15 - top);
    let logarithm = top;
    for (let bit = 0; bit < 8; bit++) {
      x = (x * x) >> 15;
      logarithm <<= 1;
      if (x >= 1 << 16) {
        x >>= 1;
        logarithm++;
      }
    }
    store<u16>(COSTS + (<usize>n << 1), <u16>logarithm);
  }
}

// @ts-ignore: decorator
@inline
function share(shares: usize, symbol: u32): i32 {
  return load<i16>(shares + (<usize>symbol << 1));
}

/** Bits, times 256, of symbols with the given frequencies in a table of `1 << log` states. */
export function costOf(frequencies: usize, symbols: u32, shares: usize, log: u32): u32 {
  let cost: u32 = 0;
  for (let symbol: u32 = 0; symbol < symbols; symbol++) {
    const frequency = word(frequencies, symbol);
    if (frequency == 0) continue;
    // A share below one has one state.
    const states = <usize>abs(share(shares, symbol));
    cost += frequency * ((log << 8) - load<u16>(COSTS + (states << 1)));
  }
  return cost;
}

/** Accuracy for `total` symbols, the highest of them `symbols - 1`: not more than they pay for. */
export function chooseLog(total: u32, symbols: u32, maxLog: u32): u32 {
  const paid = total > 8 ? highBit(total - 1) - 2 : 0;
  const least = max<u32>(5, highBit(symbols) + 1);
  return min(max(paid, least), maxLog);
}

/**
 * Shares of `1 << log` states for symbols that occur `total` times together, into `COUNTS` (as
 * `spreadSymbols` takes them). At least two of the symbols must occur.
 */
export function normalize(frequencies: usize, symbols: u32, total: u32, log: u32): void {
  let left: i32 = 1 << log;
  let most: i32 = 0;
  let largest: u32 = 0;
  for (let symbol: u32 = 0; symbol < symbols; symbol++) {
    const frequency = word(frequencies, symbol);
    let states: i32 = 0;
    if (frequency != 0) states = max<i32>(1, ((frequency << (log + 1)) + total) / (total << 1));
    store<i16>(COUNTS + (<usize>symbol << 1), <i16>states);
    left -= states;
    if (states > most) {
      most = states;
      largest = symbol;
    }
  }
  if (left > 0) store<i16>(COUNTS + (<usize>largest << 1), <i16>(share(COUNTS, largest) + left));
  for (; left < 0; left++) {
    for (let symbol: u32 = 0; symbol < symbols; symbol++) {
      if (share(COUNTS, symbol) > share(COUNTS, largest)) largest = symbol;
    }
    store<i16>(COUNTS + (<usize>largest << 1), <i16>(share(COUNTS, largest) - 1));
  }
}

/** Writes the description of the distribution in `COUNTS`; where it ends. */
export function writeCounts(out: usize, symbols: u32, log: u32): usize {
  let bits: u64 = log - 5;
  let held: u64 = 4;
  let remaining: u32 = 1 << log;
  let symbol: u32 = 0;
  while (remaining > 0) {
    const states = <u32>share(COUNTS, symbol++);
    const width = 32 - clz<u32>(remaining + 1);
    const half = (<u32>1) << (width - 1);
    const spare = (half << 1) - 2 - remaining;
    let value = states + 1;
    // The smallest values take one bit less.
    const isShort = value < spare;
    if (value >= half) value += spare;
    bits |= <u64>value << held;
    held += <u64>(width - u32(isShort));
    remaining -= states;
    if (states == 0) {
      // How many more without a state follow, three at a time.
      let run: u32 = 0;
      while (symbol < symbols && share(COUNTS, symbol) == 0) {
        symbol++;
        run++;
        if (run == 3) {
          bits |= (<u64>3) << held;
          held += 2;
          run = 0;
          store<u64>(out, bits);
          out += <usize>(held >> 3);
          bits >>= held & 56;
          held &= 7;
        }
      }
      bits |= <u64>run << held;
      held += 2;
    }
    store<u64>(out, bits);
    out += <usize>(held >> 3);
    bits >>= held & 56;
    held &= 7;
  }
  return out + <usize>(held > 0);
}

/** Builds the table to encode with from a distribution (as `spreadSymbols` takes it). */
export function buildEncodeTable(
  shares: usize,
  symbols: u32,
  log: u32,
  states: usize,
  entries: usize,
): void {
  spreadSymbols(shares, symbols, log);
  const size: u32 = 1 << log;
  let start: u32 = 0;
  for (let symbol: u32 = 0; symbol < symbols; symbol++) {
    const count = <u32>abs(share(shares, symbol));
    setWord(STARTS, symbol, start);
    const entry = entries + (<usize>symbol << 3);
    if (count != 0) {
      // States from `count << bits` on take one bit more than those below.
      const bits = log - (count > 1 ? highBit(count - 1) : 0);
      store<u32>(entry, (bits << 16) - (count << bits));
      store<u32>(entry, states + ((start - count) << 1), 4);
    }
    start += count;
  }
  for (let state: u32 = 0; state < size; state++) {
    const symbol = <u32>load<u8>(SPREAD + state);
    const at = word(STARTS, symbol);
    store<u16>(states + (<usize>at << 1), size + state);
    setWord(STARTS, symbol, at + 1);
  }
}

/** The first state of a symbol: whoever decodes must read bits to leave it. */
// @ts-ignore: decorator
@inline
export function firstState(entry: usize): u32 {
  const threshold = load<u32>(entry);
  const bits = (threshold + 0xffff) >> 16;
  return <u32>load<u16>(<usize>load<u32>(entry, 4) + (<usize>(((bits << 16) - threshold) >> bits) << 1));
}
