import { Qcow2Error } from '../errors.ts';
import type { BitmapsPointer } from '../format/bitmap-directory.ts';
import * as features from '../format/feature-bits.ts';
import { nameOf } from '../format/fields.ts';
import { type Geometry, geometryOf, l1Needed, maxVirtualSize } from '../format/geometry.ts';
import {
  COMPRESSION_DEFLATE,
  COMPRESSION_ZSTD,
  CRYPT_NONE,
  HEADER_V2_BYTES,
  HEADER_V3_BYTES,
  type Header,
} from '../format/header.ts';
import { buildHeaderCluster } from '../format/header-cluster.ts';
import {
  backingFormatExtension,
  bitmapsExtension,
  dataFileNameExtension,
  type HeaderExtension,
} from '../format/header-extensions.ts';
import { MAX_REFCOUNT_TABLE_BYTES } from '../format/limits.ts';

/** What is done ahead for clusters that nothing was written to. */
export type Preallocation = 'off' | 'metadata' | 'falloc' | 'full';

/** What a new qcow2 image is to be like. Absent values are qemu-img's defaults. */
export interface NewImageOptions {
  /** Length of the disk in bytes; rounded up to whole sectors. */
  size: number;
  /** Bytes, a power of two from 512 to 2 MiB. Default 65536. */
  clusterSize?: number;
  /** `0.10` is version 2, `1.1` version 3. Default `1.1`. */
  compat?: '0.10' | '1.1';
  /** 1, 2, 4, 8, 16, 32 or 64. Default 16, the only width of version 2. */
  refcountBits?: number;
  extendedL2?: boolean;
  lazyRefcounts?: boolean;
  compressionType?: 'zlib' | 'zstd';
  /** Name recorded for the external data file. */
  dataFile?: string;
  /** The data file alone is to be a usable raw image at any time. */
  dataFileRaw?: boolean;
  /**
   * `metadata` maps every cluster ahead, `falloc` also reserves the space, `full` also writes zeros.
   * Default `off`; a raw data file is always mapped ahead.
   */
  preallocation?: Preallocation;
  /** Name recorded for the backing file, and its format. */
  backingFile?: string;
  backingFormat?: string;
}

/**
 * Where the structures of a new image are. The head is written first: header, refcount table, the
 * refcount blocks that cover the head, L1 table. Behind it clusters are handed out in order, and
 * refcount block k sits at the first cluster it covers, so nothing has to move later.
 */
export interface NewImageLayout {
  readonly header: Header;
  readonly geometry: Geometry;
  readonly extensions: readonly HeaderExtension[];
  readonly backingFile: string;
  /** Refcount blocks in the head. */
  readonly headBlocks: number;
  /** Clusters of the head, all in use. */
  readonly headClusters: number;
  /** Host offset of the clusters that were asked for behind the L1 table, at the end of the head. */
  readonly reservedOffset: number;
}

/**
 * Lays out a new image (format section 16).
 * @param mostClusters the most host clusters the file may come to hold; sizes the refcount table
 * @param reservedClusters clusters of the head, side by side, that the caller writes
 * @throws Qcow2Error INVALID_ARGUMENT, TOO_LARGE
 */
export function layOutImage(
  options: NewImageOptions,
  mostClusters: number,
  reservedClusters = 0,
): NewImageLayout {
  const version = options.compat === '0.10' ? 2 : 3;
  requireConsistent(options, version);
  const size = Math.ceil(options.size / 512) * 512;
  const refcountOrder = Math.log2(options.refcountBits ?? 16);
  const shape = {
    clusterBits: Math.log2(options.clusterSize ?? 65536),
    refcountOrder,
    incompatibleFeatures: incompatibleBits(options),
  };
  const geometry = geometryOf(shape);
  if (!(size >= 0 && size <= maxVirtualSize(geometry))) throw tooLarge(size, geometry);
  const l1Size = l1Needed(size, geometry);
  const l1Clusters = Math.ceil((l1Size * 8) / geometry.clusterSize);
  const head = layOutHead(geometry, l1Clusters + reservedClusters, mostClusters);
  const reservedOffset = (head.clusters - reservedClusters) * geometry.clusterSize;
  const header: Header = {
    ...shape,
    version,
    backingFileOffset: 0,
    backingFileSize: 0,
    size,
    cryptMethod: CRYPT_NONE,
    l1Size,
    l1TableOffset: l1Size === 0 ? 0 : reservedOffset - l1Clusters * geometry.clusterSize,
    refcountTableOffset: geometry.clusterSize,
    refcountTableClusters: head.tableClusters,
    nbSnapshots: 0,
    snapshotsOffset: 0,
    compatibleFeatures: options.lazyRefcounts ? features.COMPATIBLE_LAZY_REFCOUNTS : 0n,
    autoclearFeatures: options.dataFileRaw ? features.AUTOCLEAR_RAW_DATA_FILE : 0n,
    headerLength: version === 2 ? HEADER_V2_BYTES : HEADER_V3_BYTES,
    compressionType: options.compressionType === 'zstd' ? COMPRESSION_ZSTD : COMPRESSION_DEFLATE,
    unknownFields: new Uint8Array(0),
  };
  return {
    header,
    geometry,
    extensions: newExtensions(options),
    backingFile: options.backingFile ?? '',
    headBlocks: head.blocks,
    headClusters: head.clusters,
    reservedOffset,
  };
}

function tooLarge(size: number, geometry: Geometry): Qcow2Error {
  const most = maxVirtualSize(geometry);
  const text = `image size ${size} is not within 0 to ${most}, the most that clusters of ${geometry.clusterSize} bytes can map; choose larger clusters`;
  return new Qcow2Error('TOO_LARGE', text, { structure: 'L1 table', value: size });
}

/** Whether every cluster of the new image is mapped before data is written. */
export function isMappedAhead(options: NewImageOptions): boolean {
  return options.dataFileRaw === true || (options.preallocation ?? 'off') !== 'off';
}

/** The layout with persistent bitmaps, which are in sync with the disk (format section 13). */
export function withBitmaps(
  layout: NewImageLayout,
  pointer: Omit<BitmapsPointer, 'reserved'>,
): NewImageLayout {
  const { header, extensions } = layout;
  const autoclearFeatures = header.autoclearFeatures | features.AUTOCLEAR_BITMAPS;
  return {
    ...layout,
    header: { ...header, autoclearFeatures },
    extensions: [...extensions, bitmapsExtension(pointer)],
  };
}

/** The first cluster of the file: header, extensions and backing file name. */
export function headerCluster(layout: NewImageLayout): Uint8Array {
  const { header, extensions, backingFile, geometry } = layout;
  const backingFileName = backingFile === '' ? undefined : nameOf(backingFile);
  return buildHeaderCluster({ header, extensions, backingFileName }, geometry.clusterSize);
}

/**
 * The most host clusters an image of this shape can hold when it is written once, front to back.
 * @param more clusters beside those of the disk
 */
export function mostHostClusters(options: NewImageOptions, more = 0): number {
  const clusterSize = options.clusterSize ?? 65536;
  const entrySize = options.extendedL2 ? 16 : 8;
  const data = Math.ceil(options.size / clusterSize);
  const tables = Math.ceil((data * entrySize) / clusterSize);
  const l1 = Math.ceil((tables * 8) / clusterSize);
  const inFile = (options.dataFile === undefined ? data : 0) + tables + l1 + 1 + more;
  return withRefcounts(inFile, clusterSize, (clusterSize * 8) / (options.refcountBits ?? 16));
}

/** `clusters`, and what counts them: blocks, which count themselves and the table, and the table. */
function withRefcounts(clusters: number, clusterSize: number, perBlock: number): number {
  for (let total = clusters; ; ) {
    const blocks = Math.ceil(total / perBlock);
    const next = clusters + blocks + Math.max(1, Math.ceil((blocks * 8) / clusterSize));
    if (!(next > total)) return total;
    total = next;
  }
}

/** @param ownClusters of L1 table and what is reserved */
function layOutHead(geometry: Geometry, ownClusters: number, mostClusters: number) {
  const { clusterSize, refcountBlockEntries: perBlock } = geometry;
  // Without clusters to come the head itself is the most there will be.
  const most = Math.max(mostClusters, withRefcounts(1 + ownClusters, clusterSize, perBlock));
  const tableClusters = Math.ceil((Math.ceil(most / perBlock) * 8) / clusterSize);
  if (tableClusters * clusterSize > MAX_REFCOUNT_TABLE_BYTES) {
    const text = `refcount table: ${most} clusters of ${clusterSize} bytes need more than ${MAX_REFCOUNT_TABLE_BYTES} bytes of table; choose a larger cluster size or narrower refcounts`;
    throw new Qcow2Error('TOO_LARGE', text, { structure: 'refcount table', value: most });
  }
  let blocks = 1;
  const clusters = () => 1 + tableClusters + blocks + ownClusters;
  while (blocks * perBlock < clusters()) blocks++;
  return { tableClusters, blocks, clusters: clusters() };
}

function incompatibleBits(options: NewImageOptions): bigint {
  return (
    (options.dataFile === undefined ? 0n : features.INCOMPATIBLE_DATA_FILE) |
    (options.compressionType === 'zstd' ? features.INCOMPATIBLE_COMPRESSION_TYPE : 0n) |
    (options.extendedL2 ? features.INCOMPATIBLE_EXTENDED_L2 : 0n)
  );
}

function newExtensions(options: NewImageOptions): HeaderExtension[] {
  const extensions: HeaderExtension[] = [];
  if (options.backingFile && options.backingFormat)
    extensions.push(backingFormatExtension(options.backingFormat));
  if (options.dataFile !== undefined) extensions.push(dataFileNameExtension(options.dataFile));
  return extensions;
}

function requireConsistent(options: NewImageOptions, version: 2 | 3): void {
  const fail = (text: string): never => {
    throw new Qcow2Error('INVALID_ARGUMENT', text);
  };
  const clusterSize = options.clusterSize ?? 65536;
  if (!Number.isInteger(Math.log2(clusterSize)) || clusterSize < 512 || clusterSize > 2 ** 21)
    fail(`Cluster size must be a power of two between 512 and 2048k`);
  if (options.extendedL2 && clusterSize < 16384)
    fail('Extended L2 entries are only supported with cluster sizes of at least 16384 bytes');
  const bits = options.refcountBits ?? 16;
  if (![1, 2, 4, 8, 16, 32, 64].includes(bits))
    fail('Refcount width must be a power of two and may not exceed 64 bits');
  if (options.dataFileRaw && options.dataFile === undefined)
    fail('data_file_raw requires data_file');
  if (options.dataFileRaw && options.backingFile)
    fail('A backing file and data_file_raw cannot be used at the same time');
  const ahead = options.preallocation ?? 'off';
  if (options.backingFile && ahead !== 'off' && !options.extendedL2)
    fail('A backing file and preallocation can only be used at the same time if extended_l2 is on');
  if (version === 3) return;
  if (bits !== 16) fail('Refcount widths other than 16 bits require compat=1.1 or above');
  for (const [set, what] of [
    [options.lazyRefcounts, 'Lazy refcounts'],
    [options.extendedL2, 'Extended L2 entries'],
    [options.dataFile !== undefined, 'External data files'],
    [options.compressionType === 'zstd', 'Compression types other than zlib'],
  ] as const)
    if (set) fail(`${what} are only supported with compat=1.1 and above`);
}
