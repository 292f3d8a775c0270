import { writeL1 } from '../format/l1-entry.ts';
import { writeL2Normal, writeL2ZeroPlain, writeSubclusterBitmap } from '../format/l2-entry.ts';
import { writeRefcountTableEntry } from '../format/refcount-entry.ts';
import { AllocationMap } from '../image/allocation-map.ts';
import {
  headerCluster,
  layOutImage,
  type NewImageLayout,
  type NewImageOptions,
} from '../image/new-image.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Source } from './chunks.ts';
import {
  PIECE_BYTES,
  type Piece,
  type PlannedStream,
  type StreamSteps,
  wholeClusters,
} from './stream-parts.ts';

/** How zeros become a qcow2 image that is streamed. */
export interface PlainRules {
  /** `mapped`: as the source says; `found`: data is read and searched, too; `stored`: none is left out. */
  zeros: 'mapped' | 'found' | 'stored';
  hasBacking: boolean;
  /** What the source leaves to its backing file is left to the target's. */
  leavesToBacking: boolean;
}

/** Clusters of the new disk: those that get an entry, and of those the ones that are stored. */
interface Clusters {
  entries: AllocationMap;
  stored: AllocationMap;
}

/**
 * Plans an uncompressed image: all metadata first, then the clusters in the order of the disk, so that
 * readers that only go forward can use it. What is stored is known from the source's map alone, or
 * with `found` after reading the disk once; a bit for each cluster is remembered.
 * @throws Qcow2Error INVALID_ARGUMENT, TOO_LARGE, and those of mapping (and reading) the source
 */
export async function planPlain(
  source: Source,
  create: NewImageOptions,
  rules: PlainRules,
  kernel: Kernel,
  steps: StreamSteps,
): Promise<PlannedStream> {
  const { geometry, header } = layOutImage(create, 0);
  const { clusterSize } = geometry;
  const clusters = await mapClusters(source, Math.ceil(header.size / clusterSize), clusterSize, {
    hasBacking: rules.hasBacking,
    leavesToBacking: rules.leavesToBacking,
    // Version 2 has no zero flag: only stored zeros hide a backing file.
    dense: rules.zeros === 'stored' || (rules.hasBacking && header.version === 2),
    pause: steps.pause,
  });
  if (rules.zeros === 'found') {
    if (clusters.stored !== clusters.entries || !rules.hasBacking)
      await dropZeros(source, clusters.stored, clusterSize, kernel, steps);
    steps.passed(source.size);
  }
  const tables = l2Tables(clusters.entries, geometry.l2Entries);
  // The head counts all there is: the image ends with it.
  const layout = layOutImage(create, 0, tables.length + clusters.stored.count());
  return {
    length: layout.headClusters * geometry.clusterSize,
    async *pieces() {
      yield* metadata(layout, tables, clusters, kernel);
      yield* data(source, clusters.stored, geometry.clusterSize, steps);
      await steps.reached(source.size);
    },
  };
}

interface MapRules {
  hasBacking: boolean;
  leavesToBacking: boolean;
  /** Every cluster with an entry is stored. */
  dense: boolean;
  pause: () => void | Promise<void>;
}

async function mapClusters(
  source: Source,
  length: number,
  clusterSize: number,
  { hasBacking, leavesToBacking, dense, pause }: MapRules,
): Promise<Clusters> {
  const data = new AllocationMap(length);
  const own = new AllocationMap(hasBacking ? length : 0);
  await source.eachRun((from, to, isData, isLeft) => {
    const first = Math.floor(from / clusterSize);
    const end = Math.ceil(to / clusterSize);
    if (isData) data.fill(first, end);
    if (leavesToBacking && !isLeft) own.fill(first, end);
  }, pause);
  if (!hasBacking) {
    if (dense) data.fill(0, length);
    return { entries: data, stored: data };
  }
  if (!leavesToBacking) own.fill(0, length);
  if (dense) return { entries: own, stored: own };
  for (let from = own.next(0, false); from < length; ) {
    const to = own.next(from, true);
    data.fill(from, to, false);
    from = own.next(to, false);
  }
  return { entries: own, stored: data };
}

/** Reads what is to be stored, and takes clusters of zeros out. */
async function dropZeros(
  source: Source,
  stored: AllocationMap,
  clusterSize: number,
  kernel: Kernel,
  steps: StreamSteps,
): Promise<void> {
  const room = Math.max(1, PIECE_BYTES / clusterSize);
  const chunk = kernel.arena.allocate(room * clusterSize);
  const bitmap = kernel.arena.allocate(Math.ceil(room / 8) + 4);
  try {
    for (let from = stored.next(0); from < stored.length; from = stored.next(from)) {
      const to = Math.min(stored.next(from, false), from + room);
      const length = (to - from) * clusterSize;
      await steps.reached(from * clusterSize);
      await source.read(from * clusterSize, chunk.bytes.subarray(0, length));
      const unitBits = Math.log2(clusterSize);
      kernel.exports.nonzero_bitmap(chunk.ptr, length, unitBits, bitmap.ptr);
      const bits = bitmap.bytes;
      for (let k = 0; k < to - from; k++)
        if (((bits[k >> 3]! >> (k & 7)) & 1) === 0) stored.fill(from + k, from + k + 1, false);
      from = to;
    }
  } finally {
    kernel.arena.release(chunk);
    kernel.arena.release(bitmap);
  }
}

/** L1 indices of the tables that are needed, ascending. */
function l2Tables(entries: AllocationMap, perTable: number): number[] {
  const tables: number[] = [];
  for (let at = entries.next(0); at < entries.length; ) {
    const index = Math.floor(at / perTable);
    tables.push(index);
    at = entries.next((index + 1) * perTable);
  }
  return tables;
}

/** Header, refcount table and blocks, L1 table, L2 tables. */
async function* metadata(
  layout: NewImageLayout,
  tables: readonly number[],
  clusters: Clusters,
  kernel: Kernel,
): AsyncGenerator<Piece, void, undefined> {
  const { geometry, header, headBlocks } = layout;
  const { clusterSize } = geometry;
  yield wholeClusters(headerCluster(layout), geometry);
  const refcounts = new Uint8Array(header.refcountTableClusters * clusterSize);
  const firstBlock = header.refcountTableOffset + refcounts.length;
  const view = new DataView(refcounts.buffer);
  for (let k = 0; k < headBlocks; k++)
    writeRefcountTableEntry(view, k * 8, firstBlock + k * clusterSize);
  yield refcounts;
  yield* refcountBlocks(layout, kernel);
  const l1 = wholeClusters(new Uint8Array(header.l1Size * 8), geometry);
  const l1View = new DataView(l1.buffer);
  const dataStart = layout.reservedOffset + tables.length * clusterSize;
  tables.forEach((index, k) => {
    writeL1(l1View, index * 8, layout.reservedOffset + k * clusterSize, true);
  });
  yield l1;
  yield* l2Pieces(layout, tables, clusters, dataStart);
}

/** Each cluster is counted once. */
function* refcountBlocks(
  { geometry, headBlocks, headClusters }: NewImageLayout,
  kernel: Kernel,
): Generator<Piece, void, undefined> {
  const { clusterSize, refcountBlockEntries: perBlock, refcountOrder } = geometry;
  const block = kernel.arena.allocate(clusterSize);
  try {
    for (let k = 0; k < headBlocks; k++) {
      block.bytes.fill(0);
      const used = Math.min(perBlock, headClusters - k * perBlock);
      kernel.exports.refcount_fill(block.ptr, refcountOrder, 0, used, 1);
      yield block.bytes.slice();
    }
  } finally {
    kernel.arena.release(block);
  }
}

function* l2Pieces(
  { geometry }: NewImageLayout,
  tables: readonly number[],
  { entries, stored }: Clusters,
  dataStart: number,
): Generator<Piece, void, undefined> {
  const { clusterSize, l2Entries, l2EntrySize, extendedL2 } = geometry;
  let host = dataStart;
  for (const index of tables) {
    const table = new Uint8Array(clusterSize);
    const view = new DataView(table.buffer);
    const base = index * l2Entries;
    const end = Math.min(base + l2Entries, entries.length);
    for (let k = entries.next(base); k < end; k = entries.next(k + 1)) {
      const at = (k - base) * l2EntrySize;
      const isStored = stored.has(k);
      if (isStored) writeL2Normal(view, at, host, true);
      else if (!extendedL2) writeL2ZeroPlain(view, at);
      if (extendedL2) writeSubclusterBitmap(view, at, isStored ? ALL : 0, isStored ? 0 : ALL);
      if (isStored) host += clusterSize;
    }
    yield table;
  }
}

/** All 32 subclusters. */
const ALL = 0xffffffff;

/** The clusters that are stored, in the order of the disk. */
async function* data(
  source: Source,
  stored: AllocationMap,
  clusterSize: number,
  steps: StreamSteps,
): AsyncGenerator<Piece, void, undefined> {
  let left = stored.count() * clusterSize;
  const nextPiece = () => steps.newPiece(Math.min(left, Math.max(PIECE_BYTES, clusterSize)));
  let piece = nextPiece();
  let filled = 0;
  for (let from = stored.next(0); from < stored.length; from = stored.next(from)) {
    const most = from + (piece.length - filled) / clusterSize;
    const to = Math.min(stored.next(from, false), most);
    const length = (to - from) * clusterSize;
    await source.read(from * clusterSize, piece.subarray(filled, filled + length));
    filled += length;
    from = to;
    if (filled < piece.length) continue;
    await steps.reached(to * clusterSize);
    yield piece;
    left -= filled;
    piece = nextPiece();
    filled = 0;
  }
}
