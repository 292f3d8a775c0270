import { viewOf } from '../format/fields.ts';
import { SECTOR_SIZE } from '../format/limits.ts';
import type { SyncedFile } from './synced-file.ts';

/** Bytes of `header_length` and of `backing_file_offset` in a version 3 header. */
const HEADER_LENGTH_AT = 100;
const BACKING_FILE_OFFSET_AT = 8;

/**
 * Replaces the first cluster, durably; only a sector is written at once by every disk. Whatever is cut
 * short, the file has the old header, extensions and names or the new ones: what does not fit one sector
 * is first laid out behind both, where a header of that length leads to it (format sections 3 and 5), and
 * the places are changed while it does. In version 2, or where a cluster has no room for both, it is one
 * write, as QEMU does it.
 * @param before as the file has it
 * @param after of `buildHeaderCluster`
 * @param fieldsEnd byte of `after` at which the extensions begin
 */
export async function replaceHeaderCluster(
  file: SyncedFile,
  before: Uint8Array,
  after: Uint8Array,
  fieldsEnd: number,
): Promise<void> {
  await file.sync();
  const [from, to] = changedPart(before, after);
  const isOneSector = Math.floor(from / SECTOR_SIZE) === Math.floor((to - 1) / SECTOR_SIZE);
  const aside = sectorAlignUp(Math.max(usedBytes(before), usedBytes(after), SECTOR_SIZE));
  const moved = usedBytes(after) - fieldsEnd;
  const isVersion3 = viewOf(after).getUint32(4) === 3;
  if (to <= from) return;
  if (isOneSector || !isVersion3 || fieldsEnd > SECTOR_SIZE || aside + moved > after.length) {
    await file.write(from, after.subarray(from, to));
    return file.sync();
  }
  await file.write(aside, after.subarray(fieldsEnd, fieldsEnd + moved));
  await file.sync();
  await file.write(0, fieldsLeadingTo(after.subarray(0, fieldsEnd), aside));
  await file.sync();
  await file.write(SECTOR_SIZE, after.subarray(SECTOR_SIZE, aside));
  await file.sync();
  await file.write(0, after.subarray(0, SECTOR_SIZE));
  await file.sync();
  await file.write(aside, after.subarray(aside, aside + moved));
  await file.sync();
}

/** The first byte that differs, and the end of the last. */
function changedPart(before: Uint8Array, after: Uint8Array): [from: number, to: number] {
  let from = 0;
  let to = after.length;
  while (from < to && before[from] === after[from]) from++;
  while (to > from && before[to - 1] === after[to - 1]) to--;
  return [from, to];
}

/** The end of what is not zero, with the end marker of the extensions. */
function usedBytes(cluster: Uint8Array): number {
  let end = cluster.length;
  while (end > 0 && cluster[end - 1] === 0) end--;
  return Math.min(cluster.length, Math.ceil(end / 8) * 8 + 8);
}

/** The fields of a header whose extensions, and what follows them, lie at `aside`. */
function fieldsLeadingTo(fields: Uint8Array, aside: number): Uint8Array {
  const moved = fields.slice();
  const view = viewOf(moved);
  view.setUint32(HEADER_LENGTH_AT, aside);
  const backing = Number(view.getBigUint64(BACKING_FILE_OFFSET_AT));
  if (backing > 0)
    view.setBigUint64(BACKING_FILE_OFFSET_AT, BigInt(backing - fields.length + aside));
  return moved;
}

function sectorAlignUp(bytes: number): number {
  return Math.ceil(bytes / SECTOR_SIZE) * SECTOR_SIZE;
}
