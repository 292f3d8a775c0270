import { Qcow2Error } from '../errors.ts';
import { HEADER_V3_BYTES } from '../format/header.ts';
import { buildHeaderCluster, type HeaderClusterParts } from '../format/header-cluster.ts';
import { encodeHeaderExtension } from '../format/header-extensions.ts';
import { SECTOR_SIZE } from '../format/limits.ts';
import type { Metadata } from './metadata.ts';
import type { SyncedFile } from './synced-file.ts';

/** Bytes of the end marker of the extension area. */
const END_MARKER_BYTES = 8;

/**
 * Replaces the whole first cluster of an image, durably (format sections 3, 17). Only writes of one
 * sector are taken for undivided, and what lies behind the first is durable before that sector says so:
 * whatever is cut short, the old header is there or the new one, with its own extensions and names.
 *
 * Where both need different bytes of the sectors behind the first, there is one more header in between:
 * it says that its extensions begin further behind, where neither has any.
 * @param metadata what the cluster says now
 * @throws Qcow2Error TOO_LARGE: the parts do not fit one cluster, or not beside the old ones; IO: which
 *   header the file has then is not known
 */
export async function rewriteHeaderCluster(
  file: SyncedFile,
  metadata: Metadata,
  parts: HeaderClusterParts,
): Promise<void> {
  const { clusterSize } = metadata.geometry;
  const next = buildHeaderCluster(parts, clusterSize);
  const before = new Uint8Array(clusterSize);
  await file.storage.read(0, before);
  const usedBefore = usedBytes(metadata);
  const end = sectorEnd(Math.max(usedBefore, usedOf(next)));
  if (!isSame(before, next, SECTOR_SIZE, usedBefore)) {
    const between = headerBetween(metadata, parts, end);
    await write(file, between, end, clusterSize);
    await write(file, between, 0, SECTOR_SIZE);
  }
  await write(file, next, SECTOR_SIZE, end);
  await write(file, next, 0, SECTOR_SIZE);
}

/** A header of version 3 that says what the old or the new one does, with the rest at `offset`. */
function headerBetween(metadata: Metadata, parts: HeaderClusterParts, offset: number): Uint8Array {
  const { header, extensions, backingFile, geometry } = metadata;
  const said =
    parts.header.version === 3 ? parts : { header, extensions, backingFileName: backingFile };
  try {
    const unknownFields = new Uint8Array(offset - HEADER_V3_BYTES);
    const moved = { ...said, header: { ...said.header, unknownFields } };
    return buildHeaderCluster(moved, geometry.clusterSize);
  } catch (cause) {
    const text = `header, extensions and names of ${offset} bytes cannot be changed safely in a cluster of ${geometry.clusterSize} bytes; use shorter names, or convert to larger clusters`;
    throw new Qcow2Error('TOO_LARGE', text, { structure: 'header' }, { cause });
  }
}

/** Writes a part of the first cluster, durably. */
async function write(
  file: SyncedFile,
  cluster: Uint8Array,
  from: number,
  to: number,
): Promise<void> {
  if (to <= from) return;
  await file.write(from, cluster.subarray(from, to));
  await file.sync();
}

/** Where what the header cluster of an image says ends. */
function usedBytes({ header, extensions }: Metadata): number {
  const area = extensions.reduce((sum, each) => sum + encodeHeaderExtension(each).length, 0);
  const name = header.backingFileOffset + header.backingFileSize;
  return Math.max(header.headerLength + area + END_MARKER_BYTES, name);
}

function usedOf(cluster: Uint8Array): number {
  let end = cluster.length;
  while (end > 0 && cluster[end - 1] === 0) end--;
  return Math.min(cluster.length, end + END_MARKER_BYTES);
}

function sectorEnd(bytes: number): number {
  return Math.ceil(bytes / SECTOR_SIZE) * SECTOR_SIZE;
}

function isSame(a: Uint8Array, b: Uint8Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (a[i] !== b[i]) return false;
  return true;
}
