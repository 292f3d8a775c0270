/** Kinds of tables, in the order in which they are written back: each may point to those before. */
export const REFCOUNT_BLOCK = 0;
export const REFCOUNT_TABLE = 1;
export const L2_TABLE = 2;
export const L1_TABLE = 3;
const KINDS = 4;
export type TableKind = 0 | 1 | 2 | 3;

/** 32-bit words of a page's bitmap: up to 128 units. */
const WORDS = 4;

/** Which units of the pages of a cache hold changes that are not in the file yet, by kind of table. */
export class DirtyPages {
  readonly #unitBytes: number;
  readonly #unitsPerPage: number;
  /** For each slot and kind a bit per unit. */
  readonly #bits: Uint32Array;
  /** For each slot a bit per kind. */
  readonly #kinds: Uint8Array;
  readonly #pagesOf = new Uint32Array(KINDS);
  #pages = 0;

  /** @param unitBytes at least a 128th of a page, both powers of two */
  constructor(slots: number, pageBytes: number, unitBytes: number) {
    this.#unitBytes = unitBytes;
    this.#unitsPerPage = pageBytes / unitBytes;
    this.#bits = new Uint32Array(slots * KINDS * WORDS);
    this.#kinds = new Uint8Array(slots);
  }

  /** Pages with changes of any kind. */
  get pages(): number {
    return this.#pages;
  }

  isPageDirty(slot: number): boolean {
    return this.#kinds[slot] !== 0;
  }

  isDirty(kind: TableKind): boolean {
    return this.#pagesOf[kind]! > 0;
  }

  slotsOf(kind: TableKind): number[] {
    const slots: number[] = [];
    for (let slot = 0; slot < this.#kinds.length; slot++)
      if ((this.#kinds[slot]! & (1 << kind)) !== 0) slots.push(slot);
    return slots;
  }

  mark(slot: number, from: number, length: number, kind: TableKind): void {
    const base = (slot * KINDS + kind) * WORDS;
    const last = Math.floor((from + length - 1) / this.#unitBytes);
    for (let unit = Math.floor(from / this.#unitBytes); unit <= last; unit++)
      this.#bits[base + (unit >> 5)]! |= 1 << (unit & 31);
    if ((this.#kinds[slot]! & (1 << kind)) !== 0) return;
    if (this.#kinds[slot] === 0) this.#pages++;
    this.#kinds[slot]! |= 1 << kind;
    this.#pagesOf[kind]!++;
  }

  /** Forgets the changes in whole units of a page: those of one kind, or all. */
  clear(slot: number, from: number, length: number, kind?: TableKind): void {
    for (let each = 0; each < KINDS; each++) {
      if (kind !== undefined && each !== kind) continue;
      if ((this.#kinds[slot]! & (1 << each)) !== 0) this.#clearKind(slot, from, length, each);
    }
  }

  /** The first run of dirty units that begins at byte `from` or behind, in bytes of the page. */
  nextRun(slot: number, kind: TableKind, from: number): { from: number; to: number } | undefined {
    const base = (slot * KINDS + kind) * WORDS;
    const isSet = (unit: number): boolean =>
      (this.#bits[base + (unit >> 5)]! & (1 << (unit & 31))) !== 0;
    let unit = from / this.#unitBytes;
    while (unit < this.#unitsPerPage && !isSet(unit)) unit++;
    if (unit >= this.#unitsPerPage) return undefined;
    const start = unit;
    while (unit < this.#unitsPerPage && isSet(unit)) unit++;
    return { from: start * this.#unitBytes, to: unit * this.#unitBytes };
  }

  #clearKind(slot: number, from: number, length: number, kind: number): void {
    const base = (slot * KINDS + kind) * WORDS;
    const end = (from + length) / this.#unitBytes;
    for (let unit = from / this.#unitBytes; unit < end; unit++)
      this.#bits[base + (unit >> 5)]! &= ~(1 << (unit & 31));
    for (let word = 0; word < WORDS; word++) if (this.#bits[base + word] !== 0) return;
    this.#kinds[slot]! &= ~(1 << kind);
    this.#pagesOf[kind]!--;
    if (this.#kinds[slot] === 0) this.#pages--;
  }
}
