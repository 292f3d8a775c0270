import * as fs from 'node:fs';
import * as path from 'node:path';
import { Qcow2Error } from '../errors.ts';
import { type AdoptOptions, adopt } from '../operations/adopt.ts';
import { FileStorage, ioError } from '../storage/file.ts';
import { withTargets } from './create-file.ts';

/** A new image around a raw disk. */
export interface AdoptFileOptions extends Omit<AdoptOptions, 'dataFile'> {
  /** Path of the raw disk. */
  disk: string;
  /** Path of the new image; there must be nothing. */
  path: string;
}

/** What an adoption has made. */
export interface AdoptFileResult {
  /** Of the virtual disk, in bytes. */
  size: number;
  /** Name recorded for the disk: as it was given if absolute, else relative to the image's folder. */
  dataFile: string;
}

/**
 * Makes a qcow2 image whose external data file is an existing raw disk; nothing of the disk is copied or
 * changed. See `adopt`.
 * @throws Qcow2Error NOT_FOUND, REFUSED (the disk is no regular file, is an image of a format or in
 *   use; there is a file where the image is to be), INVALID_ARGUMENT, TOO_LARGE, ABORTED, IO
 * @example
 * import { adoptFile, openImage } from 'qcow2';
 *
 * const { size } = await adoptFile({ disk: 'disk.raw', path: 'around.qcow2' });
 * const image = await openImage('around.qcow2');
 * console.log(image.virtualSize === size); // true
 * await image.close();
 */
export async function adoptFile(options: AdoptFileOptions): Promise<AdoptFileResult> {
  const { disk, path: file, ...rest } = options;
  // Meanwhile nobody may write to the disk: which parts are holes is recorded.
  const storage = new FileStorage(disk, { sync: true });
  try {
    if (fs.existsSync(file)) {
      const text = `Could not create '${file}': there is a file of this name, which might be the disk; remove it or choose another name`;
      throw new Qcow2Error('REFUSED', text, { file });
    }
    const dataFile = recordedName(disk, file);
    let size = 0;
    await withTargets(file, undefined, async (image) => {
      size = await adopt(image.storage, storage, { ...rest, dataFile });
    });
    return { size, dataFile };
  } finally {
    storage.close();
  }
}

/** Relative names are taken from the image's folder, wherever the program runs that opens it. */
function recordedName(disk: string, file: string): string {
  if (path.isAbsolute(disk)) return disk;
  const name = path.relative(realFolder(file), path.join(realFolder(disk), path.basename(disk)));
  // A colon in the first part would be taken for a protocol.
  return /^[^/]*:/.test(name) ? `./${name}` : name;
}

/** Where the folder of a file really is: `..` in a name leads out of there. */
function realFolder(file: string): string {
  const folder = path.dirname(file);
  try {
    return fs.realpathSync.native(folder);
  } catch (cause) {
    throw ioError(cause, `Could not open '${folder}'`, folder);
  }
}
