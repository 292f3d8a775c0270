// Cuts the source into literals and matches.
//
// A record (u32) is a run of literals and the match behind it:
//   bits 0-11    literals, at most 4094
//   bits 12-19   length of the match - 3
//   bits 20-31   distance - 1
// or, with 4095 in bits 0-11, literals alone: their number in bits 12-31.
import { findMatch, insert, MAX_MATCH } from './deflate-match';

// @ts-ignore: decorator
@inline export const LITERALS_ONLY: u32 = 4095;
/** Bytes that a search reads: behind `end - SEARCH_BYTES` there are only literals. */
// @ts-ignore: decorator
@inline const SEARCH_BYTES: usize = 4;
/** From this length on the search for a better match is cut short. */
// @ts-ignore: decorator
@inline const GOOD: u32 = 5;

/** Records behind the last one written. */
export let recordsEnd: usize = 0;

/** Records `count` literals without a match. */
// @ts-ignore: decorator
@inline
function recordLiterals(into: usize, count: usize): usize {
  store<u32>(into, LITERALS_ONLY | (<u32>count << 12));
  return into + 4;
}

/** Records all of `at .. to` as literals. */
export function parseLiterals(at: usize, to: usize, into: usize): usize {
  recordsEnd = recordLiterals(into, to - at);
  return to;
}

/**
 * Takes the first match there is, unless the next position has a longer one.
 * @param to where to stop; the last match may lead behind it
 * @param end end of the source
 * @param lazy longest match for which the next position is searched, too
 * @param thorough whether the inside of matches is entered for matches of 3 bytes
 * @param far longest distance at which a match of 3 bytes is taken
 * @returns where the last record ends
 */
export function parse(
  tables: usize,
  base: usize,
  at: usize,
  to: usize,
  end: usize,
  into: usize,
  depth: u32,
  nice: u32,
  lazy: u32,
  thorough: bool,
  far: u32,
): usize {
  let literals = at;
  const last = end - SEARCH_BYTES;
  while (at < to) {
    if (at > last) {
      at = end;
      break;
    }
    let found = findMatch(tables, base, at, 2, min(end - at, MAX_MATCH), depth, nice);
    let length = found >> 16;
    if (length < 3 || (length == 3 && (found & 0xffff) > far)) {
      at++;
      continue;
    }
    // From here on `at` is one behind the start of the match.
    at++;
    let entered: usize = 0;
    while (length <= lazy && at <= last) {
      const less = (length >= GOOD ? depth >> 2 : depth >> 1) | 1;
      const other = findMatch(tables, base, at, length, min(end - at, MAX_MATCH), less, nice);
      entered = 1;
      if (other == 0) break;
      found = other;
      length = other >> 16;
      at++;
      entered = 0;
    }
    const run = at - 1 - literals;
    let record = (((found & 0xffff) - 1) << 20) | ((length - 3) << 12);
    if (run < LITERALS_ONLY) record |= <u32>run;
    else into = recordLiterals(into, run);
    store<u32>(into, record);
    into += 4;
    literals = at - 1 + length;
    insert(tables, base, at + entered, literals, thorough);
    at = literals;
  }
  if (at > literals) into = recordLiterals(into, at - literals);
  recordsEnd = into;
  return at;
}
