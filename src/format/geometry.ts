import { hex, Qcow2Error } from '../errors.ts';
import { INCOMPATIBLE_EXTENDED_L2 } from './feature-bits.ts';
import {
  MAX_CLUSTER_BITS,
  MAX_L1_ENTRIES,
  MAX_OFFSET,
  MAX_REFCOUNT_ORDER,
  MIN_CLUSTER_BITS,
  MIN_CLUSTER_BITS_EXTENDED_L2,
  SECTOR_SIZE,
} from './limits.ts';

/** A position on the virtual disk, in bytes. Plain numbers assign; host offsets do not. */
export type GuestOffset = number & { readonly __space?: 'guest' };

/** A position in the image file (or its external data file), in bytes. */
export type HostOffset = number & { readonly __space?: 'host' };

/** Numbers that follow from the header (format section 2). Sizes are in bytes. */
export interface Geometry {
  readonly clusterBits: number;
  readonly clusterSize: number;
  readonly extendedL2: boolean;
  /** Bytes of one L2 entry: 8, or 16 with extended L2 entries. */
  readonly l2EntrySize: 8 | 16;
  /** Entries of one L2 table, which is always one cluster. */
  readonly l2Entries: number;
  /** Guest bytes one L2 table (one L1 entry) maps. */
  readonly l2Coverage: number;
  /** Guest bytes of the smallest mapped unit: a subcluster, or a whole cluster without them. */
  readonly subclusterSize: number;
  readonly subclustersPerCluster: 1 | 32;
  readonly refcountOrder: number;
  /** Width of a reference counter in bits, 1 to 64. */
  readonly refcountBits: number;
  /** Counters of one refcount block, which is always one cluster. */
  readonly refcountBlockEntries: number;
  /** Width of the offset field of a compressed descriptor in bits, 49 to 61. */
  readonly compressedOffsetBits: number;
}

/** The header fields the geometry follows from; a `Header` is one. */
export interface GeometryFields {
  readonly clusterBits: number;
  readonly refcountOrder: number;
  readonly incompatibleFeatures: bigint;
}

/**
 * Derives the geometry of a validated header.
 * @throws INVALID_ARGUMENT if a field is out of range, which `validateHeader` reports more fully
 */
export function geometryOf(header: GeometryFields): Geometry {
  const { clusterBits, refcountOrder } = header;
  const extendedL2 = (header.incompatibleFeatures & INCOMPATIBLE_EXTENDED_L2) !== 0n;
  const least = extendedL2 ? MIN_CLUSTER_BITS_EXTENDED_L2 : MIN_CLUSTER_BITS;
  requireWithin('cluster_bits', clusterBits, least, MAX_CLUSTER_BITS);
  requireWithin('refcount_order', refcountOrder, 0, MAX_REFCOUNT_ORDER);
  const clusterSize = 2 ** clusterBits;
  const l2EntrySize = extendedL2 ? 16 : 8;
  const l2Entries = clusterSize / l2EntrySize;
  const subclustersPerCluster = extendedL2 ? 32 : 1;
  const refcountBits = 2 ** refcountOrder;
  return {
    clusterBits,
    clusterSize,
    extendedL2,
    l2EntrySize,
    l2Entries,
    l2Coverage: clusterSize * l2Entries,
    subclusterSize: clusterSize / subclustersPerCluster,
    subclustersPerCluster,
    refcountOrder,
    refcountBits,
    refcountBlockEntries: (clusterSize * 8) / refcountBits,
    compressedOffsetBits: 70 - clusterBits,
  };
}

function requireWithin(name: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new Qcow2Error('INVALID_ARGUMENT', `${name} is ${value}; must be ${least} to ${most}`, {
    value,
  });
}

/** Index of the L1 entry that maps a guest offset. */
export function l1Index(guest: GuestOffset, geometry: Geometry): number {
  return Math.floor(guest / geometry.l2Coverage);
}

/** Index of the L2 entry that maps a guest offset, within its L2 table. */
export function l2Index(guest: GuestOffset, geometry: Geometry): number {
  return Math.floor(guest / geometry.clusterSize) % geometry.l2Entries;
}

/** Index of the subcluster of a guest offset within its cluster; 0 without subclusters. */
export function subclusterIndex(guest: GuestOffset, geometry: Geometry): number {
  return Math.floor((guest % geometry.clusterSize) / geometry.subclusterSize);
}

/** First guest offset an L2 entry maps. */
export function guestOffsetOf(
  l1IndexOfTable: number,
  l2IndexOfEntry: number,
  geometry: Geometry,
): GuestOffset {
  return l1IndexOfTable * geometry.l2Coverage + l2IndexOfEntry * geometry.clusterSize;
}

/** L1 entries a virtual size in bytes needs. */
export function l1Needed(size: number, geometry: Geometry): number {
  return Math.ceil(size / geometry.l2Coverage);
}

/** Guest offset at which VM state starts, on a disk of `size` bytes (format section 12). */
export function vmStateOffset(size: number, geometry: Geometry): GuestOffset {
  return l1Needed(size, geometry) * geometry.l2Coverage;
}

/** Largest virtual size in bytes: what the largest L1 table maps, at most 2^53 - 512. */
export function maxVirtualSize(geometry: Geometry): number {
  return Math.min(MAX_L1_ENTRIES * geometry.l2Coverage, MAX_OFFSET - (SECTOR_SIZE - 1));
}

/** Index of the cluster that holds an offset, guest or host. */
export function clusterIndex(offset: number, geometry: Geometry): number {
  return Math.floor(offset / geometry.clusterSize);
}

/** An offset rounded down to its cluster. */
export function clusterStart(offset: number, geometry: Geometry): number {
  return offset - (offset % geometry.clusterSize);
}

/** Clusters that hold `bytes` bytes. */
export function clustersFor(bytes: number, geometry: Geometry): number {
  return Math.ceil(bytes / geometry.clusterSize);
}

/** Bytes rounded up to whole clusters. */
export function clusterAlignUp(bytes: number, geometry: Geometry): number {
  return clustersFor(bytes, geometry) * geometry.clusterSize;
}

/** True if an offset is a multiple of the cluster size. */
export function isClusterAligned(offset: number, geometry: Geometry): boolean {
  return offset % geometry.clusterSize === 0;
}

/** Index of the refcount table entry whose block counts a host cluster. */
export function refcountTableIndex(cluster: number, geometry: Geometry): number {
  return Math.floor(cluster / geometry.refcountBlockEntries);
}

/** Index of a host cluster's counter within its refcount block. */
export function refcountBlockIndex(cluster: number, geometry: Geometry): number {
  return cluster % geometry.refcountBlockEntries;
}

/** Entries of a refcount table of that many clusters. */
export function refcountTableEntries(clusters: number, geometry: Geometry): number {
  return (clusters * geometry.clusterSize) / 8;
}

/** Largest value a reference counter of that order holds. */
export function maxRefcount(order: number): bigint {
  return (1n << BigInt(2 ** order)) - 1n;
}

/**
 * A region of the file may end less than one cluster past the file's end (its last cluster need not
 * be complete); anything more is truncation.
 * @throws TRUNCATED naming the structure
 */
export function requireInFile(
  structure: string,
  offset: HostOffset,
  bytes: number,
  fileSize: number,
  geometry: Geometry,
): void {
  if (bytes === 0 || offset + bytes < fileSize + geometry.clusterSize) return;
  throw new Qcow2Error(
    'TRUNCATED',
    `${structure} at ${hex(offset)} (${bytes} bytes) lies past the end of the file at ` +
      `${hex(fileSize)}; the file is incomplete, get a whole copy of it`,
    { structure, offset, value: bytes },
  );
}
