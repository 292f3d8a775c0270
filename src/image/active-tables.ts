import { hex, Qcow2Error } from '../errors.ts';
import type { Geometry } from '../format/geometry.ts';
import { writeOffsetWord } from '../format/l1-entry.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { MaybePromise } from '../storage/storage.ts';
import type { ClusterAllocator } from './allocator.ts';
import { L1_TABLE, L2_TABLE, type TableKind } from './dirty-pages.ts';
import type { HeaderState } from './header-state.ts';
import { PAGE_BYTES, type TableCache } from './table-cache.ts';
import type { WriteBack } from './write-back.ts';

/** The active L1 table and its L2 tables, to be changed: made, and copied where a snapshot has them too. */
export class ActiveTables {
  readonly #tables: TableCache;
  readonly #storage: number;
  readonly #header: HeaderState;
  readonly #geometry: Geometry;
  readonly #kernel: Kernel;
  readonly #allocator: ClusterAllocator;
  readonly #writeBack: WriteBack;
  readonly #onChange: () => void;
  /** The L2 table handed out last for changing. */
  #index = -1;
  #offset = 0;

  /** @param onChange called when an L1 entry has changed */
  constructor(
    tables: TableCache,
    storage: number,
    header: HeaderState,
    kernel: Kernel,
    allocator: ClusterAllocator,
    writeBack: WriteBack,
    onChange: () => void,
  ) {
    this.#tables = tables;
    this.#storage = storage;
    this.#header = header;
    this.#geometry = header.metadata.geometry;
    this.#kernel = kernel;
    this.#allocator = allocator;
    this.#writeBack = writeBack;
    this.#onChange = onChange;
  }

  /** Whether an L1 entry names an L2 table. */
  async exists(l1Index: number): Promise<boolean> {
    return this.#index === l1Index || (await this.#entry(l1Index)).offset !== 0;
  }

  /**
   * Host offset of the L2 table an L1 entry names, to be read; 0 if it names none.
   * @throws Qcow2Error BAD_ENTRY, TRUNCATED
   */
  async offsetOf(l1Index: number): Promise<number> {
    return (await this.#entry(l1Index)).offset;
  }

  /** Takes the L2 table away from an L1 entry. What the table names must have been freed. */
  async drop(l1Index: number): Promise<void> {
    const { offset } = await this.#entry(l1Index);
    await this.#setEntry(l1Index, 0);
    this.#writeBack.overlap.release('L2 table', offset, this.#geometry.clusterSize);
    this.#allocator.freeClusters(offset, 1);
    this.forget();
    this.#onChange();
  }

  /**
   * Moves the L1 table to a place with room for more entries (format section 17): when it is durable
   * there, the header changes.
   * @throws Qcow2Error those of the allocator
   */
  async grow(entries: number): Promise<void> {
    const { clusterSize } = this.#geometry;
    const { l1TableOffset: oldOffset, l1Size: oldEntries } = this.#header.header;
    const oldClusters = Math.ceil((oldEntries * 8) / clusterSize);
    const clusters = Math.ceil((entries * 8) / clusterSize);
    await this.#writeBack.beforeChange();
    const offset = await this.#allocator.allocateTable(clusters, L1_TABLE, 'active L1 table');
    await this.#writeBack.undivided(async () => {
      await this.#copy(oldOffset, offset, oldEntries * 8, L1_TABLE);
      await this.#writeBack.commitAll();
      await this.#writeBack.barrier();
      await this.#header.update({ l1TableOffset: offset, l1Size: entries });
      await this.#writeBack.barrier();
    });
    this.forget();
    if (oldClusters === 0) return;
    this.#writeBack.overlap.release('active L1 table', oldOffset, oldClusters * clusterSize);
    this.#allocator.freeClusters(oldOffset, oldClusters);
  }

  /** Must be called when snapshots, or the table itself, changed: what is handed out may be shared. */
  forget(): void {
    this.#index = -1;
  }

  /**
   * Host offset of the L2 table for an L1 index, in a cluster that belongs to the active table alone.
   * @throws Qcow2Error BAD_ENTRY (the image is marked corrupt), and those of the allocator
   */
  forChange(l1Index: number): MaybePromise<number> {
    return l1Index === this.#index ? this.#offset : this.#obtain(l1Index);
  }

  /** Pointer to entry `index` of an L2 table; the rest of its page follows. */
  pointer(l2Offset: number, index: number): MaybePromise<number> {
    return this.#tables.pointer(this.#storage, l2Offset + index * this.#geometry.l2EntrySize);
  }

  /** Entries from `index` on that follow each other in one page. */
  entriesInPage(l2Offset: number, index: number): number {
    const { l2EntrySize, l2Entries } = this.#geometry;
    const within = (l2Offset + index * l2EntrySize) % PAGE_BYTES;
    return Math.min(l2Entries - index, (PAGE_BYTES - within) / l2EntrySize);
  }

  /** Marks entries of an L2 table as changed: of one page, whose pointer was just taken. */
  changed(l2Offset: number, index: number, count: number): void {
    const { l2EntrySize } = this.#geometry;
    this.#tables.markDirty(l2Offset + index * l2EntrySize, count * l2EntrySize, L2_TABLE);
  }

  async #obtain(l1Index: number): Promise<number> {
    const { offset, owned } = await this.#entry(l1Index);
    const l2Offset = offset !== 0 && owned ? offset : await this.#replace(l1Index, offset);
    this.#index = l1Index;
    this.#offset = l2Offset;
    return l2Offset;
  }

  /** Gives an L1 entry a table of its own: empty, or a copy of the one it shares. */
  async #replace(l1Index: number, shared: number): Promise<number> {
    const { clusterSize } = this.#geometry;
    await this.#writeBack.beforeChange();
    const offset = await this.#allocator.allocateTable(1, L2_TABLE, 'L2 table');
    if (shared !== 0) await this.#copy(shared, offset, clusterSize, L2_TABLE);
    await this.#setEntry(l1Index, offset);
    if (shared !== 0) {
      this.#writeBack.overlap.release('L2 table', shared, clusterSize);
      this.#allocator.freeClusters(shared, 1);
    }
    this.#onChange();
    return offset;
  }

  /** Sets an L1 entry; 0 for no table. */
  async #setEntry(l1Index: number, offset: number): Promise<void> {
    const at = this.#header.header.l1TableOffset + l1Index * 8;
    const pointer = await this.#tables.pointer(this.#storage, at);
    writeOffsetWord(new DataView(this.#kernel.arena.u8.buffer), pointer, offset, offset !== 0);
    this.#tables.markDirty(at, 8, L1_TABLE);
  }

  async #copy(from: number, to: number, bytes: number, kind: TableKind): Promise<void> {
    const piece = new Uint8Array(Math.min(bytes, PAGE_BYTES));
    for (let done = 0; done < bytes; ) {
      const here = Math.min(bytes - done, piece.length, PAGE_BYTES - ((from + done) % PAGE_BYTES));
      const pointer = await this.#tables.pointer(this.#storage, from + done);
      piece.set(this.#kernel.arena.u8.subarray(pointer, pointer + here));
      await this.#tables.put(to + done, piece.subarray(0, here), kind);
      done += here;
    }
  }

  async #entry(l1Index: number): Promise<{ offset: number; owned: boolean }> {
    const at = this.#header.header.l1TableOffset + l1Index * 8;
    const pointer = await this.#tables.pointer(this.#storage, at);
    const view = new DataView(this.#kernel.arena.u8.buffer);
    const high = view.getUint32(pointer);
    const low = view.getUint32(pointer + 4);
    const offset = (high & 0xffffff) * 2 ** 32 + ((low & 0xfffffe00) >>> 0);
    if (offset % this.#geometry.clusterSize !== 0) {
      const text = `L1 entry at offset ${hex(at)}: L2 table offset ${hex(offset)} is not cluster aligned; repair the image (check -r all)`;
      await this.#writeBack.markCorrupt(
        new Qcow2Error('BAD_ENTRY', text, { structure: 'L1 entry', offset: at, value: offset }),
      );
    }
    const { storage } = this.#writeBack.file;
    if (offset >= storage.size) {
      const text = `L1 entry at offset ${hex(at)} of '${storage.name}': L2 table offset ${hex(offset)} is past the end of the file (${hex(storage.size)}); the file is truncated`;
      const details = { structure: 'L1 entry', offset: at, value: offset };
      throw new Qcow2Error('TRUNCATED', text, details);
    }
    return { offset, owned: high >>> 31 === 1 };
  }
}
