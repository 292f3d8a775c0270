import type { Geometry } from '../format/geometry.ts';
import { writeL1 } from '../format/l1-entry.ts';
import type { Storage } from '../storage/storage.ts';
import type { NewEntries } from './target.ts';

/** Bytes of tables kept in memory, if that is more than two. */
const KEPT_BYTES = 4 * 2 ** 20;

/**
 * The L2 tables of an image that is being written. Entries come in roughly ascending order, so each
 * table is gathered in memory and written about once, as is its entry in the L1 table.
 */
export class NewTables {
  readonly #storage: Storage;
  readonly #geometry: Geometry;
  readonly #l1TableOffset: number | undefined;
  /** Offsets of tables by L1 index, while the L1 table has no place. */
  readonly #placeless = new Map<number, number>();
  readonly #mostKept: number;
  /** By L1 index, the oldest first. */
  readonly #kept = new Map<number, { offset: number; bytes: Uint8Array }>();
  /** Tables from this L1 index on have never been written. */
  #firstNew = 0;

  /** @param l1TableOffset undefined: it is found later, and `l1Table` tells what to write there */
  constructor(storage: Storage, l1TableOffset: number | undefined, geometry: Geometry) {
    this.#storage = storage;
    this.#geometry = geometry;
    this.#l1TableOffset = l1TableOffset;
    this.#mostKept = Math.max(2, KEPT_BYTES / geometry.clusterSize);
  }

  async enter({ l1Index, offset, first, entries }: NewEntries): Promise<void> {
    const table = this.#kept.get(l1Index) ?? (await this.#open(l1Index, offset));
    table.bytes.set(entries, first * this.#geometry.l2EntrySize);
  }

  /** Writes what is kept. */
  async flush(): Promise<void> {
    for (const l1Index of this.#kept.keys()) await this.#write(l1Index);
  }

  /** An L1 table of `entries` entries with the tables written so far. */
  l1Table(entries: number): Uint8Array {
    const table = new DataView(new ArrayBuffer(entries * 8));
    for (const [l1Index, offset] of this.#placeless) writeL1(table, l1Index * 8, offset, true);
    return new Uint8Array(table.buffer);
  }

  async #open(l1Index: number, offset: number): Promise<{ offset: number; bytes: Uint8Array }> {
    if (this.#kept.size >= this.#mostKept) await this.#write(this.#kept.keys().next().value!);
    const table = { offset, bytes: new Uint8Array(this.#geometry.clusterSize) };
    if (l1Index < this.#firstNew) await this.#storage.read(offset, table.bytes);
    this.#kept.set(l1Index, table);
    return table;
  }

  async #write(l1Index: number): Promise<void> {
    const { offset, bytes } = this.#kept.get(l1Index)!;
    await this.#storage.write!(offset, bytes);
    if (this.#l1TableOffset === undefined) this.#placeless.set(l1Index, offset);
    else {
      const entry = new Uint8Array(8);
      writeL1(new DataView(entry.buffer), 0, offset, true);
      await this.#storage.write!(this.#l1TableOffset + l1Index * 8, entry);
    }
    this.#kept.delete(l1Index);
    this.#firstNew = Math.max(this.#firstNew, l1Index + 1);
  }
}
