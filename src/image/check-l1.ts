import { hex, Qcow2Error } from '../errors.ts';
import type { MaybePromise } from '../storage/storage.ts';
import { coverage } from './check-coverage.ts';
import type { CheckedFile } from './check-file.ts';
import { type StoredCounts, UNUSABLE } from './check-stored.ts';
import type { TableRepair } from './repair-tables.ts';

const TWO_32 = 2 ** 32;

/** An L1 table: host offset in bytes, number of entries. */
export interface L1TableSpan {
  readonly offset: number;
  readonly entries: number;
}

/** How often L1 entries name one L2 table. */
export interface L2TableUses {
  readonly offset: number;
  /** Entries of all L1 tables, and of the active one alone. */
  readonly total: number;
  readonly active: number;
  /** Lowest index in the active L1 table; -1: in none. */
  readonly l1Index: number;
}

/**
 * Counts the L1 tables and gathers the L2 tables they name, each once with the number of its uses:
 * however many snapshots share a table, it is read once.
 */
export class L1Tables {
  readonly #file: CheckedFile;
  readonly #stored: StoredCounts;
  readonly #total = new Map<number, number>();
  readonly #active = new Map<number, number>();
  readonly #index = new Map<number, number>();
  readonly #repair: TableRepair | undefined;
  /** Where the entry looked at lies in kernel memory. */
  #word = 0;

  /** @param repair changes flags that are wrong, instead of reporting them */
  constructor(file: CheckedFile, stored: StoredCounts, repair?: TableRepair) {
    this.#file = file;
    this.#stored = stored;
    this.#repair = repair;
  }

  /** Scans the active L1 table, whose bit 63 counts. */
  async addActive(table: L1TableSpan): Promise<void> {
    const bytes = table.entries * 8;
    this.#file.addRegion('active L1 table', table.offset, table.offset, bytes);
    this.#repair?.begin('active L1 table', table.offset, bytes, 1);
    await this.#scan(table.offset, table.offset + bytes, 1, (at, high, low, l2Offset) => {
      const index = (at - table.offset) / 8;
      this.#active.set(l2Offset, (this.#active.get(l2Offset) ?? 0) + 1);
      if (!this.#index.has(l2Offset)) this.#index.set(l2Offset, index);
      return this.#verifyCopied(at, index, high, low, l2Offset);
    });
  }

  /** Scans snapshots' L1 tables; where they lie over each other, once. */
  async addSnapshots(tables: readonly L1TableSpan[]): Promise<void> {
    const { clusterSize } = this.#file.geometry;
    const inFile = tables.filter(({ offset, entries }) => {
      if (offset >= 2 ** 63 - 2 ** 30) throw unreadable(offset);
      if (offset + entries * 8 - this.#file.size < clusterSize) {
        if (offset >= this.#file.size) this.#file.notePastEnd(offset);
        return true;
      }
      this.#file.reportPastEnd('snapshot L1 table', offset, offset, entries * 8, 1);
      return false;
    });
    const clusters = inFile.map(({ offset, entries }) => ({
      start: offset / clusterSize,
      end: Math.ceil((offset + entries * 8) / clusterSize),
    }));
    for (const { start, end, times } of coverage(clusters)) {
      this.#file.references.add(start, end - start, times);
    }
    const spans = tables.map(({ offset, entries }) => ({
      start: offset,
      end: offset + entries * 8,
    }));
    for (const { start, end, times } of coverage(spans)) await this.#scan(start, end, times);
  }

  /** Whether an entry names a table at this host offset. */
  names(offset: number): boolean {
    return this.#total.has(offset);
  }

  /** How many L2 tables are named. */
  get count(): number {
    return this.#total.size;
  }

  /** The L2 tables named, by ascending host offset. */
  *uses(): Generator<L2TableUses> {
    for (const offset of Float64Array.from(this.#total.keys()).sort()) {
      yield {
        offset,
        total: this.#total.get(offset)!,
        active: this.#active.get(offset) ?? 0,
        l1Index: this.#index.get(offset) ?? -1,
      };
    }
  }

  #scan(
    start: number,
    end: number,
    times: number,
    visit?: (at: number, high: number, low: number, l2Offset: number) => MaybePromise<void>,
  ): Promise<void> {
    return this.#file.eachPart(start, end, async (pointer, offset, bytes) => {
      let view = this.#view(pointer, bytes);
      for (let pos = 0; pos + 8 <= bytes; pos += 8) {
        const high = view.getUint32(pos);
        const low = view.getUint32(pos + 4);
        if (high === 0 && low === 0) continue;
        const l2Offset = (high & 0xffffff) * TWO_32 + ((low & ~0x1ff) >>> 0);
        this.#total.set(l2Offset, (this.#total.get(l2Offset) ?? 0) + times);
        this.#checkBits(offset + pos, high, low, l2Offset, times);
        this.#word = pointer + pos;
        const pending = visit?.(offset + pos, high, low, l2Offset);
        if (pending !== undefined) await pending;
        if (view.buffer !== this.#file.kernel.arena.u8.buffer) view = this.#view(pointer, bytes);
      }
      if (visit !== undefined) await this.#repair?.store(pointer, offset);
    });
  }

  #view(pointer: number, bytes: number): DataView {
    return new DataView(this.#file.kernel.arena.u8.buffer, pointer, bytes);
  }

  #checkBits(at: number, high: number, low: number, l2Offset: number, times: number): void {
    const { findings, geometry } = this.#file;
    if ((high & 0x7f000000) !== 0 || (low & 0x1ff) !== 0) {
      findings.add('corruption', 'L1 entry', at, times, () => {
        return `ERROR L1 entry at ${hex(at)} has reserved bits set: ${wordText(high, low)}`;
      });
    }
    if (l2Offset % geometry.clusterSize !== 0) {
      findings.addLost('L1 entry', at, times, () => {
        return `ERROR L1 entry at ${hex(at)}: L2 table offset ${hex(l2Offset)} is not cluster aligned`;
      });
    }
  }

  #verifyCopied(
    at: number,
    index: number,
    high: number,
    low: number,
    l2Offset: number,
  ): MaybePromise<void> {
    if (l2Offset === 0) return undefined;
    const judge = (refcount: number): void => {
      if (refcount === UNUSABLE || (refcount === 1) === high >>> 31 > 0) return;
      const text = (): string => {
        const entry = `l1_index=${index} l1_entry=${wordText(high, low)}`;
        return `OFLAG_COPIED L2 cluster: ${entry} refcount=${refcount}`;
      };
      if (this.#repair?.setCopied(this.#word, at, refcount === 1, 1, text)) return;
      this.#file.findings.addCopied('L1 entry', at, 1, () => `ERROR ${text()}`);
    };
    const stored = this.#stored.counter(Math.floor(l2Offset / this.#file.geometry.clusterSize));
    return typeof stored === 'number' ? judge(stored) : stored.then(judge);
  }
}

/** A 64-bit word in hexadecimal without leading zeros or prefix. */
export function wordText(high: number, low: number): string {
  return ((BigInt(high) << 32n) | BigInt(low)).toString(16);
}

function unreadable(offset: number): Qcow2Error {
  const text = `snapshot L1 table at ${hex(offset)} cannot be read; the check cannot be completed`;
  return new Qcow2Error('MALFORMED', text, { structure: 'snapshot L1 table', offset });
}
