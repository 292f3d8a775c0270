import { BITMAP_IN_USE, type BitmapDirectoryEntry } from '../../src/format/bitmap-directory.ts';
import {
  bitmapClusterCoverage,
  dirtyRanges,
  parseBitmapTable,
} from '../../src/format/bitmap-table.ts';
import type { Image } from '../../src/image/image.ts';
import { readAll } from './verdict.ts';

/**
 * A bitmap that is not marked in use has a bit for everything that differs from what the disk read
 * before: a backup that trusts it must not miss a change. Says where it does not.
 * @param names of the bitmaps that recorded it; default all
 */
export async function bitmapsTellAll(
  image: Image,
  before: Uint8Array,
  names?: readonly string[],
): Promise<string | undefined> {
  const now = await readAll(image);
  for (const entry of await image.bitmaps()) {
    if ((entry.flags & BITMAP_IN_USE) !== 0) continue;
    if (names !== undefined && !names.includes(entry.name.text)) continue;
    const granularity = 2 ** entry.granularityBits;
    const dirty = await dirtyGranules(image, entry);
    for (let at = 0; at < now.length; at += granularity) {
      if (dirty.has(at / granularity)) continue;
      const end = at + granularity;
      if (Buffer.compare(now.subarray(at, end), before.subarray(at, end)) !== 0)
        return `bitmap '${entry.name.text}' does not tell of the change at 0x${at.toString(16)}`;
    }
  }
  return undefined;
}

/** Indexes of the granules whose bits are set. */
export async function dirtyGranules(
  image: Image,
  entry: BitmapDirectoryEntry,
): Promise<Set<number>> {
  const { geometry } = image.metadata!;
  const table = new Uint8Array(entry.bitmapTableSize * 8);
  await image.storage.read(entry.bitmapTableOffset, table);
  const granularity = 2 ** entry.granularityBits;
  const coverage = bitmapClusterCoverage(entry.granularityBits, geometry);
  const dirty = new Set<number>();
  for (const [i, part] of parseBitmapTable(table, geometry).entries()) {
    const bits = new Uint8Array(geometry.clusterSize).fill(part.kind === 'ones' ? 0xff : 0);
    if (part.kind === 'data') await image.storage.read(part.hostOffset, bits);
    const ranges = dirtyRanges(bits, entry.granularityBits, image.virtualSize, i * coverage);
    for (const { offset, length } of ranges)
      for (let at = offset; at < offset + length; at += granularity) dirty.add(at / granularity);
  }
  return dirty;
}
