import type { Kernel } from '../kernel/kernel.ts';
import type { ReferenceCounts } from './check-counts.ts';
import type { RepairLog } from './repair-log.ts';
import type { SyncedFile } from './synced-file.ts';

/** What of table entries may be changed. */
export interface TableRepairRules {
  /** References to every cluster, as counted before. */
  readonly references: ReferenceCounts;
  readonly clusterSize: number;
  /** Whether counters did not hold all references: one at its maximum tells nothing. */
  readonly overflowed: boolean;
  /** Changes bit 63. */
  readonly flags: boolean;
  /** Changes whole entries. */
  readonly entries: boolean;
}

/**
 * Changes entries of L1 and L2 tables in place while a check walks them. Each change is within 8 bytes
 * and stands for itself: it does not matter which of them a cut lets through. A table whose clusters are
 * something else as well, another table or guest data, is not touched.
 */
export class TableRepair {
  readonly #file: SyncedFile;
  readonly #kernel: Kernel;
  readonly #rules: TableRepairRules;
  readonly #log: RepairLog;
  /** Whether the table at hand may be changed. */
  #isOwn = false;
  #structure = '';
  #offset = 0;
  /** Host offsets of what of it has changed. */
  #from = Number.POSITIVE_INFINITY;
  #to = 0;
  /** What was changed; counts as `corruptions` does. */
  fixed = 0;

  constructor(file: SyncedFile, kernel: Kernel, rules: TableRepairRules, log: RepairLog) {
    this.#file = file;
    this.#kernel = kernel;
    this.#rules = rules;
    this.#log = log;
  }

  /** Begins a table, which tables above it name so many times. */
  begin(structure: string, offset: number, bytes: number, times: number): void {
    const { references, clusterSize, overflowed } = this.#rules;
    const maximum = overflowed ? references.maximum : Number.POSITIVE_INFINITY;
    const end = Math.ceil((offset + bytes) / clusterSize);
    this.#isOwn = offset > 0 && times < maximum;
    for (let cluster = Math.floor(offset / clusterSize); cluster < end && this.#isOwn; cluster++)
      this.#isOwn = references.get(cluster) === times;
    this.#structure = structure;
    this.#offset = offset;
  }

  /**
   * Gives an entry the right bit 63.
   * @param pointer of the entry in kernel memory; `at` is its host offset
   * @returns false: it stays as it is
   */
  setCopied(
    pointer: number,
    at: number,
    copied: boolean,
    times: number,
    text: () => string,
  ): boolean {
    const { flags, overflowed } = this.#rules;
    if (!flags || (copied && overflowed) || !this.#requireOwn()) return false;
    this.#log.repaired(text);
    this.#kernel.arena.u8[pointer]! ^= 0x80;
    this.#changed(at, 1);
    this.fixed += times;
    return true;
  }

  /**
   * Replaces the first word of an entry.
   * @returns false: it stays as it is
   */
  setWord(pointer: number, at: number, low: number, text: () => string): boolean {
    if (!this.#rules.entries || !this.#requireOwn()) return false;
    this.#log.repaired(text);
    const view = new DataView(this.#kernel.arena.u8.buffer, pointer, 8);
    view.setUint32(0, 0);
    view.setUint32(4, low);
    this.#changed(at, 8);
    this.fixed++;
    return true;
  }

  /** Writes what has changed of the part of a table that is at `pointer` and at host offset `offset`. */
  async store(pointer: number, offset: number): Promise<void> {
    if (this.#to === 0) return;
    const [from, to] = [this.#from, this.#to];
    this.#from = Number.POSITIVE_INFINITY;
    this.#to = 0;
    const bytes = this.#kernel.arena.u8.slice(pointer + from - offset, pointer + to - offset);
    await this.#file.write(from, bytes);
  }

  #requireOwn(): boolean {
    if (!this.#isOwn) this.#log.keepTable(this.#structure, this.#offset);
    return this.#isOwn;
  }

  #changed(at: number, bytes: number): void {
    this.#from = Math.min(this.#from, at);
    this.#to = Math.max(this.#to, at + bytes);
  }
}
