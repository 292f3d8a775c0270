/** Greatest distance, and lengths of matches. */
const WINDOW = 4096;
const MAX_MATCH = 258;
const SEARCH_BYTES = 4;
const HASH = 0x9e3779b1;
const SHIFT3 = 18;
const SHIFT4 = 17;
/** Position of the first byte: cleared entries are farther away than the window. */
const FIRST_POSITION = 8192;
const GOOD = 5;

/** How thoroughly a level searches. */
export interface Effort {
  /** Candidates looked at. */
  readonly depth: number;
  /** Length that ends a search. */
  readonly nice: number;
  /** Longest match for which the next position is searched, too. */
  readonly lazy: number;
  /** Whether the inside of matches is entered for matches of 3 bytes. */
  readonly thorough: boolean;
}

/** A run of literals and the match behind it; `length` 0: no match. */
export interface Step {
  readonly run: number;
  readonly length: number;
  readonly distance: number;
}

interface Match {
  readonly length: number;
  readonly distance: number;
}

/** Cuts one source into literals and matches, piece by piece. */
export class Parser {
  readonly #u8: Uint8Array;
  readonly #src: number;
  readonly #end: number;
  readonly #effort: Effort;
  /** Newest position of each hash, and the one before each position of the window. */
  readonly #heads3 = new Uint16Array(2 ** (32 - SHIFT3));
  readonly #heads4 = new Uint16Array(2 ** (32 - SHIFT4));
  readonly #chain = new Uint16Array(WINDOW);
  /** Where the last piece ended. */
  at: number;
  /** Longest distance at which a match of 3 bytes is taken. */
  far = 2048;

  constructor(u8: Uint8Array, src: number, end: number, effort: Effort) {
    this.#u8 = u8;
    this.#src = src;
    this.#end = end;
    this.#effort = effort;
    this.at = src;
  }

  /** Takes everything up to `to` as literals. */
  literals(to: number): Step[] {
    const run = to - this.at;
    this.at = to;
    return [{ run, length: 0, distance: 0 }];
  }

  /** Takes the first match there is, unless the next position has a longer one. */
  piece(to: number): Step[] {
    const { depth, lazy, thorough } = this.#effort;
    const steps: Step[] = [];
    const last = this.#end - SEARCH_BYTES;
    let literals = this.at;
    let at = this.at;
    while (at < to) {
      if (at > last) {
        at = this.#end;
        break;
      }
      let match = this.#find(at++, 2, depth);
      if (!match || (match.length === 3 && match.distance > this.far)) continue;
      // From here on `at` is one behind the start of the match.
      let entered = 0;
      while (match.length <= lazy && at <= last) {
        const less = (match.length >= GOOD ? depth >> 2 : depth >> 1) | 1;
        const other = this.#find(at, match.length, less);
        entered = 1;
        if (!other) break;
        match = other;
        at++;
        entered = 0;
      }
      steps.push({ run: at - 1 - literals, ...match });
      literals = at - 1 + match.length;
      for (let i = at + entered; i < literals; i++) this.#insert(i, thorough);
      at = literals;
    }
    if (at > literals) steps.push({ run: at - literals, length: 0, distance: 0 });
    this.at = at;
    return steps;
  }

  #word(at: number): number {
    const u8 = this.#u8;
    return (
      (u8[at] as number) |
      ((u8[at + 1] as number) << 8) |
      ((u8[at + 2] as number) << 16) |
      ((u8[at + 3] as number) << 24)
    );
  }

  #insert(at: number, both: boolean): void {
    const word = this.#word(at);
    const position = at - this.#src + FIRST_POSITION;
    if (both) this.#heads3[Math.imul(word << 8, HASH) >>> SHIFT3] = position;
    const hash = Math.imul(word, HASH) >>> SHIFT4;
    this.#chain[position & (WINDOW - 1)] = this.#heads4[hash] as number;
    this.#heads4[hash] = position;
  }

  /** Enters position `at` and looks for a match longer than `longest`. */
  #find(at: number, longest: number, depth: number): Match | undefined {
    const max = Math.min(this.#end - at, MAX_MATCH);
    const position = at - this.#src + FIRST_POSITION;
    const newest3 = this.#heads3[Math.imul(this.#word(at) << 8, HASH) >>> SHIFT3] as number;
    this.#insert(at, true);
    let match: Match | undefined;
    if (longest < 3) {
      longest = 3;
      const distance = (position - newest3) & 0xffff;
      if (distance >= 1 && distance <= WINDOW && this.#equal(at - distance, at, 3) === 3) {
        match = { length: 3, distance };
      }
    }
    let before = 0;
    let distance = (position - (this.#chain[position & (WINDOW - 1)] as number)) & 0xffff;
    for (; depth > 0 && distance > before && distance <= WINDOW; depth--) {
      const length = this.#equal(at - distance, at, max);
      if (length > longest) {
        longest = length;
        match = { length, distance };
        if (length >= this.#effort.nice || length === max) break;
      }
      before = distance;
      distance =
        (position - (this.#chain[(position - distance) & (WINDOW - 1)] as number)) & 0xffff;
    }
    return match;
  }

  /** Number of equal bytes at `a` and `b`, up to `max`. */
  #equal(a: number, b: number, max: number): number {
    const u8 = this.#u8;
    let length = 0;
    while (length < max && u8[a + length] === u8[b + length]) length++;
    return length;
  }
}
