import { writeL2Normal, writeL2ZeroAllocated, writeSubclusterBitmap } from '../format/l2-entry.ts';
import type { Extent, Storage } from '../storage/storage.ts';
import { AppendAllocator } from './append-allocator.ts';
import type { Preallocation } from './new-image.ts';
import type { NewImageFile } from './new-image-file.ts';

const ZERO_BYTES = 1 << 20;
/** Space reserved at once. */
const ALLOCATE_BYTES = 2 ** 28;

/** Called between pieces of the work; throws to end it. */
export type Step = () => void | Promise<void>;

/**
 * Maps the whole disk ahead, in guest order (format sections 11 and 16): every L2 table and behind it
 * its clusters, or the clusters of the external data file. One table is in memory at a time.
 */
export function preallocateTables(
  file: NewImageFile,
  hasDataFile: boolean,
  step: Step,
): Promise<void> {
  const { clusterSize, l2EntrySize } = file.layout.geometry;
  return mapAhead(file, step, (view, base, entries, allocator) => {
    for (let i = 0; i < entries; i++) {
      const host = hasDataFile ? base + i * clusterSize : allocator.cluster();
      writeL2Normal(view, i * l2EntrySize, host, true);
    }
  });
}

/**
 * Maps the whole disk onto a data file that holds data already: each cluster to its own place, those
 * that are holes with the zero flag.
 */
export function adoptTables(file: NewImageFile, data: Storage, step: Step): Promise<void> {
  const { clusterSize, l2EntrySize, extendedL2, subclusterSize } = file.layout.geometry;
  return mapAhead(file, step, async (view, base, entries) => {
    const holdsData = await unitsWithData(data, base, entries * clusterSize, subclusterSize);
    for (let i = 0; i < entries; i++) {
      const host = base + i * clusterSize;
      const at = i * l2EntrySize;
      if (extendedL2) {
        let allocated = 0;
        for (let k = 0; k < 32; k++) allocated |= holdsData[i * 32 + k]! << k;
        writeL2Normal(view, at, host, true);
        writeSubclusterBitmap(view, at, allocated, ~allocated);
      } else if (holdsData[i] === 1) writeL2Normal(view, at, host, true);
      else writeL2ZeroAllocated(view, at, host, true);
    }
  });
}

/** Which units of `[start, start + length)` may hold data, 1 or 0 for each: all but whole holes. */
async function unitsWithData(
  data: Storage,
  start: number,
  length: number,
  unit: number,
): Promise<Uint8Array> {
  const units = new Uint8Array(length / unit);
  const end = Math.min(start + length, data.size);
  units.fill(1, 0, Math.max(0, Math.ceil((end - start) / unit)));
  for (let at = start; at < end; ) {
    const told: Extent[] = (await data.extents?.(at, end - at)) ?? [];
    for (const extent of told) {
      if (extent.data) continue;
      const from = Math.max(start, extent.offset);
      const holeEnd = extent.offset + extent.length;
      // Behind the end of the file is a hole as well.
      const to = holeEnd >= data.size ? start + length : holeEnd;
      units.fill(0, Math.ceil((from - start) / unit), Math.floor((to - start) / unit));
    }
    const last = told.at(-1);
    const reached = last === undefined ? at : last.offset + last.length;
    if (reached <= at) break;
    at = reached;
  }
  return units;
}

/**
 * Fills the L2 table of the `entries` clusters from guest offset `base` on; `view` is all zeros.
 * Clusters come from `allocator`.
 */
type FillTable = (
  view: DataView,
  base: number,
  entries: number,
  allocator: AppendAllocator,
) => void | Promise<void>;

/** Allocates, fills and writes every L2 table of a new image. */
async function mapAhead(file: NewImageFile, step: Step, fill: FillTable): Promise<void> {
  const { geometry, header } = file.layout;
  const { clusterSize, l2Coverage } = geometry;
  const allocator = new AppendAllocator(file.allocatorState, geometry);
  const entries = new Uint8Array(clusterSize);
  const view = new DataView(entries.buffer);
  for (let index = 0; index < header.l1Size; index++) {
    await step();
    const base = index * l2Coverage;
    const count = Math.ceil(Math.min(l2Coverage, header.size - base) / clusterSize);
    entries.fill(0);
    allocator.begin();
    const offset = allocator.table(index);
    await fill(view, base, count, allocator);
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
  step: Step,
): Promise<void> {
  if (end <= start || (how !== 'falloc' && how !== 'full')) return;
  const reserves = how === 'falloc' && storage.allocate !== undefined;
  const piece = reserves ? ALLOCATE_BYTES : ZERO_BYTES;
  const zeros = new Uint8Array(reserves ? 0 : Math.min(ZERO_BYTES, end - start));
  for (let at = start; at < end; at += piece) {
    await step();
    const length = Math.min(piece, end - at);
    if (reserves) await storage.allocate!(at, length);
    else await storage.write!(at, zeros.subarray(0, length));
  }
}
