import { writeL2Normal } from '../format/l2-entry.ts';
import type { Storage } from '../storage/storage.ts';
import { AppendAllocator } from './append-allocator.ts';
import type { Preallocation } from './new-image.ts';
import type { NewImageFile } from './new-image-file.ts';

const ZERO_BYTES = 1 << 20;

/**
 * Maps the whole disk ahead, in guest order (format sections 11 and 16): every L2 table and behind it
 * its clusters, or the clusters of the external data file. One table is in memory at a time.
 */
export async function preallocateTables(file: NewImageFile, hasDataFile: boolean): Promise<void> {
  const { geometry, header } = file.layout;
  const { clusterSize, l2Coverage, l2EntrySize } = geometry;
  const allocator = new AppendAllocator(file.allocatorState, geometry);
  const entries = new Uint8Array(clusterSize);
  const view = new DataView(entries.buffer);
  for (let index = 0; index < header.l1Size; index++) {
    const base = index * l2Coverage;
    const count = Math.ceil(Math.min(l2Coverage, header.size - base) / clusterSize);
    entries.fill(0);
    allocator.begin();
    const offset = allocator.table(index);
    for (let i = 0; i < count; i++) {
      const host = hasDataFile ? base + i * clusterSize : allocator.cluster();
      writeL2Normal(view, i * l2EntrySize, host, true);
    }
    const tables = [{ l1Index: index, offset, first: 0, entries }];
    await file.record({ references: allocator.added(), tables });
  }
  await file.writeTables();
}

/** Reserves or fills `[start, end)` of a new file, which reads as zeros before and after. */
export async function preallocateSpace(
  storage: Storage,
  start: number,
  end: number,
  how: Preallocation | undefined,
): Promise<void> {
  if (end <= start) return;
  if (how === 'falloc' && storage.allocate) await storage.allocate(start, end - start);
  else if (how === 'falloc' || how === 'full') {
    const zeros = new Uint8Array(Math.min(ZERO_BYTES, end - start));
    for (let at = start; at < end; at += zeros.length)
      await storage.write!(at, zeros.subarray(0, end - at));
  }
}
