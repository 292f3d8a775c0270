import { hex, isQcow2Error } from '../errors.ts';
import type { BitmapDirectoryEntry } from '../format/bitmap-directory.ts';
import { validateBitmapTableSize } from '../format/bitmap-table.ts';
import { findExtension } from '../format/header-extensions.ts';
import { coverage } from './check-coverage.ts';
import type { CheckedFile } from './check-file.ts';
import { readBitmaps } from './metadata.ts';

const TWO_32 = 2 ** 32;

/**
 * Counts bitmap directory, tables and data clusters (format section 13).
 * @throws Qcow2Error MALFORMED: a broken directory, with which the image does not open
 */
export async function addBitmaps(file: CheckedFile): Promise<void> {
  const bitmaps = await readBitmaps(file.storage, file.metadata);
  const pointer = findExtension(file.metadata.extensions, 'bitmaps')?.pointer;
  if (pointer === undefined || bitmaps.length === 0) return;
  const { bitmapDirectoryOffset: directory, bitmapDirectorySize } = pointer;
  file.addRegion('bitmap directory', directory, directory, bitmapDirectorySize);
  for (const bitmap of bitmaps) {
    const at = bitmap.bitmapTableOffset;
    file.addRegion('bitmap table', at, at, bitmap.bitmapTableSize * 8);
    checkTableSize(file, bitmap);
  }
  const spans = bitmaps.map(({ bitmapTableOffset: start, bitmapTableSize }) => ({
    start,
    end: start + bitmapTableSize * 8,
  }));
  for (const { start, end, times } of coverage(spans)) await addTable(file, start, end, times);
}

function checkTableSize(file: CheckedFile, bitmap: BitmapDirectoryEntry): void {
  try {
    validateBitmapTableSize(bitmap, file.metadata.virtualSize, file.geometry);
  } catch (error) {
    if (!isQcow2Error(error)) throw error;
    const at = bitmap.bitmapTableOffset;
    file.findings.addLost('bitmap table', at, 1, () => `ERROR ${error.message}`);
  }
}

function addTable(file: CheckedFile, start: number, end: number, times: number): Promise<void> {
  const { clusterSize } = file.geometry;
  return file.eachPart(start, end, (pointer, offset, bytes) => {
    // Counting makes memory grow: the part is looked at as a copy.
    const view = new DataView(file.kernel.arena.u8.slice(pointer, pointer + bytes).buffer);
    for (let pos = 0; pos + 8 <= bytes; pos += 8) {
      const high = view.getUint32(pos);
      const low = view.getUint32(pos + 4);
      const host = (high & 0xffffff) * TWO_32 + ((low & ~0x1ff) >>> 0);
      const reserved = (high & 0xff000000) !== 0 || (low & 0x1fe) !== 0;
      const at = offset + pos;
      if (reserved || host % clusterSize !== 0 || (host !== 0 && (low & 1) !== 0)) {
        file.findings.addLost('bitmap table entry', at, times, () => {
          return `ERROR bitmap table entry at ${hex(at)} is invalid: ${hex(view.getBigUint64(pos))}`;
        });
      } else if (host !== 0) {
        file.addRegion('bitmap table entry', at, host, clusterSize, times);
      }
    }
  });
}
