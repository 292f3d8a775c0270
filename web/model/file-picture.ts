import { hex, Qcow2Error } from '../../src/errors.ts';
import {
  compressedClusters,
  decodeCompressedDescriptor,
} from '../../src/format/compressed-descriptor.ts';
import { align8 } from '../../src/format/fields.ts';
import { findExtension } from '../../src/format/header-extensions.ts';
import { MAX_L1_ENTRIES } from '../../src/format/limits.ts';
import { snapshotBytes } from '../../src/format/snapshot-table.ts';
import { l2OffsetAt, readL1 } from '../../src/image/cluster-tree.ts';
import type { Image } from '../../src/image/image.ts';
import type { Metadata } from '../../src/image/metadata.ts';
import { pacer } from '../../src/operations/control.ts';
import type { Storage } from '../../src/storage/storage.ts';

/** What a cluster of an image file holds, in the order in which one hides another in the same cell. */
export const FILE_KINDS = [
  'free',
  'data',
  'compressed',
  'snapshot',
  'shared',
  'bitmap',
  'snapshot table',
  'L2',
  'L1',
  'refcount',
  'header',
  'leaked',
] as const;
export type FileKind = (typeof FILE_KINDS)[number];

/** An image file in cells of equal length. */
export interface FilePicture {
  /** Bytes of the file one cell stands for: a cluster, or a power of two of clusters. */
  readonly cellBytes: number;
  readonly cells: Uint8Array;
  /** Bytes of the file of each kind, in whole clusters. */
  readonly bytes: Record<FileKind, number>;
}

const kindOf = (kind: FileKind): number => FILE_KINDS.indexOf(kind);
const DATA = kindOf('data');
const COMPRESSED = kindOf('compressed');
const SNAPSHOT = kindOf('snapshot');
const SHARED = kindOf('shared');
const MAX_CELLS = 4 * 1024 * 1024;
/** A byte each; 4 TiB of 64 KiB clusters. */
const MAX_CLUSTERS = 64 * 1024 * 1024;
/** Of all tables of snapshots and bitmaps together: what QEMU allows one of them. */
const MAX_ENTRIES = MAX_L1_ENTRIES;

/**
 * What each cluster of a qcow2 file is there for, by walking its tables: what only they refer to, and
 * what is counted and not referred to (leaked). Guest data is not read.
 * @throws Qcow2Error TOO_LARGE, ABORTED, IO, and those of reading the snapshot table
 */
export async function filePicture(image: Image, signal?: AbortSignal): Promise<FilePicture> {
  const { metadata, storage } = image;
  if (metadata === undefined) {
    const text = `'${storage.name}' is a raw image: its file is the disk, byte for byte`;
    throw new Qcow2Error('UNSUPPORTED', text, { structure: 'image format' });
  }
  const walker = new FileWalker(storage, metadata, signal);
  await walker.walkActive();
  await walker.walkSnapshots(image);
  await walker.walkBitmaps(image);
  await walker.walkRefcounts();
  return walker.picture();
}

class FileWalker {
  readonly #storage: Storage;
  readonly #metadata: Metadata;
  readonly #clusterSize: number;
  readonly #clusters: Uint8Array;
  readonly #tables = new Set<number>();
  /** Entries of tables that may still be read. */
  #left = MAX_ENTRIES;
  readonly #step: () => void | Promise<void>;

  constructor(storage: Storage, metadata: Metadata, signal: AbortSignal | undefined) {
    this.#storage = storage;
    this.#metadata = metadata;
    this.#clusterSize = metadata.geometry.clusterSize;
    const count = Math.ceil(storage.size / this.#clusterSize);
    if (count > MAX_CLUSTERS) {
      const text = `the file has ${count} clusters; at most ${MAX_CLUSTERS} can be drawn`;
      throw new Qcow2Error('TOO_LARGE', text, { value: count });
    }
    this.#clusters = new Uint8Array(count);
    this.#step = pacer(signal, 'the picture');
  }

  async walkActive(): Promise<void> {
    const { l1TableOffset: offset, l1Size: entries } = this.#metadata.header;
    this.#mark('header', 0, this.#clusterSize);
    const encryption = findExtension(this.#metadata.extensions, 'encryption-pointer')?.pointer;
    if (encryption !== undefined) this.#mark('header', encryption.offset, encryption.length);
    await this.#walkL1({ offset, entries }, DATA, COMPRESSED);
  }

  async walkSnapshots(image: Image): Promise<void> {
    const snapshots = await image.snapshots();
    if (snapshots.length === 0) return;
    const { snapshotsOffset } = this.#metadata.header;
    const seen = new Set<number>();
    for (const { l1TableOffset: offset, l1Size: entries } of snapshots) {
      if (seen.has(offset) || offset + entries * 8 > this.#storage.size + this.#clusterSize)
        continue;
      seen.add(offset);
      this.#spend('snapshot L1 table', offset, entries);
      await this.#walkL1({ offset, entries }, SNAPSHOT, SNAPSHOT);
    }
    const length = snapshots.reduce((end, snapshot) => align8(end) + snapshotBytes(snapshot), 0);
    this.#mark('snapshot table', snapshotsOffset, length);
  }

  async walkBitmaps(image: Image): Promise<void> {
    const bitmaps = await image.bitmaps();
    const pointer = findExtension(this.#metadata.extensions, 'bitmaps')?.pointer;
    if (pointer === undefined || bitmaps.length === 0) return;
    this.#mark('bitmap', pointer.bitmapDirectoryOffset, pointer.bitmapDirectorySize);
    for (const { bitmapTableOffset, bitmapTableSize } of bitmaps) {
      await this.#step();
      const within = Math.max(0, this.#storage.size - bitmapTableOffset);
      const entries = Math.min(bitmapTableSize, Math.ceil(within / 8), MAX_L1_ENTRIES);
      this.#spend('bitmap table', bitmapTableOffset, entries);
      this.#mark('bitmap', bitmapTableOffset, entries * 8);
      const table = await readL1(this.#storage, { offset: bitmapTableOffset, entries });
      const view = new DataView(table.buffer);
      for (let i = 0; i < entries; i++) {
        const offset = l2OffsetAt(view, i);
        if (offset !== 0) this.#mark('bitmap', offset, this.#clusterSize);
      }
    }
  }

  /** What counters say beside what was found: shared with a snapshot, or leaked. */
  async walkRefcounts(): Promise<void> {
    const { header, geometry } = this.#metadata;
    const { refcountTableOffset: offset, refcountTableClusters } = header;
    const perBlock = geometry.refcountBlockEntries;
    const needed = Math.ceil(this.#clusters.length / perBlock);
    const entries = Math.min((refcountTableClusters * this.#clusterSize) / 8, needed);
    this.#mark('refcount', offset, refcountTableClusters * this.#clusterSize);
    const table = new DataView((await readL1(this.#storage, { offset, entries })).buffer);
    for (let i = 0; i < entries; i++)
      this.#mark('refcount', l2OffsetAt(table, i), this.#clusterSize);
    const block = new Uint8Array(this.#clusterSize);
    for (let i = 0; i < entries; i++) {
      const at = l2OffsetAt(table, i);
      if (at === 0) continue;
      await this.#step();
      block.fill(0);
      await this.#storage.read(at, block);
      this.#addCounters(block, i * perBlock);
    }
  }

  picture(): FilePicture {
    const bytes = Object.fromEntries(FILE_KINDS.map((kind) => [kind, 0])) as Record<
      FileKind,
      number
    >;
    const counts = new Float64Array(FILE_KINDS.length);
    let perCell = 1;
    while (Math.ceil(this.#clusters.length / perCell) > MAX_CELLS) perCell *= 2;
    const cells = new Uint8Array(Math.ceil(this.#clusters.length / perCell));
    for (let i = 0; i < this.#clusters.length; i++) {
      const kind = this.#clusters[i]!;
      counts[kind]! += 1;
      const cell = Math.floor(i / perCell);
      if (kind > cells[cell]!) cells[cell] = kind;
    }
    FILE_KINDS.forEach((kind, i) => {
      bytes[kind] = counts[i]! * this.#clusterSize;
    });
    return { cellBytes: perCell * this.#clusterSize, cells, bytes };
  }

  #spend(structure: string, offset: number, entries: number): void {
    this.#left -= entries;
    if (this.#left >= 0) return;
    const text = `the tables of snapshots and bitmaps have more than ${MAX_ENTRIES} entries: too many to be drawn`;
    throw new Qcow2Error('TOO_LARGE', text, { structure, offset });
  }

  #mark(kind: FileKind, offset: number, bytes: number): void {
    if (bytes <= 0 || offset >= this.#storage.size || (offset === 0 && kind !== 'header')) return;
    const first = Math.floor(offset / this.#clusterSize);
    const end = Math.ceil((offset + bytes) / this.#clusterSize);
    this.#cover(kindOf(kind), first, Math.min(end, this.#clusters.length));
  }

  #cover(kind: number, first: number, end: number): void {
    for (let i = first; i < end; i++) if (kind > this.#clusters[i]!) this.#clusters[i] = kind;
  }

  async #walkL1(
    span: { offset: number; entries: number },
    data: number,
    compressed: number,
  ): Promise<void> {
    this.#mark('L1', span.offset, span.entries * 8);
    const l1 = new DataView((await readL1(this.#storage, span)).buffer);
    const table = new Uint8Array(this.#clusterSize);
    for (let i = 0; i < span.entries; i++) {
      const offset = l2OffsetAt(l1, i);
      if (offset === 0 || offset >= this.#storage.size || this.#tables.has(offset)) continue;
      this.#tables.add(offset);
      await this.#step();
      table.fill(0);
      await this.#storage.read(offset, table);
      this.#mark('L2', offset, this.#clusterSize);
      if (!this.#metadata.hasDataFile)
        this.#addEntries(new DataView(table.buffer), data, compressed);
    }
  }

  /** What only a snapshot has is a kind of its own; what the disk has, too, keeps its kind. */
  #addEntries(table: DataView, data: number, compressed: number): void {
    const { l2EntrySize, clusterSize } = this.#metadata.geometry;
    const clusters = this.#clusters;
    for (let at = 0; at < clusterSize; at += l2EntrySize) {
      const high = table.getUint32(at);
      if (high === 0 && table.getUint32(at + 4) === 0) continue;
      if ((high & 0x40000000) !== 0) {
        this.#addCompressed(table.getBigUint64(at), compressed);
        continue;
      }
      const low = table.getUint32(at + 4);
      const host = (high & 0xffffff) * 2 ** 32 + ((low & 0xfffffe00) >>> 0);
      const cluster = host / clusterSize;
      if (host !== 0 && cluster < clusters.length && Number.isInteger(cluster))
        this.#use(cluster, data);
    }
  }

  #addCompressed(word: bigint, kind: number): void {
    const descriptor = decodeCompressedDescriptor(word, this.#metadata.geometry);
    const { first, last } = compressedClusters(descriptor, this.#metadata.geometry);
    for (let i = first; i <= Math.min(last, this.#clusters.length - 1); i++) this.#use(i, kind);
  }

  #use(cluster: number, kind: number): void {
    if (this.#clusters[cluster] === 0 || kind !== SNAPSHOT) this.#cover(kind, cluster, cluster + 1);
  }

  #addCounters(block: Uint8Array, firstCluster: number): void {
    const order = this.#metadata.geometry.refcountOrder;
    const end = Math.min(
      this.#clusters.length,
      firstCluster + this.#metadata.geometry.refcountBlockEntries,
    );
    const leaked = kindOf('leaked');
    const counters = readerOf(block, order);
    for (let i = firstCluster; i < end; i++) {
      const kind = this.#clusters[i]!;
      if (kind > DATA) continue;
      const count = counters(i - firstCluster);
      if (kind === 0 && count > 0) this.#clusters[i] = leaked;
      else if (kind === DATA && count > 1) this.#clusters[i] = SHARED;
    }
  }
}

/** Reads counters of a width of `2 ** order` bits; those above 2^53 are rounded. */
function readerOf(block: Uint8Array, order: number): (index: number) => number {
  const view = new DataView(block.buffer);
  if (order < 3) {
    const perByte = 8 >> order;
    const mask = (1 << (1 << order)) - 1;
    return (i) => (block[Math.floor(i / perByte)]! >> ((i % perByte) << order)) & mask;
  }
  if (order === 3) return (i) => block[i]!;
  if (order === 4) return (i) => view.getUint16(i * 2);
  if (order === 5) return (i) => view.getUint32(i * 4);
  if (order === 6) return (i) => view.getUint32(i * 8) * 2 ** 32 + view.getUint32(i * 8 + 4);
  throw new Qcow2Error('UNSUPPORTED', `refcount order ${hex(order)} is unknown`, { value: order });
}
