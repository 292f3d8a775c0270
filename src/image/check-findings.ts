/** What a finding counts as (format section 18). A refusal is not counted by QEMU's check. */
export type FindingClass = 'corruption' | 'leak' | 'error' | 'refusal';

/** One thing that is wrong with an image. */
export interface CheckFinding {
  readonly class: FindingClass;
  /** The structure in the format's words: "L1 entry", "L2 entry", "refcount block", ... */
  readonly structure: string;
  /** Host offset in bytes of the structure, entry or cluster. */
  readonly offset: number;
  /** One line: what, where, and the value. */
  readonly message: string;
  /** How many times it counts: an entry of a table used n times is n corruptions. */
  readonly count: number;
}

/** Where findings are listed: in the order of the checks, whatever the order of the work. */
export type FindingStage = 'structure' | 'copied' | 'refusal';

/** Counts findings, and lists the first of them: a hostile file has more than memory holds. */
export class Findings {
  corruptions = 0;
  leaks = 0;
  checkErrors = 0;
  refusals = 0;
  /** Of the corruptions, those of bit 63. */
  copiedFlags = 0;
  /**
   * Entries that cannot be followed, or lead past the end of the file: what they stood for looks like
   * a leak, or like something with fewer references than it has.
   */
  lost = 0;
  /** References beyond what a counter holds. */
  overflows = 0;
  readonly #limit: number;
  #recorded = 0;
  /** Of these, how many are about bit 63. */
  #copied = 0;
  #stages: Record<FindingStage, CheckFinding[]> = { structure: [], copied: [], refusal: [] };

  /** @param limit findings listed at most */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** True once further findings need no text. */
  get isFull(): boolean {
    return this.#stages.structure.length >= this.#limit;
  }

  /** Adds a finding; its text is made only while there is room for it. */
  add(
    kind: FindingClass,
    structure: string,
    offset: number,
    count: number,
    message: () => string,
  ): void {
    this.#count(kind, count);
    const stage = kind === 'refusal' ? 'refusal' : 'structure';
    this.#list(stage, kind, structure, offset, count, message);
  }

  /** Adds a corruption through which references are not known. */
  addLost(structure: string, offset: number, count: number, message: () => string): void {
    this.lost++;
    this.add('corruption', structure, offset, count, message);
  }

  /** Adds a corruption found while verifying bit 63; such findings are listed after the others. */
  addCopied(structure: string, offset: number, count: number, message: () => string): void {
    this.#count('corruption', count);
    this.copiedFlags += count;
    this.#copied++;
    this.#list('copied', 'corruption', structure, offset, count, message);
  }

  /** Counts without listing. */
  addUnlisted(kind: FindingClass, count: number): void {
    this.#count(kind, count);
    this.#recorded += count;
  }

  /**
   * The findings listed, and how many there are besides.
   * @param withCopied whether those about bit 63 are wanted
   */
  finish(withCopied = true): { findings: CheckFinding[]; omitted: number } {
    const { structure, copied, refusal } = this.#stages;
    const flags = withCopied ? copied : [];
    const recorded = withCopied ? this.#recorded : this.#recorded - this.#copied;
    const findings = [...structure, ...flags, ...refusal].slice(0, this.#limit);
    return { findings, omitted: recorded - findings.length };
  }

  #count(kind: FindingClass, count: number): void {
    if (kind === 'corruption') this.corruptions += count;
    else if (kind === 'leak') this.leaks += count;
    else if (kind === 'error') this.checkErrors += count;
    else this.refusals += count;
  }

  #list(
    stage: FindingStage,
    kind: FindingClass,
    structure: string,
    offset: number,
    count: number,
    message: () => string,
  ): void {
    this.#recorded++;
    const list = this.#stages[stage];
    if (list.length >= this.#limit) return;
    list.push({ class: kind, structure, offset, message: message(), count });
  }
}
