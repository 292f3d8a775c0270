// Finite state entropy tables (RFC 8878, 4.1).
//
// A table entry (u64); three of them can be added without their bit counts running into each other:
//   bits 0-5    extra bits of the value
//   bits 8-13   bits of the next state
//   bits 14-31  base of the value
//   bits 32-47  address of the entry that the next state counts from
//   bits 48-63  mask of the bits of the next state, times 8
//
// A state is the address of its entry; all tables are in the first 64 KiB.

import { leading } from './layout';

/** Where the base of a value begins. */
// @ts-ignore: decorator
@inline export const BASE_SHIFT: u32 = 14;

/** Normalized counts, i16 each; -1 is a probability below one. */
export const COUNTS = memory.data(64 << 1, 16);
const NEXT_STATES = memory.data(64 << 1, 16);
/** Symbols in the order they are spread, then by state. Fills write up to 7 bytes more. */
const ORDERED = memory.data(512 + 8, 16);
export const SPREAD = memory.data(512, 16);

/** Results of `readCounts`. */
export let accuracyLog: u32 = 0;
export let symbolCount: u32 = 0;

/**
 * Reads a table description into `COUNTS`.
 * @returns its length in bytes; 0 if it is none or does not end within the input
 */
export function readCounts(src: usize, end: usize, maxSymbol: u32, maxLog: u32): usize {
  if (src >= end) return 0;
  const log = (<u32>load<u8>(src) & 15) + 5;
  if (log > maxLog) return 0;
  const limit = <usize>(end - src) << 3;
  let at: usize = 4;
  let remaining: u32 = 1 << log;
  let symbol: u32 = 0;
  while (remaining > 0) {
    if (symbol > maxSymbol || at > limit) return 0;
    const window = load<u32>(src + (at >> 3)) >> (<u32>at & 7);
    // Values up to `remaining + 1`; the smallest of them take one bit less.
    const bits = 32 - clz<u32>(remaining + 1);
    const small = ((<u32>1) << (bits - 1)) - 1;
    const spare = ((<u32>1) << bits) - 2 - remaining;
    let value = window & small;
    at += bits - 1;
    if (value >= spare) {
      value = window & ((small << 1) | 1);
      if (value > small) value -= spare;
      at++;
    }
    const count = <i32>value - 1;
    store<i16>(COUNTS + (<usize>symbol << 1), <i16>count);
    remaining -= count < 0 ? 1 : count;
    symbol++;
    if (count == 0) {
      let repeat: u32 = 3;
      while (repeat == 3) {
        if (at > limit) return 0;
        repeat = (load<u32>(src + (at >> 3)) >> (<u32>at & 7)) & 3;
        at += 2;
        if (symbol + repeat > maxSymbol + 1) return 0;
        for (let i: u32 = 0; i < repeat; i++) {
          store<i16>(COUNTS + (<usize>symbol << 1), 0);
          symbol++;
        }
      }
    }
  }
  if (at > limit) return 0;
  accuracyLog = log;
  symbolCount = symbol;
  return (at + 7) >> 3;
}

/** Spreads the symbols over the states (RFC 8878, 4.1.1): the symbol of each is in `SPREAD`. */
export function spreadSymbols(counts: usize, symbols: u32, log: u32): void {
  const size: u32 = 1 << log;
  const mask = size - 1;
  const step = (size >> 1) + (size >> 3) + 3;
  let high = size;
  let ordered: usize = 0;
  for (let symbol: u32 = 0; symbol < symbols; symbol++) {
    const count = <i32>load<i16>(counts + (<usize>symbol << 1));
    if (count < 0) {
      store<u8>(SPREAD + --high, <u8>symbol);
      store<u16>(NEXT_STATES + (<usize>symbol << 1), 1);
      continue;
    }
    store<u16>(NEXT_STATES + (<usize>symbol << 1), <u16>count);
    const pattern = <u64>symbol * 0x0101_0101_0101_0101;
    for (let i = 0; i < count; i += 8) store<u64>(ORDERED + ordered + i, pattern);
    ordered += count;
  }
  let position: u32 = 0;
  if (high == size) {
    for (let i: usize = 0; i < ordered; i += 2) {
      store<u8>(SPREAD + position, load<u8>(ORDERED + i));
      store<u8>(SPREAD + ((position + step) & mask), load<u8>(ORDERED + i + 1));
      position = (position + step + step) & mask;
    }
    return;
  }
  for (let i: usize = 0; i < ordered; i++) {
    store<u8>(SPREAD + position, load<u8>(ORDERED + i));
    do {
      position = (position + step) & mask;
    } while (position >= high);
  }
}

/**
 * Builds a table of `1 << log` states.
 * @param symbolEntries base and extra bits of each symbol, as in a table entry
 */
export function buildTable(
  counts: usize,
  symbols: u32,
  log: u32,
  symbolEntries: usize,
  table: usize,
): void {
  spreadSymbols(counts, symbols, log);
  const size: u32 = 1 << log;
  for (let state: u32 = 0; state < size; state++) {
    const symbol = <usize>load<u8>(SPREAD + state);
    const next = <u32>load<u16>(NEXT_STATES + (symbol << 1));
    store<u16>(NEXT_STATES + (symbol << 1), <u16>(next + 1));
    const bits = log - 31 + clz<u32>(next);
    const base = table + (((next << bits) - size) << 3);
    store<u64>(
      table + (<usize>state << 3),
      load<u64>(symbolEntries + (symbol << 3)) |
        (<u64>bits << 8) |
        (<u64>base << 32) |
        (<u64>((1 << bits) - 1) << 51),
    );
  }
}

/** Builds the table of one state, which takes no bits. */
export function buildSingle(symbolEntry: u64, table: usize): void {
  store<u64>(table, symbolEntry | (<u64>table << 32));
}

// @ts-ignore: decorator
@inline
export function extraBits(entry: u64): u32 {
  return <u32>entry & 63;
}

/** Bits of the next state, in the low six. */
// @ts-ignore: decorator
@inline
export function stateBits(entry: u64): u64 {
  return entry >> 8;
}

// @ts-ignore: decorator
@inline
export function baseValue(entry: u64): usize {
  return <usize>(<u32>entry >> BASE_SHIFT);
}

/** The state that follows `state`, if the highest of `bits` choose it. */
// @ts-ignore: decorator
@inline
export function nextState(state: usize, bits: u64): usize {
  return <usize>load<u16>(state, 4) + (<usize>leading(bits, stateBits(load<u64>(state))) << 3);
}

/** The same if the lowest of `bits` choose it, which are at bit 3. */
// @ts-ignore: decorator
@inline
export function nextStateLow(state: usize, bits: u64): usize {
  return <usize>load<u16>(state, 4) + (<usize>bits & <usize>load<u16>(state, 6));
}
