import type { BitmapDirectoryEntry } from '../format/bitmap-directory.ts';
import { viewOf } from '../format/fields.ts';
import type { WriteBack } from './write-back.ts';

/** Byte of `flags` in a directory entry. */
const FLAGS_AT = 12;

/** A bitmap; of an enabled one what was written since the image was opened, by cluster of its data. */
export interface Recorded {
  entry: BitmapDirectoryEntry;
  /** Host offset of its directory entry. */
  offset: number;
  /** Bits set since, for each entry of its table that is touched. */
  chunks: Map<number, Uint8Array>;
}

/**
 * Marks bitmaps in use, or with 0 takes the mark away, durably. What has extra data nobody here
 * understands stays marked.
 */
export async function setInUse(
  bitmaps: readonly Recorded[],
  inUse: number,
  { file }: WriteBack,
): Promise<void> {
  for (const { entry, offset } of bitmaps) {
    if (inUse === 0 && entry.extraData.length > 0) continue;
    const flags = new Uint8Array(4);
    viewOf(flags).setUint32(0, entry.flags | inUse);
    await file.write(offset + FLAGS_AT, flags);
  }
  await file.sync();
}
