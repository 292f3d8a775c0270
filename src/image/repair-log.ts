import { hex } from '../errors.ts';

/** Lines about what a repair did and did not do: so many at most, for files that have more. */
export class RepairLog {
  readonly repairs: string[] = [];
  /** Repairs without a line. */
  omitted = 0;
  /** What could not be repaired, and why. */
  readonly unrepaired: string[] = [];
  readonly #limit: number;
  readonly #kept = new Set<number>();

  /** @param limit lines of each kind at most */
  constructor(limit: number) {
    this.#limit = limit;
  }

  repaired(text: () => string): void {
    if (this.repairs.length < this.#limit) this.repairs.push(`Repairing ${text()}`);
    else this.omitted++;
  }

  /** Something larger begins. */
  announce(text: string): void {
    this.repairs.push(text);
  }

  /** Something stays as it is. */
  keep(text: string): void {
    if (this.unrepaired.length < this.#limit) this.unrepaired.push(text);
  }

  /** A table stays as it is, for it is something else at the same time. */
  keepTable(structure: string, offset: number): void {
    if (this.#kept.size >= this.#limit || this.#kept.has(offset)) return;
    this.#kept.add(offset);
    const why = 'its clusters are used for something else, too';
    this.keep(`${structure} at ${hex(offset)} is not changed: ${why}`);
  }
}
