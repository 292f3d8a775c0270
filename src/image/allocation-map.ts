import { Qcow2Error } from '../errors.ts';

/** Blocks of a page. One whose blocks are all alike takes no memory, any other 8 KiB. */
const PAGE_BLOCKS = 65536;
/** Bounds the list of pages (2^22): 16 PiB in blocks of 64 KiB. */
const MAX_BLOCKS = 2 ** 38;

/**
 * Which blocks of a disk are there: at most a bit for each, and nothing for long runs of blocks that
 * are all there or all missing. 16 TiB in blocks of 64 KiB take 32 MiB at most.
 */
export class AllocationMap {
  /** Number of blocks. */
  readonly length: number;
  /** A page, or what all its blocks are. */
  readonly #pages: (Uint32Array | boolean)[];

  /** @throws Qcow2Error TOO_LARGE above 2^38 blocks */
  constructor(length: number) {
    if (!(length <= MAX_BLOCKS)) {
      const text = `a map of ${length} blocks is too large, ${MAX_BLOCKS} are the most; choose larger blocks`;
      throw new Qcow2Error('TOO_LARGE', text, { value: length });
    }
    this.length = length;
    this.#pages = new Array(Math.ceil(length / PAGE_BLOCKS)).fill(false);
  }

  /** Whether a block is there; false behind the last. */
  has(block: number): boolean {
    const page = this.#pages[Math.floor(block / PAGE_BLOCKS)];
    if (typeof page !== 'object') return page === true && block < this.length;
    const bit = block % PAGE_BLOCKS;
    return (page[bit >>> 5]! & (1 << (bit & 31))) !== 0;
  }

  /** Says of the blocks `[from, to)` that they are there, or that they are not. */
  fill(from: number, to: number, value = true): void {
    for (let at = from; at < to; ) {
      const index = Math.floor(at / PAGE_BLOCKS);
      const start = index * PAGE_BLOCKS;
      const end = Math.min(to, start + PAGE_BLOCKS);
      const page = this.#pages[index]!;
      if (end - at === PAGE_BLOCKS) this.#pages[index] = value;
      else if (typeof page === 'object') fillBits(page, at - start, end - start, value);
      else if (page !== value) {
        const bits = new Uint32Array(PAGE_BLOCKS / 32);
        if (page) bits.fill(0xffffffff);
        fillBits(bits, at - start, end - start, value);
        this.#pages[index] = bits;
      }
      at = end;
    }
  }

  /** The first block from `from` on that is there (or, with `value` false, is not); `length`: none. */
  next(from: number, value = true): number {
    for (let at = from; at < this.length; ) {
      const index = Math.floor(at / PAGE_BLOCKS);
      const page = this.#pages[index]!;
      if (page === value) return at;
      const start = index * PAGE_BLOCKS;
      const found = typeof page === 'object' ? nextBit(page, at - start, value) : PAGE_BLOCKS;
      if (found < PAGE_BLOCKS) return Math.min(start + found, this.length);
      at = start + PAGE_BLOCKS;
    }
    return this.length;
  }

  /** How many of the blocks `[from, to)` are there. */
  count(from = 0, to: number = this.length): number {
    let total = 0;
    for (let at = from; at < to; ) {
      const index = Math.floor(at / PAGE_BLOCKS);
      const start = index * PAGE_BLOCKS;
      const end = Math.min(to, start + PAGE_BLOCKS);
      const page = this.#pages[index]!;
      if (typeof page === 'object') total += countBits(page, at - start, end - start);
      else if (page) total += end - at;
      at = end;
    }
    return total;
  }
}

/** Bits of a word from `from` on and before `to`, 0 to 32. */
function mask(from: number, to: number): number {
  const below = to === 32 ? 0xffffffff : (1 << to) - 1;
  return below & ~(from === 32 ? 0xffffffff : (1 << from) - 1);
}

function fillBits(bits: Uint32Array, from: number, to: number, value: boolean): void {
  const first = from >>> 5;
  const last = to >>> 5;
  const change = (word: number, which: number): void => {
    if (value) bits[word]! |= which;
    else bits[word]! &= ~which;
  };
  if (first === last) {
    change(first, mask(from & 31, to & 31));
    return;
  }
  change(first, mask(from & 31, 32));
  bits.fill(value ? 0xffffffff : 0, first + 1, last);
  if ((to & 31) !== 0) change(last, mask(0, to & 31));
}

function nextBit(bits: Uint32Array, from: number, value: boolean): number {
  let which = mask(from & 31, 32);
  for (let word = from >>> 5; word < bits.length; word++) {
    const found = (value ? bits[word]! : ~bits[word]!) & which;
    if (found !== 0) return word * 32 + 31 - Math.clz32(found & -found);
    which = 0xffffffff;
  }
  return PAGE_BLOCKS;
}

function countBits(bits: Uint32Array, from: number, to: number): number {
  let total = 0;
  for (let at = from; at < to; ) {
    const end = Math.min(to, (at & ~31) + 32);
    total += countOnes(bits[at >>> 5]! & mask(at & 31, end - (at & ~31)));
    at = end;
  }
  return total;
}

function countOnes(word: number): number {
  let x = word - ((word >>> 1) & 0x55555555);
  x = (x & 0x33333333) + ((x >>> 2) & 0x33333333);
  return Math.imul((x + (x >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}
