import type { Arena, Region } from '../kernel/arena.ts';
import type { MaybePromise, Storage } from '../storage/storage.ts';
import { requireReadToEnd } from './whole-read.ts';

/** Bytes a cached page holds: an L2 table of the default cluster size. */
export const PAGE_BYTES = 65536;
const SLOTS = 32;

/**
 * Pages of metadata (L1 and L2 tables) in kernel memory, least recently used out first, shared by
 * all layers of an image: memory does not follow the number or the size of tables.
 * Callers take turns (the image's mapping lock); pointers hold until the next `await`.
 */
export class TableCache {
  readonly #region: Region;
  readonly #storages: Storage[] = [];
  /** Page key to slot, in order of use. */
  readonly #slots = new Map<number, number>();

  constructor(arena: Arena) {
    this.#region = arena.allocate(SLOTS * PAGE_BYTES);
  }

  /** Number by which `pointer` knows a storage. */
  register(storage: Storage): number {
    const known = this.#storages.indexOf(storage);
    return known >= 0 ? known : this.#storages.push(storage) - 1;
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

  /** Forgets every page, because a file changed underneath. */
  clear(): void {
    this.#slots.clear();
  }

  #load(storage: number, page: number, key: number, within: number): MaybePromise<number> {
    const slot = this.#freeSlot();
    const start = slot * PAGE_BYTES;
    const into = this.#region.bytes.subarray(start, start + PAGE_BYTES);
    const source = this.#storages[storage]!;
    const at = page * PAGE_BYTES;
    const loaded = (n: number): number => {
      requireReadToEnd(source, at + n, at + PAGE_BYTES);
      into.fill(0, n);
      this.#slots.set(key, slot);
      return this.#region.ptr + start + within;
    };
    const read = source.read(at, into);
    return typeof read === 'number' ? loaded(read) : read.then(loaded);
  }

  #freeSlot(): number {
    if (this.#slots.size < SLOTS) {
      const used = new Set(this.#slots.values());
      for (let slot = 0; slot < SLOTS; slot++) if (!used.has(slot)) return slot;
    }
    const [oldest, slot] = this.#slots.entries().next().value!;
    this.#slots.delete(oldest);
    return slot;
  }
}
