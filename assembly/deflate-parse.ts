// Cuts the source into literals and matches.
//
// A record (u32) is a run of literals and the match behind it:
//   bits 0-11    literals; 4095: so many literals and no match
//   bits 12-19   length of the match - 3
//   bits 20-31   distance - 1
import { findMatch, insert, MAX_MATCH } from './deflate-match';

// @ts-ignore: decorator
@inline export const LONGEST_RUN: u32 = 4095;

/** Records behind the last one written. */
export let recordsEnd: usize = 0;

/** Bytes that a search reads at its position, so the last position searched is this far before the end. */
// @ts-ignore: decorator
@inline const SEARCH_BYTES: usize = 4;

// @ts-ignore: decorator
@inline
function record(into: usize, run: usize, length: u32, distance: u32): usize {
  while (run >= LONGEST_RUN) {
    store<u32>(into, LONGEST_RUN);
    into += 4;
    run -= LONGEST_RUN;
  }
  store<u32>(into, <u32>run | ((length - 3) << 12) | ((distance - 1) << 20));
  return into + 4;
}

/** Whether a match is worth its distance: three literals can be as short. */
// @ts-ignore: decorator
@inline
function isUseful(length: u32, distance: u32): bool {
  return length > 3 || distance <= FAR3;
}
// @ts-ignore: decorator
@inline const FAR3: u32 = 2048;

/**
 * Takes the first match at each position.
 * @param to where the block shall end; the last match may lead behind it
 * @param end end of the source
 * @returns where the block ends
 */
export function parseGreedy(
  tables: usize,
  base: usize,
  at: usize,
  to: usize,
  end: usize,
  into: usize,
  depth: u32,
  nice: usize,
): usize {
  const lastSearch = end - SEARCH_BYTES;
  let literals = at;
  while (at < to) {
    if (at > lastSearch || end < SEARCH_BYTES) {
      at = end;
      break;
    }
    const found = findMatch(tables, base, at, 2, min(end - at, MAX_MATCH), depth, nice);
    const length = found >> 16;
    const distance = found & 0xffff;
    if (found == 0 || !isUseful(length, distance)) {
      at++;
      continue;
    }
    into = record(into, at - literals, length, distance);
    insert(tables, base, at + 1, length - 1);
    at += length;
    literals = at;
  }
  recordsEnd = into;
  return at;
}

/** Takes a match unless the next position has a better one. */
export function parseLazy(
  tables: usize,
  base: usize,
  at: usize,
  to: usize,
  end: usize,
  into: usize,
  depth: u32,
  nice: usize,
): usize {
  const lastSearch = end - SEARCH_BYTES;
  let literals = at;
  while (at < to) {
    if (at > lastSearch) {
      at = end;
      break;
    }
    let found = findMatch(tables, base, at, 2, min(end - at, MAX_MATCH), depth, nice);
    let length = found >> 16;
    if (found == 0 || !isUseful(length, found & 0xffff)) {
      at++;
      continue;
    }
    // `at` is one behind the start of the match at hand.
    while (true) {
      at++;
      if (length >= <u32>nice || at > lastSearch) {
        insert(tables, base, at, 1);
        break;
      }
      const less = length >= 8 ? depth >> 2 : depth >> 1;
      const max = min(end - at, MAX_MATCH);
      const other = findMatch(tables, base, at, length, max, less, nice);
      if (other == 0) break;
      found = other;
      length = other >> 16;
    }
    into = record(into, at - 1 - literals, length, found & 0xffff);
    insert(tables, base, at + 1, length - 2);
    at += length - 1;
    literals = at;
  }
  recordsEnd = into;
  return at;
}
