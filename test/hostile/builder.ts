import { deflateRawSync } from 'node:zlib';
import type { BitmapDirectoryEntry } from '../../src/format/bitmap-directory.ts';
import { writeCompressed } from '../../src/format/compressed-descriptor.ts';
import {
  AUTOCLEAR_BITMAPS,
  AUTOCLEAR_RAW_DATA_FILE,
  INCOMPATIBLE_COMPRESSION_TYPE,
  INCOMPATIBLE_DATA_FILE,
  INCOMPATIBLE_EXTENDED_L2,
} from '../../src/format/feature-bits.ts';
import { nameOf, viewOf } from '../../src/format/fields.ts';
import { type Geometry, geometryOf, l1Needed } from '../../src/format/geometry.ts';
import { HEADER_V2_BYTES, HEADER_V3_BYTES, type Header } from '../../src/format/header.ts';
import { buildHeaderCluster } from '../../src/format/header-cluster.ts';
import {
  backingFormatExtension,
  dataFileNameExtension,
  type HeaderExtension,
} from '../../src/format/header-extensions.ts';
import { encodeL1Entry } from '../../src/format/l1-entry.ts';
import {
  writeL2Normal,
  writeL2ZeroAllocated,
  writeL2ZeroPlain,
  writeSubclusterBitmap,
} from '../../src/format/l2-entry.ts';
import type { LuksHeader } from '../../src/format/luks-header.ts';
import { setRefcount } from '../../src/format/refcount-entry.ts';
import type { Snapshot } from '../../src/format/snapshot-table.ts';
import { buildBitmaps, buildLuks, buildSnapshots, Layout, u64Bytes } from './builder-tables.ts';
import { type Places, SmallImage } from './small-image.ts';

export type { SmallImage } from './small-image.ts';

/** A guest cluster: `H` data, `Z` plain zero, `A` zero with allocation, `C` compressed, `.` none. */
export type ClusterKind = 'H' | 'Z' | 'A' | 'C' | '.';

/** A small image. Everything has a default: version 3, 4 KiB clusters, 16 guest clusters. */
export interface ImageSpec {
  version?: 2 | 3;
  clusterBits?: number;
  /** Virtual size in bytes; default 16 clusters. */
  size?: number;
  extendedL2?: boolean;
  refcountOrder?: number;
  compression?: 'deflate' | 'zstd';
  /** One letter per guest cluster from 0 on; default `HHZA.` and, where possible, `C`. */
  clusters?: string;
  backing?: { name: string | Uint8Array; format?: string };
  dataFile?: { name?: string | Uint8Array; raw?: boolean };
  snapshots?: readonly Partial<Snapshot>[];
  bitmaps?: readonly Partial<BitmapDirectoryEntry>[];
  luks?: Partial<LuksHeader> & { area?: number };
  extensions?: readonly HeaderExtension[];
  header?: Partial<Header>;
}

/** Compresses a cluster the way the image's codec wants it. */
export type Compressor = (cluster: Uint8Array) => Uint8Array;

const deflate: Compressor = (cluster) => deflateRawSync(cluster, { windowBits: 12 });

/** A zstd frame of one repeated byte: no compressor is needed for it. */
const zstdOfOneByte: Compressor = (cluster) => {
  const size = cluster.length;
  const head = [0x28, 0xb5, 0x2f, 0xfd, 0xa0, size, size >> 8, size >> 16, size >> 24];
  const blocks: number[] = [];
  for (let left = size; left > 0; left -= Math.min(left, 131072)) {
    const part = Math.min(left, 131072);
    const block = (part === left ? 1 : 0) | 2 | (part << 3);
    blocks.push(block, block >> 8, block >> 16, cluster[0] ?? 0);
  }
  return Uint8Array.from([...head, ...blocks]);
};

/** Byte `i` of guest cluster `k` of a small image: data differ everywhere, streams are one byte. */
export function guestByte(kind: ClusterKind, k: number, i: number): number {
  if (kind === 'H') return (k * 37 + i * 7 + (i >> 8) + 1) & 0xff;
  return kind === 'C' ? 0xc0 + (k & 0x1f) : 0;
}

/** Builds a small valid image: header, refcounts, L1, one L2 table, data, and what the spec adds. */
export function buildImage(spec: ImageSpec = {}): SmallImage {
  const version = spec.version ?? 3;
  const clusterBits = spec.clusterBits ?? (spec.extendedL2 ? 14 : 12);
  const incompatibleFeatures =
    (spec.extendedL2 ? INCOMPATIBLE_EXTENDED_L2 : 0n) |
    (spec.compression === 'zstd' ? INCOMPATIBLE_COMPRESSION_TYPE : 0n) |
    (spec.dataFile ? INCOMPATIBLE_DATA_FILE : 0n);
  const refcountOrder = spec.refcountOrder ?? 4;
  const geometry = geometryOf({ clusterBits, refcountOrder, incompatibleFeatures });
  const { clusterSize } = geometry;
  const size = spec.size ?? 16 * clusterSize;
  const l1Size = Math.max(1, l1Needed(size, geometry));
  const layout = new Layout(clusterSize);
  layout.take(clusterSize);
  const at: Places = {
    refcountTable: layout.take(clusterSize),
    refcountBlock: layout.take(clusterSize),
    l1: layout.take(l1Size * 8),
    l2: layout.take(clusterSize),
    data: [],
    snapshots: 0,
    snapshotL1: 0,
    bitmapDirectory: 0,
    bitmapTables: [],
    luks: 0,
  };
  const parts: [at: number, bytes: Uint8Array][] = [];
  const { table, guest, external } = buildClusters(spec, geometry, size, layout, at, parts);
  const l1 = new Uint8Array(l1Size * 8);
  viewOf(l1).setBigUint64(0, encodeL1Entry(at.l2, !spec.snapshots?.length));
  parts.push([at.l1, l1], [at.l2, table]);
  const extensions = [...(spec.extensions ?? []), ...buildNames(spec)];
  if (spec.snapshots) buildSnapshots(spec.snapshots, l1, size, layout, at, parts);
  if (spec.bitmaps) extensions.push(buildBitmaps(spec.bitmaps, geometry, layout, at, parts));
  if (spec.luks) extensions.push(buildLuks(spec.luks, layout, at, parts));
  const autoclear =
    (spec.bitmaps ? AUTOCLEAR_BITMAPS : 0n) | (spec.dataFile?.raw ? AUTOCLEAR_RAW_DATA_FILE : 0n);
  const header: Header = {
    version,
    backingFileOffset: 0,
    backingFileSize: 0,
    clusterBits,
    size,
    cryptMethod: spec.luks ? 2 : 0,
    l1Size,
    l1TableOffset: at.l1,
    refcountTableOffset: at.refcountTable,
    refcountTableClusters: 1,
    nbSnapshots: spec.snapshots?.length ?? 0,
    snapshotsOffset: at.snapshots,
    incompatibleFeatures,
    compatibleFeatures: 0n,
    autoclearFeatures: autoclear,
    refcountOrder,
    headerLength: version === 2 ? HEADER_V2_BYTES : HEADER_V3_BYTES,
    compressionType: spec.compression === 'zstd' ? 1 : 0,
    unknownFields: new Uint8Array(0),
    ...spec.header,
  };
  const backingFileName = spec.backing && nameOf(spec.backing.name);
  parts.push([0, buildHeaderCluster({ header, extensions, backingFileName }, clusterSize)]);
  parts.push([at.refcountTable, u64Bytes(BigInt(at.refcountBlock))]);
  const shared = [at.l2, ...(spec.dataFile ? [] : at.data.filter((offset) => offset > 0))];
  const copies = Math.min(65535, 1 + (spec.snapshots?.length ?? 0));
  parts.push([
    at.refcountBlock,
    countClusters(layout.next / clusterSize, geometry, shared, copies),
  ]);
  const bytes = new Uint8Array(layout.next);
  for (const [where, part] of parts) bytes.set(part, where);
  return new SmallImage(bytes, geometry, at, guest, external);
}

/** Every cluster of the file counts once; what snapshots share, once for each and the disk. */
function countClusters(
  clusters: number,
  geometry: Geometry,
  shared: readonly number[],
  copies: number,
): Uint8Array {
  const block = new Uint8Array(geometry.clusterSize);
  const most = Math.min(clusters, geometry.refcountBlockEntries);
  const count = (cluster: number, value: number) =>
    setRefcount(block, cluster, geometry.refcountOrder, value);
  for (let i = 0; i < most; i++) count(i, 1);
  if (copies > 1) for (const offset of shared) count(offset / geometry.clusterSize, copies);
  return block;
}

function buildClusters(
  spec: ImageSpec,
  geometry: Geometry,
  size: number,
  layout: Layout,
  at: Places,
  parts: [number, Uint8Array][],
) {
  const { clusterSize, l2EntrySize, extendedL2 } = geometry;
  const usual = spec.version === 2 ? 'HH..C' : 'HHZA.C';
  const kinds = [...(spec.clusters ?? (spec.dataFile ? 'HHZA.' : usual))] as ClusterKind[];
  const table = new Uint8Array(clusterSize);
  const view = viewOf(table);
  const guest = new Uint8Array(Math.min(size, 16 * clusterSize));
  const external = spec.dataFile ? new Uint8Array(guest.length) : undefined;
  const copied = !spec.snapshots?.length;
  const compress = spec.compression === 'zstd' ? zstdOfOneByte : deflate;
  kinds.forEach((kind, k) => {
    if (kind === '.') return;
    const pos = k * l2EntrySize;
    const content = Uint8Array.from({ length: clusterSize }, (_, i) => guestByte(kind, k, i));
    guest.set(content.subarray(0, Math.max(0, guest.length - k * clusterSize)), k * clusterSize);
    if (kind === 'C') {
      const stream = compress(content);
      const where = layout.take(stream.length);
      at.data[k] = where;
      parts.push([where, stream]);
      writeCompressed(view, pos, where, stream.length, geometry);
      return;
    }
    const host = external || kind === 'Z' ? k * clusterSize : layout.take(clusterSize);
    if (kind !== 'Z') at.data[k] = host;
    if (kind === 'H' && external) external.set(content, host);
    else if (kind === 'H') parts.push([host, content]);
    else if (kind === 'A' && !external) parts.push([host, content.fill(0xaa)]);
    if (extendedL2) {
      if (kind !== 'Z') writeL2Normal(view, pos, host, copied);
      const zero = kind === 'H' ? 0 : 0xffffffff;
      writeSubclusterBitmap(view, pos, kind === 'H' ? 0xffffffff : 0, zero);
    } else if (kind === 'H') writeL2Normal(view, pos, host, copied);
    else if (kind === 'A') writeL2ZeroAllocated(view, pos, host, copied);
    else writeL2ZeroPlain(view, pos);
  });
  return { table, guest, external };
}

function buildNames(spec: ImageSpec): HeaderExtension[] {
  const extensions: HeaderExtension[] = [];
  if (spec.backing?.format !== undefined) {
    extensions.push(backingFormatExtension(spec.backing.format));
  }
  if (spec.dataFile?.name !== undefined) {
    extensions.push(dataFileNameExtension(spec.dataFile.name));
  }
  return extensions;
}
