import { Qcow2Error } from '../errors.ts';
import type { Arena, Region } from '../kernel/arena.ts';
import type { MaybePromise, Storage } from '../storage/storage.ts';
import { DirtyPages, type TableKind } from './dirty-pages.ts';
import { requireReadToEnd } from './whole-read.ts';

/** Bytes a cached page holds: an L2 table of the default cluster size. */
export const PAGE_BYTES = 65536;
/** Pages of an image that is only read. */
const READ_PAGES = 32;
/** Fewest pages work goes on with: a read through a chain holds one, a copy of a table two. */
export const LEAST_PAGES = 8;

/** How tables of one file may be changed in the cache. */
export interface WriteBackRules {
  /** The file, by the number `register` gave it. */
  storage: number;
  /** Bytes written back together: within a cluster, so that they are one structure's. */
  unitBytes: number;
  /** Called when most pages are dirty: writes them back, in the order that is safe. */
  makeRoom: () => Promise<void>;
}

/**
 * Pages of metadata (L1 and L2 tables, refcount structures) in kernel memory, least recently used out
 * first, shared by all layers of an image: memory does not follow the number or the size of tables.
 * Changes are made in place and marked; they reach the file when `writeBack` is called for their kind.
 * Callers take turns (the image's mapping lock); pointers hold until the next `await` or the next call
 * of `pointer`, `zero` or `put`.
 */
export class TableCache {
  readonly #region: Region;
  readonly #slotCount: number;
  readonly #storages: Storage[] = [];
  /** Page key to slot, in order of use. */
  readonly #slots = new Map<number, number>();
  /** Slots no page was loaded into yet, or whose page was forgotten. */
  readonly #free: number[] = [];
  readonly #pageOf: Float64Array;
  #dirty: DirtyPages | undefined;
  #rules: WriteBackRules | undefined;

  /** @param bytes of memory for pages; rounded to whole pages, at least eight */
  constructor(arena: Arena, bytes: number = READ_PAGES * PAGE_BYTES) {
    this.#slotCount = Math.max(LEAST_PAGES, Math.floor(bytes / PAGE_BYTES));
    this.#region = arena.allocate(this.#slotCount * PAGE_BYTES);
    this.#pageOf = new Float64Array(this.#slotCount);
    for (let slot = this.#slotCount - 1; slot >= 0; slot--) this.#free.push(slot);
  }

  /** Number by which `pointer` knows a storage. */
  register(storage: Storage): number {
    const known = this.#storages.indexOf(storage);
    return known >= 0 ? known : this.#storages.push(storage) - 1;
  }

  /** From here on tables of one file may be changed. */
  allowWriting(rules: WriteBackRules): void {
    this.#rules = rules;
    this.#dirty = new DirtyPages(this.#slotCount, PAGE_BYTES, rules.unitBytes);
  }

  /**
   * Pointer in kernel memory to the byte at host `offset`; the rest of its page follows. Bytes past
   * the end of the file are zeros.
   * @throws Qcow2Error TRUNCATED if the file is shorter than it says
   */
  pointer(storage: number, offset: number): MaybePromise<number> {
    const page = Math.floor(offset / PAGE_BYTES);
    const key = page * 256 + storage;
    const slot = this.#slots.get(key);
    const within = offset - page * PAGE_BYTES;
    if (slot === undefined) return this.#load(storage, page, key, within);
    this.#slots.delete(key);
    this.#slots.set(key, slot);
    return this.#region.ptr + slot * PAGE_BYTES + within;
  }

  /**
   * Marks bytes of the writable file as changed in the cache; they lie in one page, whose pointer was
   * just taken.
   */
  markDirty(offset: number, length: number, kind: TableKind): void {
    const page = Math.floor(offset / PAGE_BYTES);
    const slot = this.#slots.get(page * 256 + this.#rules!.storage);
    if (slot === undefined) {
      const text = `table page at ${page * PAGE_BYTES} is not in the cache; take its pointer before marking it`;
      throw new Qcow2Error('INVALID_ARGUMENT', text, { offset });
    }
    this.#dirty!.mark(slot, offset - page * PAGE_BYTES, length, kind);
  }

  /** Makes a range of the writable file zeros, as a table of that kind; page by page. */
  async zero(offset: number, length: number, kind: TableKind): Promise<void> {
    for (let at = offset; at < offset + length; ) {
      const pointer = await this.#overwritable(at, offset + length);
      const bytes = Math.min(offset + length - at, PAGE_BYTES - (at % PAGE_BYTES));
      this.#region.bytes.fill(0, pointer, pointer + bytes);
      this.markDirty(at, bytes, kind);
      at += bytes;
    }
  }

  /** Puts bytes at an offset of the writable file, as a table of that kind. */
  async put(offset: number, bytes: Uint8Array, kind: TableKind): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const at = offset + done;
      const pointer = await this.#overwritable(at, offset + bytes.length);
      const length = Math.min(bytes.length - done, PAGE_BYTES - (at % PAGE_BYTES));
      this.#region.bytes.set(bytes.subarray(done, done + length), pointer);
      this.markDirty(at, length, kind);
      done += length;
    }
  }

  /** Whether tables of a kind wait to be written back. */
  isDirty(kind: TableKind): boolean {
    return this.#dirty?.isDirty(kind) ?? false;
  }

  /**
   * Writes what is dirty of a kind, in order of offset. After an error the rest stays dirty.
   * @param write gets whole units, which do not reach over the end of a structure's cluster
   */
  async writeBack(
    kind: TableKind,
    write: (offset: number, bytes: Uint8Array) => MaybePromise<void>,
  ): Promise<void> {
    const dirty = this.#dirty!;
    const slots = dirty.slotsOf(kind).sort((a, b) => this.#pageOf[a]! - this.#pageOf[b]!);
    for (const slot of slots) {
      const base = slot * PAGE_BYTES;
      for (let run = dirty.nextRun(slot, kind, 0); run !== undefined; ) {
        const { from, to } = run;
        const at = this.#pageOf[slot]! * PAGE_BYTES + from;
        const done = write(at, this.#region.bytes.subarray(base + from, base + to));
        if (done !== undefined) await done;
        dirty.clear(slot, from, to - from, kind);
        run = dirty.nextRun(slot, kind, to);
      }
    }
  }

  /** Forgets changes to clusters of the writable file that are no tables any more. */
  dropDirty(offset: number, length: number): void {
    for (let at = offset; at < offset + length; ) {
      const page = Math.floor(at / PAGE_BYTES);
      const bytes = Math.min(offset + length - at, (page + 1) * PAGE_BYTES - at);
      const slot = this.#slots.get(page * 256 + this.#rules!.storage);
      if (slot !== undefined) this.#dirty!.clear(slot, at - page * PAGE_BYTES, bytes);
      at += bytes;
    }
  }

  /** Forgets every page, because a file changed underneath. Nothing may be dirty. */
  clear(): void {
    for (const slot of this.#slots.values()) this.#free.push(slot);
    this.#slots.clear();
  }

  /** Index in the region of a byte about to be overwritten up to `end`; a whole page is not read. */
  async #overwritable(at: number, end: number): Promise<number> {
    const { storage } = this.#rules!;
    const page = Math.floor(at / PAGE_BYTES);
    const key = page * 256 + storage;
    const whole = at % PAGE_BYTES === 0 && end - at >= PAGE_BYTES;
    if (!whole || this.#slots.has(key)) return (await this.pointer(storage, at)) - this.#region.ptr;
    const slot = await this.#takeSlot();
    this.#keep(slot, page, key);
    return slot * PAGE_BYTES;
  }

  #load(storage: number, page: number, key: number, within: number): MaybePromise<number> {
    const slot = this.#takeSlot();
    if (typeof slot === 'number') return this.#read(slot, storage, page, key, within);
    return slot.then((taken) => this.#read(taken, storage, page, key, within));
  }

  #read(
    slot: number,
    storage: number,
    page: number,
    key: number,
    within: number,
  ): MaybePromise<number> {
    const start = slot * PAGE_BYTES;
    const into = this.#region.bytes.subarray(start, start + PAGE_BYTES);
    const source = this.#storages[storage]!;
    const at = page * PAGE_BYTES;
    const loaded = (n: number): number => {
      requireReadToEnd(source, at + n, at + PAGE_BYTES);
      into.fill(0, n);
      this.#keep(slot, page, key);
      return this.#region.ptr + start + within;
    };
    const giveBack = (error: unknown): never => {
      this.#free.push(slot);
      throw error;
    };
    try {
      const read = source.read(at, into);
      return typeof read === 'number' ? loaded(read) : read.then(loaded).catch(giveBack);
    } catch (error) {
      return giveBack(error);
    }
  }

  #keep(slot: number, page: number, key: number): void {
    this.#slots.set(key, slot);
    this.#pageOf[slot] = page;
  }

  /** A slot for another page; the least recently used clean one if none is free. */
  #takeSlot(): MaybePromise<number> {
    const slot = this.#free.pop();
    if (slot !== undefined) return slot;
    if (this.#dirty === undefined || this.#dirty.pages < this.#slotCount * 0.75)
      return this.#evict();
    return this.#rules!.makeRoom().then(() => this.#evict());
  }

  #evict(): number {
    for (const [key, slot] of this.#slots) {
      if (this.#dirty?.isPageDirty(slot)) continue;
      this.#slots.delete(key);
      return slot;
    }
    const text = 'every page of the table cache waits to be written back; give it more cacheBytes';
    throw new Qcow2Error('TOO_LARGE', text);
  }
}
