import type { Name } from '../format/fields.ts';
import {
  buildDetachedHeader,
  buildHeaderCluster,
  type HeaderClusterParts,
  headerClusterEnd,
} from '../format/header-cluster.ts';
import { backingFormatExtension, type HeaderExtension } from '../format/header-extensions.ts';
import { SECTOR_SIZE } from '../format/limits.ts';
import { type Metadata, parseMetadata } from './metadata.ts';
import type { SyncedFile } from './synced-file.ts';

/** A backing file as an image records it. */
export interface RecordedBacking {
  readonly name: Name;
  readonly format: string;
}

/**
 * The first cluster of an image with another backing file, or none.
 * @throws Qcow2Error TOO_LARGE: the name is too long, or does not fit
 */
export function withBacking(
  { header, extensions, geometry }: Metadata,
  backing: RecordedBacking | undefined,
): { parts: HeaderClusterParts; cluster: Uint8Array } {
  const others = extensions.filter(({ kind }) => kind !== 'backing-format');
  const format: HeaderExtension[] = backing ? [backingFormatExtension(backing.format)] : [];
  const parts = {
    header,
    extensions: [...format, ...others],
    backingFileName: backing?.name,
  };
  return { parts, cluster: buildHeaderCluster(parts, geometry.clusterSize) };
}

/**
 * Rewrites the first cluster, durably: whatever is cut short, all of the old one counts or all of the
 * new one. The switch is one write of the first sector, when what it leads to is there; where the new
 * rest would lie on the old one, a copy behind both stands in meanwhile. Only where the cluster has no
 * room for that copy is it written in one piece, which a cut may tear.
 * @returns what the image says now
 */
export async function rewriteHeaderCluster(
  file: SyncedFile,
  before: Metadata,
  { parts, cluster }: { parts: HeaderClusterParts; cluster: Uint8Array },
): Promise<Metadata> {
  const after = parseMetadata(cluster, file.size);
  const oldEnd = headerClusterEnd(before.header, before.extensions);
  const newEnd = headerClusterEnd(after.header, after.extensions);
  const old = new Uint8Array(cluster.length);
  await file.storage.read(0, old);
  const put = async (offset: number, bytes: Uint8Array): Promise<void> => {
    await file.write(offset, bytes);
    await file.sync();
  };
  const sector = cluster.subarray(0, SECTOR_SIZE);
  const rest = cluster.subarray(SECTOR_SIZE);
  if (newEnd > SECTOR_SIZE && oldEnd > SECTOR_SIZE && differ(rest, old, oldEnd)) {
    const at = Math.ceil(Math.max(oldEnd, newEnd) / 8) * 8;
    const detached = buildDetachedHeader(parts, cluster.length, at);
    if (detached === undefined) {
      await put(0, cluster);
      return after;
    }
    await put(at, detached.tail);
    await put(0, detached.sector);
  }
  if (newEnd > SECTOR_SIZE) await put(SECTOR_SIZE, rest.subarray(0, newEnd - SECTOR_SIZE));
  await put(0, sector);
  // Nothing leads there any more.
  const left = Math.max(newEnd, SECTOR_SIZE);
  if (left < cluster.length) await put(left, cluster.subarray(left));
  return after;
}

/** Whether what counts of the old cluster behind the first sector is not the same in the new one. */
function differ(rest: Uint8Array, old: Uint8Array, oldEnd: number): boolean {
  for (let i = 0; i < Math.min(rest.length, oldEnd - SECTOR_SIZE); i++)
    if (rest[i] !== old[SECTOR_SIZE + i]) return true;
  return false;
}
