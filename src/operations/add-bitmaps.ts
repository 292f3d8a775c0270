import { Qcow2Error } from '../errors.ts';
import { encodeBitmapDirectory } from '../format/bitmap-directory.ts';
import { AUTOCLEAR_BITMAPS } from '../format/feature-bits.ts';
import { clustersFor } from '../format/geometry.ts';
import { bitmapsExtension, findExtension } from '../format/header-extensions.ts';
import { MAX_BITMAPS } from '../format/limits.ts';
import type { Image } from '../image/image.ts';
import { readBitmaps } from '../image/metadata.ts';
import {
  type BitmapCopying,
  type BitmapsToCopy,
  bitmapsToCopy,
  copyBitmapsTo,
} from './copy-bitmaps.ts';

/**
 * Picks the bitmaps of the source that an existing image is to have too, before anything is written.
 * @throws Qcow2Error those of `bitmapsToCopy`; REFUSED: the image has one of that name, or too many;
 *   UNSUPPORTED: its version has none
 */
export async function bitmapsToAdd(
  images: readonly Image[],
  target: Image,
  copying: BitmapCopying,
): Promise<BitmapsToCopy> {
  const { geometry, header } = target.metadata!;
  if (header.version < 3) {
    const text = "Format driver 'qcow2' does not support bitmaps with compat=0.10";
    throw new Qcow2Error('UNSUPPORTED', text, { structure: 'header version' });
  }
  const bitmaps = await bitmapsToCopy(images, target.virtualSize, geometry, copying);
  const present = await target.bitmaps();
  for (const { name } of bitmaps.entries)
    if (present.some((each) => each.name.text === name.text)) {
      const text = `Failed to create bitmap ${name.text}: Bitmap already exists: ${name.text}`;
      throw new Qcow2Error('REFUSED', text, { structure: 'bitmap directory' });
    }
  if (present.length + bitmaps.entries.length <= MAX_BITMAPS) return bitmaps;
  const text = `an image has at most ${MAX_BITMAPS} bitmaps; remove some first`;
  throw new Qcow2Error('REFUSED', text, { structure: 'bitmap directory' });
}

/**
 * Adds copies of bitmaps to an image that is open for writing, durably: all of them, or none.
 * @throws Qcow2Error those of reading and writing
 */
export async function addBitmaps(
  target: Image,
  bitmaps: BitmapsToCopy,
  step: () => void | Promise<void>,
): Promise<void> {
  if (bitmaps.entries.length === 0) return;
  const old = await target.reformat(async ({ allocator, writeBack, header }) => {
    const { metadata } = header;
    const { geometry, virtualSize, extensions } = metadata;
    const { file } = writeBack;
    const sink = {
      geometry,
      diskSize: virtualSize,
      table: (clusters: number) => allocator.allocateClusters(clusters),
      cluster: () => allocator.allocateClusters(1),
      write: (offset: number, bytes: Uint8Array) => file.write(offset, bytes),
    };
    const present = await readBitmaps(file.storage, metadata);
    const directory = [...present, ...(await copyBitmapsTo(sink, bitmaps, step))];
    const bytes = encodeBitmapDirectory(directory);
    const offset = await allocator.allocateClusters(clustersFor(bytes.length, geometry));
    await file.write(offset, bytes);
    await writeBack.commitAll();
    await writeBack.barrier();
    const pointer = bitmapsExtension({
      nbBitmaps: directory.length,
      bitmapDirectorySize: bytes.length,
      bitmapDirectoryOffset: offset,
    });
    const autoclearFeatures = header.header.autoclearFeatures | AUTOCLEAR_BITMAPS;
    const others = extensions.filter(({ kind }) => kind !== 'bitmaps');
    await header.rewrite({ autoclearFeatures }, [...others, pointer]);
    // Of bitmaps that were not in sync nothing is known but the pointer.
    return present.length > 0 ? findExtension(extensions, 'bitmaps')?.pointer : undefined;
  });
  await target.withWritable(async (disk) => {
    const { geometry } = disk.header.metadata;
    if (old !== undefined)
      await disk.releaseClusters(
        old.bitmapDirectoryOffset,
        clustersFor(old.bitmapDirectorySize, geometry),
      );
    await disk.settle();
  });
}
