import { hex, Qcow2Error } from '../errors.ts';
import type { Geometry, HostOffset } from './geometry.ts';
import { HOST_OFFSET_LIMIT, MAX_OFFSET, SECTOR_SIZE } from './limits.ts';

const TWO_32 = 2 ** 32;

/** Where a compressed stream lies (format section 8). */
export interface CompressedDescriptor {
  /** Host byte offset of the stream, at any alignment. */
  readonly hostOffset: HostOffset;
  /** 512-byte sectors beyond the one the offset lies in. */
  readonly additionalSectors: number;
  /** Bytes from the offset to the end of the last sector: the most the stream can have. */
  readonly maxBytes: number;
}

/** The part of the geometry a descriptor depends on. */
export type DescriptorGeometry = Pick<Geometry, 'clusterBits' | 'compressedOffsetBits'>;

/**
 * Decodes the low 62 bits of an L2 entry whose bit 62 is set. An offset of 2^53 or more, which no
 * file has and only clusters up to 64 KiB can express, is rounded: see `isDescriptorInRange`.
 */
export function decodeCompressedDescriptor(
  word: bigint,
  geometry: DescriptorGeometry,
): CompressedDescriptor {
  const x = BigInt(geometry.compressedOffsetBits);
  const hostOffset = Number(word & ((1n << x) - 1n));
  const additionalSectors = Number((word >> x) & ((1n << BigInt(geometry.clusterBits - 8)) - 1n));
  return { hostOffset, additionalSectors, maxBytes: maxStreamBytes(hostOffset, additionalSectors) };
}

/** Bytes from a stream's offset to the end of its last sector. */
export function maxStreamBytes(hostOffset: HostOffset, additionalSectors: number): number {
  return (additionalSectors + 1) * SECTOR_SIZE - (hostOffset % SECTOR_SIZE);
}

/** True if a descriptor's offset can be that of a file's byte: at most 2^53 - 1. */
export function isDescriptorInRange(descriptor: CompressedDescriptor): boolean {
  return descriptor.hostOffset <= MAX_OFFSET;
}

/** Sectors beyond the first that a stream of `length` bytes at `hostOffset` touches. */
export function additionalSectors(hostOffset: HostOffset, length: number): number {
  return Math.floor(((hostOffset % SECTOR_SIZE) + length - 1) / SECTOR_SIZE);
}

/** First and last host cluster of the sector-rounded range; each holds one reference of the stream. */
export function compressedClusters(
  descriptor: CompressedDescriptor,
  geometry: Geometry,
): { first: number; last: number } {
  const perCluster = geometry.clusterSize / SECTOR_SIZE;
  const sector = Math.floor(descriptor.hostOffset / SECTOR_SIZE);
  return {
    first: Math.floor(sector / perCluster),
    last: Math.floor((sector + descriptor.additionalSectors) / perCluster),
  };
}

/** Host offsets a descriptor can hold lie below this (format section 15). */
export function compressedOffsetLimit(geometry: DescriptorGeometry): number {
  return Math.min(HOST_OFFSET_LIMIT, 2 ** geometry.compressedOffsetBits, MAX_OFFSET + 1);
}

/**
 * The word of a compressed L2 entry for a stream of `length` bytes.
 * @throws INVALID_ARGUMENT if offset or length do not fit a descriptor
 */
export function encodeCompressed(
  hostOffset: HostOffset,
  length: number,
  geometry: DescriptorGeometry,
): bigint {
  const extra = BigInt(requireFits(hostOffset, length, geometry));
  return (1n << 62n) | (extra << BigInt(geometry.compressedOffsetBits)) | BigInt(hostOffset);
}

/** Writes a compressed L2 entry at byte `pos`. @throws INVALID_ARGUMENT as `encodeCompressed` */
export function writeCompressed(
  view: DataView,
  pos: number,
  hostOffset: HostOffset,
  length: number,
  geometry: DescriptorGeometry,
): void {
  const extra = requireFits(hostOffset, length, geometry);
  const shifted = extra * 2 ** (geometry.compressedOffsetBits - 32);
  view.setUint32(pos, 0x40000000 + shifted + Math.floor(hostOffset / TWO_32));
  view.setUint32(pos + 4, hostOffset % TWO_32);
}

function requireFits(hostOffset: HostOffset, length: number, geometry: DescriptorGeometry): number {
  const extra = additionalSectors(hostOffset, length);
  const offsetFits =
    Number.isSafeInteger(hostOffset) &&
    hostOffset >= 0 &&
    hostOffset < compressedOffsetLimit(geometry);
  const lengthFits =
    Number.isSafeInteger(length) && length > 0 && extra < 2 ** (geometry.clusterBits - 8);
  if (offsetFits && lengthFits) return extra;
  throw new Qcow2Error(
    'INVALID_ARGUMENT',
    `compressed stream of ${length} bytes at ${hex(hostOffset)} does not fit a descriptor; ` +
      `the offset must be below ${hex(compressedOffsetLimit(geometry))} and the length below a cluster`,
    { structure: 'L2 entry', offset: hostOffset, value: length },
  );
}
