import { Qcow2Error } from '../errors.ts';
import { AUTOCLEAR_RAW_DATA_FILE, COMPATIBLE_LAZY_REFCOUNTS } from '../format/feature-bits.ts';
import { COMPRESSION_ZSTD, CRYPT_NONE } from '../format/header.ts';
import type { Image } from '../image/image.ts';
import type { NewImageOptions } from '../image/new-image.ts';
import { map } from '../operations/map.ts';
import { type OpenImageOptions, openChain } from './open-image.ts';

/** Whether anything but zeros is mapped from guest offset `start` on. */
async function holdsData(image: Image, start: number): Promise<boolean> {
  if (start === image.virtualSize) return false;
  for await (const entry of map(image, { start })) if (entry.data) return true;
  return false;
}

/**
 * The options of an existing qcow2 image whose contents are to be replaced: it is written anew with
 * the same options, so that it, too, is either the old image or the whole new one.
 * @param allowExternal where its data file and backing file may lie, as when it is opened
 * @throws Qcow2Error REFUSED if the image holds what would be lost (snapshots, bitmaps, a key), and
 *   those of opening it and the files it names
 */
export async function existingTarget(
  path: string,
  sourceSize: number,
  allowExternal: OpenImageOptions['allowExternal'],
): Promise<NewImageOptions> {
  // Opens the data file through the gate: the name is the image's, and what has it is replaced.
  const image = await openChain(path, { format: 'qcow2', allowExternal, sync: true });
  try {
    const { header, geometry, backingFile, backingFormat, dataFile } = image.metadata!;
    const bitmaps = await image.bitmaps();
    if (header.nbSnapshots > 0 || bitmaps.length > 0 || header.cryptMethod !== CRYPT_NONE) {
      const text = `target '${path}' holds snapshots, bitmaps or a key, which replacing its contents would lose; convert to a new file`;
      throw new Qcow2Error('REFUSED', text, { file: path });
    }
    if (image.virtualSize < sourceSize) {
      const text = `target '${path}' of ${image.virtualSize} bytes is smaller than the source of ${sourceSize} bytes`;
      throw new Qcow2Error('INVALID_ARGUMENT', text, { file: path });
    }
    if (await holdsData(image, sourceSize)) {
      const text = `target '${path}' holds data behind the ${sourceSize} bytes of the source, which replacing its contents would lose; convert to a new file`;
      throw new Qcow2Error('REFUSED', text, { file: path });
    }
    return {
      size: image.virtualSize,
      clusterSize: geometry.clusterSize,
      compat: header.version === 2 ? '0.10' : '1.1',
      refcountBits: geometry.refcountBits,
      extendedL2: geometry.extendedL2,
      lazyRefcounts: (header.compatibleFeatures & COMPATIBLE_LAZY_REFCOUNTS) !== 0n,
      compressionType: header.compressionType === COMPRESSION_ZSTD ? 'zstd' : 'zlib',
      dataFileRaw: (header.autoclearFeatures & AUTOCLEAR_RAW_DATA_FILE) !== 0n,
      ...(dataFile && { dataFile: dataFile.text }),
      ...(backingFile && { backingFile: backingFile.text }),
      ...(backingFormat && { backingFormat }),
    };
  } finally {
    await image.close();
  }
}
