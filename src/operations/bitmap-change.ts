import { isQcow2Error } from '../errors.ts';
import { type BitmapDirectoryEntry, encodeBitmapDirectory } from '../format/bitmap-directory.ts';
import {
  addBits,
  bitmapBits,
  bitmapClusterCoverage,
  bitmapTableNeeded,
  clearBitsFrom,
  dirtyRanges,
  markDirty,
} from '../format/bitmap-table.ts';
import { AUTOCLEAR_BITMAPS } from '../format/feature-bits.ts';
import { viewOf, writeNumber64 } from '../format/fields.ts';
import { bitmapsExtension, findExtension } from '../format/header-extensions.ts';
import { BitmapReader } from '../image/bitmap-reader.ts';
import type { WritableQcow2 } from '../image/writable-qcow2.ts';
import { orUndo, place, remove, type Undo } from './structures.ts';

/** Bytes of another bitmap that are looked at at once. */
const PIECE_BYTES = 65536;

/**
 * Gives an image another bitmap directory (format sections 13 and 17): what is new is written to free
 * clusters and durable before the header leads to it, and what it replaces is freed last. At any cut the
 * image has the bitmaps it had or those it was to have.
 * @param make the new entries: those of `disk.bitmaps`, or others whose tables it has placed
 */
export async function changeBitmaps(
  disk: WritableQcow2,
  make: (undo: Undo[]) => Promise<readonly BitmapDirectoryEntry[]>,
): Promise<void> {
  const { writeBack, header, bitmaps, allocator } = disk;
  const { extensions } = header.metadata;
  const old = bitmaps.entries;
  const oldDirectory = findExtension(extensions, 'bitmaps')?.pointer;
  await disk.settle();
  await bitmaps.fold(allocator);
  const { entries, offset } = await orUndo(disk, async (undo) => {
    const made = await make(undo);
    const bytes = encodeBitmapDirectory(made.map((entry) => bitmaps.asStored(entry)));
    const at = await place(disk, 'bitmap directory', bytes, undo);
    await writeBack.commitAll();
    await writeBack.barrier();
    const kept = extensions.filter(({ kind }) => kind !== 'bitmaps');
    const pointer = {
      nbBitmaps: made.length,
      bitmapDirectorySize: bytes.length,
      bitmapDirectoryOffset: at,
    };
    const { autoclearFeatures } = header.header;
    if (made.length > 0) {
      const inSync = { autoclearFeatures: autoclearFeatures | AUTOCLEAR_BITMAPS };
      await header.rewrite(inSync, [...kept, bitmapsExtension(pointer)]);
    } else
      await header.rewrite({ autoclearFeatures: autoclearFeatures & ~AUTOCLEAR_BITMAPS }, kept);
    return { entries: made, offset: at };
  });
  bitmaps.replaced(entries, offset);
  const byName = new Map(entries.map((entry) => [entry.name, entry]));
  for (const entry of old) {
    const now = byName.get(entry.name);
    if (now?.bitmapTableOffset !== entry.bitmapTableOffset) await freeTable(disk, entry, now);
  }
  if (oldDirectory !== undefined && old.length > 0) {
    const { bitmapDirectoryOffset, bitmapDirectorySize } = oldDirectory;
    await remove(disk, 'bitmap directory', bitmapDirectoryOffset, bitmapDirectorySize);
  }
  await disk.settle();
}

/** An entry with a new table of which nothing is set. */
export async function newTable(
  disk: WritableQcow2,
  entry: BitmapDirectoryEntry,
  undo: Undo[],
): Promise<BitmapDirectoryEntry> {
  const { geometry, virtualSize } = disk.header.metadata;
  const bitmapTableSize = bitmapTableNeeded(virtualSize, entry.granularityBits, geometry);
  const table = new Uint8Array(bitmapTableSize * 8);
  const bitmapTableOffset = await place(disk, 'bitmap table', table, undo);
  return { ...entry, bitmapTableOffset, bitmapTableSize };
}

/** A bitmap whose bits are added to another one. */
export interface AddedBitmap {
  readonly reader: BitmapReader;
  readonly granularityBits: number;
}

/** Part of a disk that one cluster of a bitmap covers, in bytes. */
interface Covered {
  readonly start: number;
  readonly end: number;
  readonly diskSize: number;
}

/**
 * An entry with a new table: the clusters of the old one where nothing is added, and new ones with the
 * bits of both. Memory: the tables, and a few clusters.
 */
export async function mergedTable(
  disk: WritableQcow2,
  entry: BitmapDirectoryEntry,
  added: AddedBitmap,
  undo: Undo[],
): Promise<BitmapDirectoryEntry> {
  const { allocator, writeBack, header } = disk;
  const { geometry, virtualSize: diskSize } = header.metadata;
  const { clusterSize } = geometry;
  const { file } = writeBack;
  const old = await BitmapReader.open(file.storage, entry, geometry);
  const table = new Uint8Array(old.entries * 8);
  await file.storage.read(entry.bitmapTableOffset, table);
  const merged = new BitmapReader(file.storage, geometry, table);
  undo.push(() => freeData(disk, merged, old));
  const coverage = bitmapClusterCoverage(entry.granularityBits, geometry);
  const [bits, before] = [new Uint8Array(clusterSize), new Uint8Array(clusterSize)];
  const piece = new Uint8Array(PIECE_BYTES);
  for (let index = 0; index < old.entries; index++) {
    if (old.entry(index).kind === 'ones') continue;
    const start = index * coverage;
    const covered = { start, end: Math.min(start + coverage, diskSize), diskSize };
    bits.fill(0);
    if (!(await collect(added, covered, entry.granularityBits, bits, piece))) continue;
    if (await old.read(index * clusterSize, before)) addBits(bits, before);
    clearBitsFrom(bits, bitmapBits(diskSize - start, entry.granularityBits));
    const offset = await allocator.allocateClusters(1);
    writeNumber64(viewOf(table), index * 8, offset);
    await file.write(offset, bits);
  }
  const bitmapTableOffset = await place(disk, 'bitmap table', table, undo);
  return { ...entry, bitmapTableOffset };
}

/**
 * Sets bits of a cluster of one bitmap, of zeros, for what another one has set in the same part of the
 * disk. Returns whether there was any.
 */
async function collect(
  { reader, granularityBits }: AddedBitmap,
  { start, end, diskSize }: Covered,
  wanted: number,
  bits: Uint8Array,
  pieces: Uint8Array,
): Promise<boolean> {
  const perByte = 8 * 2 ** granularityBits;
  const last = Math.ceil(end / perByte);
  let isAdded = false;
  for (let byte = Math.floor(start / perByte); byte < last; byte += pieces.length) {
    const piece = pieces.subarray(0, Math.min(pieces.length, last - byte));
    if (!(await reader.read(byte, piece))) continue;
    const from = byte * perByte;
    if (granularityBits === wanted) {
      if (addBits(bits.subarray((from - start) / perByte), piece)) isAdded = true;
      continue;
    }
    for (const range of dirtyRanges(piece, granularityBits, diskSize, from)) {
      if (range.offset >= end || range.offset + range.length <= start) continue;
      markDirty(bits, wanted, range, start);
      isAdded = true;
    }
  }
  return isAdded;
}

/** Frees the table of a bitmap that is gone or has another one, and the clusters only it names. */
async function freeTable(
  disk: WritableQcow2,
  entry: BitmapDirectoryEntry,
  now: BitmapDirectoryEntry | undefined,
): Promise<void> {
  const { file } = disk.writeBack;
  const { geometry } = disk.header.metadata;
  const { bitmapTableOffset: offset, bitmapTableSize } = entry;
  try {
    const table = await BitmapReader.open(file.storage, entry, geometry);
    await freeData(disk, table, now && (await BitmapReader.open(file.storage, now, geometry)));
  } catch (error) {
    // Where a table that is damaged leads to is not known: it leaks.
    if (!isQcow2Error(error) || !['MALFORMED', 'TRUNCATED'].includes(error.code)) throw error;
  }
  const length = bitmapTableSize * 8;
  await disk.writeBack.requireNoOverlap(offset, length, 'a freed bitmap table', 'bitmap table');
  await remove(disk, 'bitmap table', offset, length);
}

/** Frees the data clusters of a table but those another one has at the same places. */
async function freeData(
  disk: WritableQcow2,
  table: BitmapReader,
  other: BitmapReader | undefined,
): Promise<void> {
  const { clusterSize } = disk.header.metadata.geometry;
  const run = { offset: 0, clusters: 0 };
  const release = async (): Promise<void> => {
    if (run.clusters === 0) return;
    const length = run.clusters * clusterSize;
    await disk.writeBack.requireNoOverlap(run.offset, length, 'freed bitmap data');
    await disk.releaseClusters(run.offset, run.clusters);
  };
  for (let index = 0; index < table.entries; index++) {
    const offset = dataAt(table, index);
    if (offset === 0 || (other !== undefined && dataAt(other, index) === offset)) continue;
    if (run.offset + run.clusters * clusterSize !== offset) {
      await release();
      Object.assign(run, { offset, clusters: 0 });
    }
    run.clusters++;
  }
  await release();
}

/** Host offset of the data of a table entry; 0 if it has none. */
function dataAt(table: BitmapReader, index: number): number {
  if (index >= table.entries) return 0;
  const entry = table.entry(index);
  return entry.kind === 'data' ? entry.hostOffset : 0;
}
