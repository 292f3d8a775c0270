// Match finder of the compressor: hash chains of u16 positions, so that the tables are small.
//
// A position is stored modulo 2^16, and a distance is a difference modulo 2^16. Entries of positions
// long gone can look near: that costs a comparison, and never a wrong match, since every candidate
// lies behind the start of the source and is compared byte by byte.

// @ts-ignore: decorator
@inline export const WINDOW: u32 = 4096;
// @ts-ignore: decorator
@inline export const MAX_MATCH: usize = 258;
// @ts-ignore: decorator
@inline const HASH3_BITS: u32 = 14;
// @ts-ignore: decorator
@inline const HASH4_BITS: u32 = 15;
// @ts-ignore: decorator
@inline const HEADS4: usize = 2 << HASH3_BITS;
// @ts-ignore: decorator
@inline const CHAINS: usize = HEADS4 + (2 << HASH4_BITS);
/** Bytes of the tables: newest position of each 3-byte and 4-byte hash, and before each position. */
// @ts-ignore: decorator
@inline export const MATCH_TABLE_BYTES: usize = CHAINS + (2 << 12);

/** Position of the first byte: cleared entries are farther away than the window. */
// @ts-ignore: decorator
@inline export const FIRST_POSITION: usize = 2 * 4096;

export function clearMatchTables(tables: usize): void {
  memory.fill(tables, 0, CHAINS);
}

// @ts-ignore: decorator
@inline
function head3(tables: usize, word: u32): usize {
  return tables + (<usize>(((word << 8) * 0x9e37_79b1) >> (32 - HASH3_BITS)) << 1);
}

// @ts-ignore: decorator
@inline
function head4(tables: usize, word: u32): usize {
  return tables + HEADS4 + (<usize>((word * 0x9e37_79b1) >> (32 - HASH4_BITS)) << 1);
}

// @ts-ignore: decorator
@inline
function chainOf(tables: usize, position: u32): usize {
  return tables + CHAINS + (<usize>(position & (WINDOW - 1)) << 1);
}

/** Enters the positions `at .. end`, whose 4 bytes must be readable; with `thorough` both hashes. */
// @ts-ignore: decorator
@inline
export function insert(tables: usize, base: usize, at: usize, end: usize, thorough: bool): void {
  // One loop each: a test inside is not moved out by the compilers.
  if (thorough) {
    for (; at < end; at++) {
      const word = load<u32>(at);
      const position = <u32>(at - base);
      store<u16>(head3(tables, word), position);
      const head = head4(tables, word);
      store<u16>(chainOf(tables, position), load<u16>(head));
      store<u16>(head, position);
    }
  } else {
    for (; at < end; at++) {
      const word = load<u32>(at);
      const position = <u32>(at - base);
      const head = head4(tables, word);
      store<u16>(chainOf(tables, position), load<u16>(head));
      store<u16>(head, position);
    }
  }
}

/** Number of equal bytes at `a` and `b`, from `length` (known to be equal) up to `max`. */
// @ts-ignore: decorator
@inline
function extend(a: usize, b: usize, length: usize, max: usize): usize {
  while (length < max) {
    const difference = load<u64>(a + length) ^ load<u64>(b + length);
    if (difference != 0) {
      length += <usize>(ctz<u64>(difference) >> 3);
      return length < max ? length : max;
    }
    length += 8;
  }
  return max;
}

/**
 * Enters position `at` and looks for a match longer than `longest`.
 * @param max longest match there can be: 4 to 258
 * @param depth candidates of the chain to look at
 * @param nice length that ends the search
 * @returns length << 16 | distance, or 0
 */
// @ts-ignore: decorator
@inline
export function findMatch(
  tables: usize,
  base: usize,
  at: usize,
  longest: usize,
  max: usize,
  depth: u32,
  nice: u32,
): u32 {
  const word = load<u32>(at);
  const position = <u32>(at - base);
  const at3 = head3(tables, word);
  const at4 = head4(tables, word);
  const newest3 = <u32>load<u16>(at3);
  let candidate = <u32>load<u16>(at4);
  store<u16>(at3, position);
  store<u16>(at4, position);
  store<u16>(chainOf(tables, position), candidate);

  let found: u32 = 0;
  if (longest < 3) {
    longest = 3;
    const distance = (position - newest3) & 0xffff;
    if (distance - 1 < WINDOW && ((load<u32>(at - distance) ^ word) << 8) == 0) {
      found = (3 << 16) | distance;
    }
  }
  let before: u32 = 0;
  let distance = (position - candidate) & 0xffff;
  let tail = load<u32>(at + longest - 3);
  // Distances grow along a chain; one that does not was overwritten.
  while (distance > before && distance <= WINDOW) {
    const match = at - distance;
    if (load<u32>(match + longest - 3) == tail && load<u32>(match) == word) {
      const length = extend(match, at, 4, max);
      if (length > longest) {
        longest = length;
        found = (<u32>length << 16) | distance;
        if (<u32>length >= nice || length == max) break;
        tail = load<u32>(at + longest - 3);
      }
    }
    if (--depth == 0) break;
    candidate = <u32>load<u16>(chainOf(tables, candidate));
    before = distance;
    distance = (position - candidate) & 0xffff;
  }
  return found;
}
