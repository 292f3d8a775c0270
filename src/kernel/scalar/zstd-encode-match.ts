const SEARCH_BYTES = 8;
const PATIENCE = 256;
const MAX_STRIDE = 32;
/** The halves of the multiplier; the low one has 21 bits, so that its products are exact. */
const HIGH = 0x9e3779b1;
const LOW = 0x001b873d;

/** A run of literals and the match behind it. */
export interface EncodedSequence {
  readonly literals: number;
  readonly length: number;
  /** 1 for a repeated distance, else the distance plus 3 (RFC 8878, 3.1.1.3.2.1.1). */
  readonly offset: number;
}

/** The sequences of a block, and where the literals behind them begin. */
export interface ParsedBlock {
  readonly sequences: readonly EncodedSequence[];
  readonly literals: Uint8Array;
}

/** The high word of a product of 64 bits, without the lowest `shift` of it. */
function hash(low: number, high: number, shift: number): number {
  const product = Math.floor((low * LOW) / 2 ** 32) + Math.imul(low, HIGH) + Math.imul(high, LOW);
  return (product | 0) >>> shift;
}

/** Finds the matches of one source, block by block. */
export class Matcher {
  readonly #u8: Uint8Array;
  readonly #src: number;
  readonly #bits: number;
  /** Whether the short table is of 4 bytes, else of 5. */
  readonly #isOfFour: boolean;
  readonly #long: Uint32Array;
  readonly #short: Uint32Array;
  /** The last two distances. */
  distances: readonly [number, number] = [1, 4];

  constructor(u8: Uint8Array, src: number, length: number) {
    const isUsual = length > 2 ** 14 && length <= 2 ** 16;
    this.#u8 = u8;
    this.#src = src;
    this.#bits = isUsual ? 15 : Math.min(32 - Math.clz32((length - 1) | 1023), 17);
    this.#isOfFour = !isUsual && length <= 2 ** 18;
    this.#long = new Uint32Array(2 ** this.#bits);
    this.#short = new Uint32Array(2 ** (this.#bits - 1));
  }

  #word(at: number): number {
    const u8 = this.#u8;
    const low = (u8[at] as number) | ((u8[at + 1] as number) << 8);
    return (low | ((u8[at + 2] as number) << 16) | ((u8[at + 3] as number) << 24)) >>> 0;
  }

  #longSlot(at: number): number {
    return hash(this.#word(at), this.#word(at + 4), 32 - this.#bits);
  }

  #shortSlot(at: number): number {
    if (this.#isOfFour) return hash(0, this.#word(at), 33 - this.#bits);
    return hash((this.#word(at) << 24) >>> 0, this.#word(at + 1), 33 - this.#bits);
  }

  #enterLong(at: number): void {
    this.#long[this.#longSlot(at)] = at - this.#src;
  }

  #enterShort(at: number): void {
    this.#short[this.#shortSlot(at)] = at - this.#src;
  }

  /** Number of equal bytes at `a` and `b`, which ends at `end`. */
  #equal(a: number, b: number, end: number): number {
    let length = 0;
    while (b + length < end && this.#u8[a + length] === this.#u8[b + length]) length++;
    return length;
  }

  /** Number of equal bytes in front of `a` and `b`, of at most 8 and `max`. */
  #equalBefore(a: number, b: number, max: number): number {
    let length = 0;
    const limit = Math.min(max, 8);
    while (length < limit && this.#u8[a - 1 - length] === this.#u8[b - 1 - length]) length++;
    return length;
  }

  /** Cuts `start .. end` into sequences and literals. */
  parse(start: number, end: number): ParsedBlock {
    const sequences: EncodedSequence[] = [];
    const literals = new Uint8Array(end - start);
    let literalsEnd = 0;
    let anchor = start;
    let at = start === this.#src ? start + 1 : start;
    const last = end - SEARCH_BYTES;
    const copy = (to: number): void => {
      literals.set(this.#u8.subarray(anchor, to), literalsEnd);
      literalsEnd += to - anchor;
    };
    while (at <= last) {
      const found = this.#search(at, anchor, end);
      if (found === undefined) break;
      sequences.push({ literals: found.at - anchor, length: found.length, offset: found.offset });
      copy(found.at);
      at = found.at + found.length;
      anchor = at;
      if (at > last) break;
      this.#enterLong(found.searched + 2);
      this.#enterShort(found.searched + 2);
      this.#enterLong(at - 2);
      this.#enterShort(at - 1);
      while (at <= last && this.#word(at) === this.#word(at - this.distances[1])) {
        const length = this.#equal(at - this.distances[1], at, end);
        this.distances = [this.distances[1], this.distances[0]];
        this.#enterLong(at);
        this.#enterShort(at);
        sequences.push({ literals: 0, length, offset: 1 });
        at += length;
        anchor = at;
      }
    }
    copy(end);
    return { sequences, literals: literals.subarray(0, literalsEnd) };
  }

  /** The first match from `at` on; `searched` is the last position looked at. */
  #search(
    from: number,
    anchor: number,
    end: number,
  ): { at: number; length: number; offset: number; searched: number } | undefined {
    const src = this.#src;
    const last = end - SEARCH_BYTES;
    let stride = 1;
    let patience = from + PATIENCE;
    let at = from;
    let candidate = src + (this.#long[this.#longSlot(at)] as number);
    while (at <= last) {
      const searched = at;
      const short = src + (this.#short[this.#shortSlot(at)] as number);
      this.#enterLong(at);
      this.#enterShort(at);
      const repeated = at + 1 - this.distances[0];
      if (this.#word(repeated) === this.#word(at + 1)) {
        return { at: at + 1, length: this.#equal(repeated, at + 1, end), offset: 1, searched };
      }
      const next = at + stride;
      if (this.#equal(candidate, at, at + 8) < 8) {
        const nextCandidate = src + (this.#long[this.#longSlot(next)] as number);
        if (this.#equal(short, at, at + 4) < 4) {
          if (next >= patience && stride < MAX_STRIDE) {
            stride++;
            patience += PATIENCE;
          }
          at = next;
          candidate = nextCandidate;
          continue;
        }
        candidate = short;
        if (next <= last && this.#equal(nextCandidate, next, next + 8) === 8) {
          at = next;
          candidate = nextCandidate;
          this.#enterLong(at);
        }
      }
      const distance = at - candidate;
      const before = this.#equalBefore(candidate, at, Math.min(at - anchor, candidate - src));
      const length = before + this.#equal(candidate, at, end);
      this.distances = [distance, this.distances[0]];
      return { at: at - before, length, offset: distance + 3, searched };
    }
    return undefined;
  }
}
