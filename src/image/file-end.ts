import type { Geometry } from '../format/geometry.ts';
import type { ClusterAllocator } from './allocator.ts';
import type { WriteBack } from './write-back.ts';

/**
 * Cuts off what is free at the end of an image file: refcount blocks there that count nothing but
 * themselves, too. Nothing may wait to be freed.
 */
export async function trimEnd(
  allocator: ClusterAllocator,
  writeBack: WriteBack,
  geometry: Geometry,
): Promise<void> {
  const { file } = writeBack;
  const { clusterSize, refcountBlockEntries } = geometry;
  const clusters = Math.ceil(file.size / clusterSize);
  let end = 0;
  for (let index = Math.ceil(clusters / refcountBlockEntries) - 1; index > 0; index--) {
    end = await usedEnd(allocator, index, geometry);
    if (end > 0) break;
    if ((await allocator.refcounts.blockOffset(index)) !== 0) await allocator.dropBlock(index);
  }
  if (end === 0) end = await usedEnd(allocator, 0, geometry);
  // Counters of what is cut off must not be looked for there.
  await writeBack.commitAll();
  await writeBack.barrier();
  if (end === 0 || end * clusterSize >= file.size) return;
  await file.truncate(end * clusterSize);
  await writeBack.barrier();
}

/** The cluster behind the last one in use that a refcount block counts, but for the block; 0: none. */
async function usedEnd(
  { refcounts }: ClusterAllocator,
  index: number,
  { refcountBlockEntries: perBlock, clusterSize }: Geometry,
): Promise<number> {
  const blockOffset = await refcounts.blockOffset(index);
  if (blockOffset === 0) return 0;
  const first = index * perBlock;
  let end = first + perBlock;
  let free = 0;
  const runs: [first: number, count: number][] = [];
  await refcounts.zeros(first, perBlock, (from, count) => {
    runs.push([from, count]);
    free += count;
  });
  if (free === perBlock) return 0;
  const own = blockOffset / clusterSize;
  if (free === perBlock - 1 && own >= first && own < first + perBlock) return 0;
  for (let i = runs.length - 1; i >= 0 && runs[i]![0] + runs[i]![1] === end; i--) end = runs[i]![0];
  return end;
}
