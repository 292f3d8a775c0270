import { Qcow2Error } from '../errors.ts';
import { AUTOCLEAR_RAW_DATA_FILE } from '../format/feature-bits.ts';
import { nameOf } from '../format/fields.ts';
import type { Image } from '../image/image.ts';
import type { Metadata } from '../image/metadata.ts';
import { type RecordedBacking, withBacking } from '../image/recorded-backing.ts';
import { type OperationControl, pacer } from './control.ts';
import { openRanges } from './rebase-plan.ts';
import { UnitCopier } from './unit-copier.ts';

/** A backing file an overlay is to have. */
export interface NewBacking {
  /** What the overlay records: a path, from its own folder if it is relative. */
  name: string;
  format: 'qcow2' | 'raw';
}

/** How an overlay gets another backing file. */
export interface RebaseOptions extends OperationControl {
  /** Absent: none; the image stands for itself then. */
  backing?: NewBacking | undefined;
  /** The new backing file, open; it stays open. */
  backingImage?: Image | undefined;
  /** Only records the name: the disk is what the new file makes of it. No other file is opened. */
  unsafe?: boolean;
}

/**
 * Gives an overlay another backing file, or none. Its disk stays what it is: where the two backing files
 * differ, what the old one holds is copied into the overlay, and when all of that is durable the new name
 * is recorded. A cut leaves the old backing file or the new one, and the same disk. What internal
 * snapshots leave to the backing file is not copied: they show the new one's.
 * @param image open for writing; afterwards only `close` may follow
 * @throws Qcow2Error INVALID_ARGUMENT: no `backingImage` for a name; REFUSED: the backing file is the
 *   image itself or lies above it, or the image's data file is to be a raw disk by itself; UNSUPPORTED: a
 *   raw image; TOO_LARGE: the name does not fit the header; READ_ONLY; ABORTED; and those of reading
 *   and writing
 * @example
 * import { openImage, rebase } from 'qcow2';
 *
 * const image = await openImage('overlay.qcow2', { writable: true });
 * await rebase(image, {}); // all it needs from disk.qcow2 is its own now
 * await image.close();
 */
export async function rebase(image: Image, options: RebaseOptions = {}): Promise<void> {
  const { backingImage, unsafe = false, signal, onProgress } = options;
  const backing = recorded(options.backing);
  requirePossible(image.metadata, backing);
  const total = image.virtualSize;
  await onProgress?.(0, total);
  if (!unsafe) {
    if (backing !== undefined && backingImage === undefined) {
      const text = `backing file '${backing.name.text}' must be open for its contents to be compared; pass it as backingImage`;
      throw new Qcow2Error('INVALID_ARGUMENT', text);
    }
    const below = backing && backingImage;
    if (below !== undefined) await requireOutside(image, below);
    const step = pacer(signal, 'the change of the backing file');
    await copyDifferences(image, below, async (done) => {
      await step();
      await onProgress?.(done, total);
    });
  }
  await image.changeBacking(backing);
  await onProgress?.(total, total);
}

function recorded(backing: NewBacking | undefined): RecordedBacking | undefined {
  return backing && { name: nameOf(backing.name), format: backing.format };
}

/** Refuses before anything is copied what would be refused afterwards. */
function requirePossible(
  metadata: Metadata | undefined,
  backing: RecordedBacking | undefined,
): void {
  if (metadata === undefined) return;
  withBacking(metadata, backing);
  if (backing === undefined) return;
  if ((metadata.header.autoclearFeatures & AUTOCLEAR_RAW_DATA_FILE) === 0n) return;
  const text =
    'the external data file is to be a usable raw image by itself, which one with a backing file is not';
  throw new Qcow2Error('REFUSED', text, { structure: 'header autoclear_features' });
}

/** A backing file must not lead to the image again. */
async function requireOutside(image: Image, backing: Image): Promise<void> {
  const { identity } = image.storage;
  if (identity === undefined) return;
  for (const { layer } of (await backing.chain()).layers) {
    if (layer.storage.identity !== identity) continue;
    const text = `'${image.storage.name}' is part of the new backing chain; an image must not refer back to itself`;
    throw new Qcow2Error('REFUSED', text, { structure: 'backing chain' });
  }
}

/** Makes the overlay hold all in which the new backing file differs from what it has below now. */
async function copyDifferences(
  image: Image,
  backing: Image | undefined,
  step: (done: number) => Promise<void>,
): Promise<void> {
  const { unit, version } = await image.withWritable(async (disk) => {
    disk.expectBacking();
    const { geometry, header } = disk.header.metadata;
    return { unit: geometry.subclusterSize, version: header.version };
  });
  const storesZeros = version === 2;
  const copier = await UnitCopier.prepare({ image, backing, unit, storesZeros });
  try {
    await copier.copy(openRanges(image, backing, unit), step);
  } finally {
    copier.release();
  }
}
