import type { Layer } from '../image/layer.ts';
import { readMetadata } from '../image/metadata.ts';
import { PAGE_BYTES } from '../image/table-cache.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Storage } from '../storage/storage.ts';

/** Values unpacked at a time: 64 KiB of them. */
const COUNTERS = 8192;

/**
 * Whether clusters of a qcow2 image that are mapped as data may be holes of its file, which read as
 * zeros: the file takes noticeably less space than its refcounts say, as after
 * `preallocation=metadata` or a sparse copy. It is the test QEMU makes, with the same margin of a
 * ninth, or two clusters; a file that fails it counts as dense, whatever holes it has.
 */
export async function isSparselyStored(layer: Layer, kernel: Kernel): Promise<boolean> {
  const { storage, clusterSize } = layer;
  const { allocatedSize } = storage as Storage & { readonly allocatedSize?: number };
  if (layer.format === 'raw' || allocatedSize === undefined) return false;
  const real = Math.floor(allocatedSize / clusterSize);
  const threshold = Math.max(Math.floor((real * 10) / 9), real + 2);
  if (Math.ceil(storage.size / clusterSize) < threshold) return false;
  return (await countUsedClusters(storage, kernel, threshold)) >= threshold;
}

/** Clusters of the file whose counter is not 0 (format section 6); stops at `enough`. */
async function countUsedClusters(
  storage: Storage,
  kernel: Kernel,
  enough: number,
): Promise<number> {
  const { header, geometry } = await readMetadata(storage);
  const { clusterSize, refcountBlockEntries, refcountOrder } = geometry;
  const { refcountTableOffset, refcountTableClusters } = header;
  const blocks = Math.ceil(Math.ceil(storage.size / clusterSize) / refcountBlockEntries);
  const length = Math.min(refcountTableClusters * clusterSize, blocks * 8);
  const table = new DataView(new ArrayBuffer(length));
  await storage.read(refcountTableOffset, new Uint8Array(table.buffer));
  const counters = new UsedCounters(kernel, refcountOrder);
  const perPage = Math.min(refcountBlockEntries, (PAGE_BYTES * 8) / geometry.refcountBits);
  let left = Math.ceil(storage.size / clusterSize);
  let used = 0;
  try {
    for (let at = 0; at < length && used < enough; at += 8) {
      const block = table.getUint32(at) * 2 ** 32 + ((table.getUint32(at + 4) & ~0x1ff) >>> 0);
      for (let first = 0; first < refcountBlockEntries && left > 0; first += perPage) {
        const count = Math.min(perPage, left);
        left -= count;
        if (block === 0 || used >= enough) continue;
        used += await counters.count(storage, block + (first * geometry.refcountBits) / 8, count);
      }
    }
    return used;
  } finally {
    counters.release();
  }
}

/** Counts counters that are not 0, a page of a refcount block at a time. */
class UsedCounters {
  readonly #kernel: Kernel;
  readonly #order: number;
  readonly #page;
  readonly #values;

  constructor(kernel: Kernel, order: number) {
    this.#kernel = kernel;
    this.#order = order;
    this.#page = kernel.arena.allocate(PAGE_BYTES);
    this.#values = kernel.arena.allocate(COUNTERS * 8);
  }

  async count(storage: Storage, offset: number, count: number): Promise<number> {
    const { exports, arena } = this.#kernel;
    const bytes = this.#page.bytes.subarray(0, Math.ceil((count * 2 ** this.#order) / 8));
    bytes.fill(0, await storage.read(offset, bytes));
    let used = 0;
    for (let first = 0; first < count; first += COUNTERS) {
      const part = Math.min(COUNTERS, count - first);
      exports.refcount_unpack(this.#page.ptr, this.#order, first, part, this.#values.ptr);
      const base = this.#values.ptr / 4;
      for (let i = base; i < base + part * 2; i += 2)
        if (arena.u32[i] !== 0 || arena.u32[i + 1] !== 0) used++;
    }
    return used;
  }

  release(): void {
    this.#kernel.arena.release(this.#page);
    this.#kernel.arena.release(this.#values);
  }
}
