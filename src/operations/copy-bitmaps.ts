import { Qcow2Error } from '../errors.ts';
import {
  BITMAP_AUTO,
  BITMAP_IN_USE,
  BITMAP_TYPE_DIRTY,
  type BitmapDirectoryEntry,
  type BitmapsPointer,
  bitmapEntryBytes,
  encodeBitmapDirectory,
} from '../format/bitmap-directory.ts';
import {
  bitmapBits,
  bitmapTableNeeded,
  clearBitsFrom,
  validateBitmapTableSize,
} from '../format/bitmap-table.ts';
import { clustersFor, type Geometry } from '../format/geometry.ts';
import { AppendAllocator } from '../image/append-allocator.ts';
import { BitmapReader } from '../image/bitmap-reader.ts';
import type { Image } from '../image/image.ts';
import type { NewImageFile } from '../image/new-image-file.ts';
import type { Storage } from '../storage/storage.ts';

/** What to do with the persistent dirty bitmaps of the source. */
export interface BitmapCopying {
  /** Leave out bitmaps that were not closed properly, instead of refusing the conversion. */
  skipBroken?: boolean;
  /** Told the name of each bitmap that is left out. */
  onSkipped?: (name: string) => void;
}

/** Bitmaps that go into a new image, and the clusters they take there at most. */
export interface BitmapsToCopy {
  readonly image: Image;
  readonly entries: readonly BitmapDirectoryEntry[];
  /** Bytes of the new directory. */
  readonly directoryBytes: number;
  /** Clusters of the new tables, in directory order, and of the directory. */
  readonly tableClusters: readonly number[];
  readonly directoryClusters: number;
  readonly dataClusters: number;
}

/**
 * Picks what to copy, before anything is written.
 * @param diskSize of the new image, in bytes
 * @throws Qcow2Error UNSUPPORTED: one of the images cannot have bitmaps; INVALID_ARGUMENT: several
 *   sources, or disks of different sizes; REFUSED: a bitmap cannot be trusted; those of reading them
 */
export async function bitmapsToCopy(
  images: readonly Image[],
  diskSize: number,
  geometry: Geometry,
  { skipBroken, onSkipped }: BitmapCopying,
): Promise<BitmapsToCopy> {
  const image = soleSource(images);
  const { virtualSize } = image.metadata!;
  const entries: BitmapDirectoryEntry[] = [];
  const all = await image.bitmaps();
  // From the last to the first, as qemu-img tells them.
  for (const entry of all.toReversed()) {
    if (isConsistent(entry)) entries.unshift(entry);
    else if (skipBroken) onSkipped?.(entry.name.text);
    else throw inconsistent(entry.name.text);
  }
  if (entries.length > 0 && virtualSize !== diskSize) {
    const text = `bitmaps of a disk of ${virtualSize} bytes cannot be copied to one of ${diskSize} bytes`;
    throw new Qcow2Error('INVALID_ARGUMENT', text, { structure: 'bitmap directory' });
  }
  await requireOwnClusters(image, entries);
  const { clusterSize } = geometry;
  const needed = entries.map((e) => bitmapTableNeeded(diskSize, e.granularityBits, geometry));
  const directory = entries.map((entry) => bitmapEntryBytes(newEntry(entry, 0, 0)));
  const directoryBytes = directory.reduce((sum, bytes) => sum + bytes, 0);
  return {
    image,
    entries,
    directoryBytes,
    tableClusters: needed.map((table) => Math.ceil((table * 8) / clusterSize)),
    directoryClusters: Math.ceil(directoryBytes / clusterSize),
    dataClusters: needed.reduce((sum, table) => sum + table, 0),
  };
}

function soleSource(images: readonly Image[]): Image {
  const [image] = images;
  if (image === undefined || images.length > 1)
    throw new Qcow2Error('INVALID_ARGUMENT', 'Copying bitmaps only possible with single source');
  if (image.metadata === undefined || image.metadata.header.version < 3)
    throw new Qcow2Error('UNSUPPORTED', 'Source lacks bitmap support', {
      file: image.storage.name ?? '',
    });
  return image;
}

/** Extra data would have to be understood to be kept. */
function isConsistent({ flags, extraData }: BitmapDirectoryEntry): boolean {
  return (flags & BITMAP_IN_USE) === 0 && extraData.length === 0;
}

function inconsistent(name: string): Qcow2Error {
  const text = `Cannot copy inconsistent bitmap '${name}'; try --skip-broken-bitmaps, or use 'qemu-img bitmap --remove' to delete it`;
  return new Qcow2Error('REFUSED', text, { structure: 'bitmap directory', value: name });
}

/** The entry of a copy. */
function newEntry(
  { flags, granularityBits, name }: BitmapDirectoryEntry,
  bitmapTableOffset: number,
  bitmapTableSize: number,
): BitmapDirectoryEntry {
  return {
    bitmapTableOffset,
    bitmapTableSize,
    flags: flags & BITMAP_AUTO,
    type: BITMAP_TYPE_DIRTY,
    granularityBits,
    extraData: new Uint8Array(0),
    name,
  };
}

/**
 * Each table and each data cluster belongs to one bitmap (format section 6): otherwise a small file
 * could make a copy of any length.
 */
async function requireOwnClusters(
  image: Image,
  entries: readonly BitmapDirectoryEntry[],
): Promise<void> {
  const { geometry, virtualSize } = image.metadata!;
  const { storage } = image;
  const most = clustersFor(storage.size, geometry);
  let tables = 0;
  let data = 0;
  for (const entry of entries) {
    validateBitmapTableSize(entry, virtualSize, geometry);
    tables += Math.ceil((entry.bitmapTableSize * 8) / geometry.clusterSize);
    if (tables > most) break;
    const table = await BitmapReader.open(storage, entry, geometry);
    data += table.dataClusters;
  }
  if (tables <= most && data <= most) return;
  const text = `bitmaps of '${storage.name}' take more clusters than the ${most} of the file; some are shared, it is damaged`;
  throw new Qcow2Error('MALFORMED', text, { structure: 'bitmap table' });
}

/** Where copies of bitmaps go. */
export interface BitmapSink {
  readonly geometry: Geometry;
  /** Of the image they go to, in bytes. */
  readonly diskSize: number;
  /** Host offset of the next table, which takes so many clusters. */
  table(clusters: number): number | Promise<number>;
  /** Host offset of a new cluster, counted. */
  cluster(): Promise<number>;
  write(offset: number, bytes: Uint8Array): void | Promise<void>;
}

/**
 * Writes the bitmaps of a new image: tables and directory to the clusters reserved in the head, data
 * behind what the file holds so far.
 * @param step called between clusters
 * @returns what the header is to say; undefined if there are none
 */
export async function copyBitmaps(
  bitmaps: BitmapsToCopy,
  file: NewImageFile,
  storage: Storage,
  step: () => void | Promise<void>,
): Promise<Omit<BitmapsPointer, 'reserved'> | undefined> {
  if (bitmaps.entries.length === 0) return undefined;
  const { geometry, reservedOffset, header } = file.layout;
  const { clusterSize } = geometry;
  const allocator = new AppendAllocator(file.allocatorState, geometry);
  let offset = reservedOffset;
  const sink: BitmapSink = {
    geometry,
    diskSize: header.size,
    table(clusters) {
      const at = offset;
      offset += clusters * clusterSize;
      return at;
    },
    async cluster() {
      allocator.begin();
      const host = allocator.cluster();
      await file.record({ references: allocator.added(), tables: [] });
      return host;
    },
    write: (at, bytes) => storage.write!(at, bytes),
  };
  const directory = await copyBitmapsTo(sink, bitmaps, step);
  const bytes = new Uint8Array(bitmaps.directoryClusters * clusterSize);
  bytes.set(encodeBitmapDirectory(directory));
  await storage.write!(offset, bytes);
  return {
    nbBitmaps: directory.length,
    bitmapDirectorySize: bitmaps.directoryBytes,
    bitmapDirectoryOffset: offset,
  };
}

/** Writes data and tables of the bitmaps; returns their entries of a directory. */
export async function copyBitmapsTo(
  sink: BitmapSink,
  { image, entries, tableClusters }: BitmapsToCopy,
  step: () => void | Promise<void>,
): Promise<BitmapDirectoryEntry[]> {
  const { geometry, diskSize } = sink;
  const directory: BitmapDirectoryEntry[] = [];
  for (const [index, entry] of entries.entries()) {
    const source = await BitmapReader.open(image.storage, entry, image.metadata!.geometry);
    const bits = bitmapBits(diskSize, entry.granularityBits);
    const table = new Uint8Array(tableClusters[index]! * geometry.clusterSize);
    const used = bitmapTableNeeded(diskSize, entry.granularityBits, geometry);
    const offset = await sink.table(tableClusters[index]!);
    await copyData(source, bits, new DataView(table.buffer, 0, used * 8), sink, step);
    await sink.write(offset, table);
    directory.push(newEntry(entry, offset, used));
  }
  return directory;
}

/** Copies the clusters of a bitmap that have a bit set, and enters them in its table. */
async function copyData(
  source: BitmapReader,
  bits: number,
  table: DataView,
  sink: BitmapSink,
  step: () => void | Promise<void>,
): Promise<void> {
  const { clusterSize } = sink.geometry;
  const cluster = new Uint8Array(clusterSize);
  const words = new Uint32Array(cluster.buffer);
  for (let at = 0; at < table.byteLength; at += 8) {
    await step();
    const first = (at / 8) * clusterSize;
    if (!(await source.read(first, cluster))) continue;
    // Bits behind the end of the disk stand for nothing; a copy has none of them set.
    clearBitsFrom(cluster, bits - first * 8);
    if (words.every((word) => word === 0)) continue;
    const host = await sink.cluster();
    await sink.write(host, cluster);
    table.setBigUint64(at, BigInt(host));
  }
}
