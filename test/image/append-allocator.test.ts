import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Geometry } from '../../src/format/geometry.ts';
import { getRefcount } from '../../src/format/refcount-entry.ts';
import {
  type AddedReferences,
  ALLOCATOR_SLOTS,
  AppendAllocator,
} from '../../src/image/append-allocator.ts';
import { layOutImage, type NewImageLayout } from '../../src/image/new-image.ts';
import { RefcountWriter } from '../../src/image/refcount-writer.ts';
import { createKernel } from '../../src/kernel/kernel.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';

/** One allocation: a stream's length as a part of a cluster, in 1/1000. */
type Step = { do: 'cluster' } | { do: 'table'; next: boolean } | { do: 'stream'; part: number };

const anyStep: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constant('cluster' as const) }),
  fc.record({ do: fc.constant('table' as const), next: fc.boolean() }),
  { weight: 4, arbitrary: fc.record({ do: fc.constant('stream' as const), part: fc.nat(999) }) },
);

/** Chunks of steps for an image of some shape. */
const anyRun = fc.record({
  clusterBits: fc.constantFrom(9, 9, 10, 12),
  refcountBits: fc.constantFrom(1, 2, 4, 8, 16, 32, 64),
  tinyStreams: fc.boolean(),
  chunks: fc.array(fc.array(anyStep, { maxLength: 60 }), { minLength: 1, maxLength: 8 }),
});

interface Handed {
  offset: number;
  length: number;
  kind: 'stream' | 'cluster';
}

/** Does the steps and tells what was handed out, chunk by chunk. */
function runSteps(geometry: Geometry, head: number, chunks: Step[][], tiny: boolean) {
  const state = new Float64Array(ALLOCATOR_SLOTS);
  AppendAllocator.initialise(state, head);
  const { clusterSize } = geometry;
  const handed: Handed[] = [];
  const added: AddedReferences[] = [];
  const lookUps: [number, number][] = [];
  let l1Index = 0;
  for (const steps of chunks) {
    // Each chunk may be another thread's: only the state is shared.
    const allocator = new AppendAllocator(state, geometry);
    allocator.begin();
    for (const step of steps) {
      if (step.do === 'cluster')
        handed.push({ offset: allocator.cluster(), length: clusterSize, kind: 'cluster' });
      else if (step.do === 'table') {
        if (step.next) l1Index++;
        lookUps.push([l1Index, allocator.table(l1Index)]);
      } else {
        const most = tiny ? 40 : clusterSize - 1;
        const length = 1 + Math.floor((step.part / 1000) * most);
        handed.push({ offset: allocator.stream(length), length, kind: 'stream' });
      }
    }
    added.push(structuredClone(allocator.added()));
  }
  const tables = new Map(lookUps);
  for (const [index, offset] of lookUps) expect(tables.get(index)).toBe(offset);
  for (const offset of tables.values())
    handed.push({ offset, length: clusterSize, kind: 'cluster' });
  return { handed, added, state };
}

/** Clusters of a sector-rounded range: each counts the range once (format section 8). */
function clustersOf({ offset, length }: Handed, clusterSize: number): number[] {
  const first = Math.floor(Math.floor(offset / 512) / (clusterSize / 512));
  const last = Math.floor(Math.floor((offset + length - 1) / 512) / (clusterSize / 512));
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

/** References by cluster, counted from what was handed out and from the layout alone. */
function naiveCounts(
  layout: NewImageLayout,
  handed: readonly Handed[],
  clusters: number,
): number[] {
  const { clusterSize, refcountBlockEntries } = layout.geometry;
  const counts = new Array<number>(clusters).fill(0);
  for (let i = 0; i < layout.headClusters; i++) counts[i] = 1;
  for (let block = layout.headBlocks; block * refcountBlockEntries < clusters; block++)
    counts[block * refcountBlockEntries] = 1;
  for (const range of handed)
    for (const cluster of clustersOf(range, clusterSize)) counts[cluster]!++;
  return counts;
}

function shape(clusterBits: number, refcountBits: number): NewImageLayout {
  return layOutImage({ size: 1 << 20, clusterSize: 2 ** clusterBits, refcountBits }, 20_000);
}

describe('AppendAllocator', () => {
  it('hands nothing out twice, and counts what it hands out', () => {
    fc.assert(
      fc.property(anyRun, ({ clusterBits, refcountBits, tinyStreams, chunks }) => {
        const layout = shape(clusterBits, refcountBits);
        const { geometry } = layout;
        const { clusterSize, refcountBlockEntries } = geometry;
        const { handed, added, state } = runSteps(
          geometry,
          layout.headClusters,
          chunks,
          tinyStreams,
        );
        const clusters = AppendAllocator.clusters(state);
        const counts = naiveCounts(layout, handed, clusters);

        const sorted = [...handed].sort((a, b) => a.offset - b.offset);
        let end = layout.headClusters * clusterSize;
        for (const { offset, length, kind } of sorted) {
          expect(offset).toBeGreaterThanOrEqual(end);
          if (kind === 'cluster') expect(offset % clusterSize).toBe(0);
          end = offset + length;
        }
        for (const range of handed)
          for (const cluster of clustersOf(range, clusterSize)) {
            const isBlock =
              cluster % refcountBlockEntries === 0 &&
              cluster / refcountBlockEntries >= layout.headBlocks;
            expect(isBlock).toBe(false);
          }
        expect(Math.max(...counts)).toBeLessThanOrEqual(2 ** Math.min(refcountBits, 53) - 1);

        const told = new Array<number>(clusters).fill(0).fill(1, 0, layout.headClusters);
        for (const { first, counts: more, open, more: joined } of added) {
          more.forEach((count, i) => {
            told[first + i]! += count;
          });
          if (joined > 0) told[open]! += joined;
        }
        expect(told).toEqual(counts);
        const fileEnd = AppendAllocator.end(state, clusterSize);
        expect(fileEnd).toBeGreaterThanOrEqual(Math.ceil(end / 512) * 512);
        expect(fileEnd).toBeLessThanOrEqual(clusters * clusterSize);
      }),
      { numRuns: 150 },
    );
  });

  it('packs streams densely while the counter lasts', () => {
    const { geometry } = shape(12, 2);
    const state = new Float64Array(ALLOCATOR_SLOTS);
    AppendAllocator.initialise(state, 10);
    const allocator = new AppendAllocator(state, geometry);
    allocator.begin();
    const offsets = Array.from({ length: 7 }, () => allocator.stream(100));
    expect(offsets).toEqual([40960, 41060, 41160, 45056, 45156, 45256, 49152]);
    expect(allocator.added().counts).toEqual([3, 3, 1]);
    // Into the next cluster, which counts it as well; then the counter of the first is full.
    const wide = new AppendAllocator(state, shape(12, 16).geometry);
    wide.begin();
    expect(wide.stream(4090)).toBe(49252);
    expect(wide.added()).toEqual({ first: 13, counts: [1], open: 12, more: 1 });
  });

  it('starts a new cluster where the next one is a refcount block', () => {
    const { geometry } = shape(9, 64);
    expect(geometry.refcountBlockEntries).toBe(64);
    const state = new Float64Array(ALLOCATOR_SLOTS);
    AppendAllocator.initialise(state, 63);
    const allocator = new AppendAllocator(state, geometry);
    allocator.begin();
    expect(allocator.stream(300)).toBe(63 * 512);
    expect(allocator.stream(300)).toBe(65 * 512);
    expect(allocator.added().counts).toEqual([1, 1, 1]);
  });
});

/** The counters of a written image, found through its refcount table. */
function storedCounts(bytes: Uint8Array, layout: NewImageLayout, clusters: number): number[] {
  const { refcountBlockEntries, refcountOrder, clusterSize } = layout.geometry;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Array.from({ length: clusters }, (_, cluster) => {
    const entry =
      layout.header.refcountTableOffset + Math.floor(cluster / refcountBlockEntries) * 8;
    const block = Number(view.getBigUint64(entry));
    if (block === 0) return 0;
    expect(block % clusterSize).toBe(0);
    const counters = bytes.subarray(block, block + clusterSize);
    return getRefcount(counters, cluster % refcountBlockEntries, refcountOrder);
  });
}

describe('RefcountWriter', () => {
  it('stores the counts a naive count gives, in whatever order the chunks are recorded', async () => {
    await fc.assert(
      fc.asyncProperty(anyRun, fc.infiniteStream(fc.nat()), async (run, dice) => {
        const layout = shape(run.clusterBits, run.refcountBits);
        const { handed, added, state } = runSteps(
          layout.geometry,
          layout.headClusters,
          run.chunks,
          run.tinyStreams,
        );
        const clusters = AppendAllocator.clusters(state);
        const storage = new MemoryStorage();
        const writer = new RefcountWriter(storage, layout, createKernel({ backend: 'js' }));
        const order = added.map((references) => ({ references, key: dice.next().value as number }));
        order.sort((a, b) => a.key - b.key);
        for (const { references } of order) await writer.add(references);
        await writer.head();
        await writer.flush();
        storage.truncate(Math.max(storage.size, clusters * layout.geometry.clusterSize));
        expect(storedCounts(storage.bytes, layout, clusters)).toEqual(
          naiveCounts(layout, handed, clusters),
        );
      }),
      { numRuns: 60 },
    );
  });

  for (const refcountBits of [1, 2, 4, 8]) {
    it(`refuses a count that ${refcountBits} bits cannot hold`, async () => {
      const layout = shape(9, refcountBits);
      const writer = new RefcountWriter(new MemoryStorage(), layout, createKernel());
      const most = 2 ** refcountBits - 1;
      const references = { first: 50, counts: [most], open: 0, more: 0 };
      await writer.add(references);
      const one = { first: 0, counts: [], open: 50, more: 1 };
      await expect(writer.add(one)).rejects.toMatchObject({ code: 'TOO_LARGE' });
    });
  }

  it('refuses clusters the table has no room for', async () => {
    const layout = layOutImage({ size: 0, clusterSize: 512, refcountBits: 64 }, 0);
    const writer = new RefcountWriter(new MemoryStorage(), layout, createKernel());
    const references = { first: 64 * 64, counts: [1, 1], open: 0, more: 0 };
    await expect(writer.add(references).then(() => writer.flush())).rejects.toMatchObject({
      code: 'TOO_LARGE',
      details: { structure: 'refcount table' },
    });
  });
});
