import { isQcow2Error } from '../errors.ts';
import { HEADER_V3_BYTES } from '../format/header.ts';
import {
  buildHeaderCluster,
  type HeaderClusterParts,
  headerClusterEnd,
} from '../format/header-cluster.ts';
import { SECTOR_SIZE } from '../format/limits.ts';
import { type Metadata, parseMetadata } from './metadata.ts';
import type { SyncedFile } from './synced-file.ts';

/**
 * Replaces the first cluster of an image, durably, after all that was written before (format sections
 * 3, 17). Only a sector is taken for undivided, and what lies behind the first is durable before that
 * sector leads to it: whatever is cut short, the old header is there or the new one, with its own
 * extensions and names.
 *
 * Where both need different bytes of the sectors behind the first, there is one more header in between:
 * it says that its extensions begin further behind, where neither has any. Only where a cluster has no
 * room for that is it one write of several sectors, which a cut may tear, as in QEMU.
 * @param metadata what the cluster says now
 * @returns what it says then
 * @throws Qcow2Error TOO_LARGE: the parts do not fit one cluster, nothing has changed; IO: which header
 *   the file has then is not known, and it takes no more writes
 */
export async function rewriteHeaderCluster(
  file: SyncedFile,
  metadata: Metadata,
  parts: HeaderClusterParts,
): Promise<Metadata> {
  const { clusterSize } = metadata.geometry;
  const next = buildHeaderCluster(parts, clusterSize);
  const after = parseMetadata(next, file.size);
  try {
    await replace(file, metadata, parts, next, usedOf(after));
  } catch (error) {
    file.fail(error);
    throw error;
  }
  return after;
}

async function replace(
  file: SyncedFile,
  metadata: Metadata,
  parts: HeaderClusterParts,
  next: Uint8Array,
  usedAfter: number,
): Promise<void> {
  const before = new Uint8Array(next.length);
  await file.storage.read(0, before);
  await file.sync();
  const usedBefore = usedOf(metadata);
  const end = Math.min(sectorEnd(Math.max(usedBefore, usedAfter)), next.length);
  const needsTail = usedAfter > SECTOR_SIZE;
  if (!needsTail || isSame(before, next, SECTOR_SIZE, usedBefore)) {
    if (needsTail && !isSame(before, next, SECTOR_SIZE, usedAfter))
      await put(file, next, SECTOR_SIZE, end);
    await put(file, next, 0, SECTOR_SIZE);
    // Nothing leads there any more.
    if (!needsTail && usedBefore > SECTOR_SIZE) await put(file, next, SECTOR_SIZE, end);
    return;
  }
  const between = headerBetween(metadata, parts, end);
  if (between === undefined) return put(file, next, 0, end);
  await put(file, between, end, next.length);
  await put(file, between, 0, SECTOR_SIZE);
  await put(file, next, SECTOR_SIZE, end);
  await put(file, next, 0, SECTOR_SIZE);
  await put(file, next, end, next.length);
}

/**
 * A header of version 3 that says what the old or the new one does, with the rest at `offset`;
 * undefined if that does not fit.
 */
function headerBetween(
  metadata: Metadata,
  parts: HeaderClusterParts,
  offset: number,
): Uint8Array | undefined {
  const { header, extensions, backingFile, geometry } = metadata;
  const said =
    parts.header.version === 3 ? parts : { header, extensions, backingFileName: backingFile };
  try {
    const unknownFields = new Uint8Array(offset - HEADER_V3_BYTES);
    const moved = { ...said, header: { ...said.header, unknownFields } };
    return buildHeaderCluster(moved, geometry.clusterSize);
  } catch (error) {
    if (isQcow2Error(error) && error.code === 'TOO_LARGE') return undefined;
    throw error;
  }
}

/** Writes a part of the first cluster, durably. */
async function put(file: SyncedFile, cluster: Uint8Array, from: number, to: number): Promise<void> {
  if (to <= from) return;
  await file.write(from, cluster.subarray(from, to));
  await file.sync();
}

/** Where what the header cluster of an image says ends. */
function usedOf({ header, extensions }: Metadata): number {
  return headerClusterEnd(header, extensions);
}

function sectorEnd(bytes: number): number {
  return Math.ceil(bytes / SECTOR_SIZE) * SECTOR_SIZE;
}

function isSame(a: Uint8Array, b: Uint8Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (a[i] !== b[i]) return false;
  return true;
}
