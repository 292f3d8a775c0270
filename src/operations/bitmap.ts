import { Qcow2Error, type Qcow2ErrorCode } from '../errors.ts';
import {
  BITMAP_AUTO,
  BITMAP_IN_USE,
  BITMAP_TYPE_DIRTY,
  type BitmapDirectoryEntry,
  bitmapEntryBytes,
} from '../format/bitmap-directory.ts';
import { bitmapTableNeeded } from '../format/bitmap-table.ts';
import { nameOf } from '../format/fields.ts';
import {
  MAX_BITMAP_DATA_BYTES,
  MAX_BITMAP_DIRECTORY_BYTES,
  MAX_BITMAP_GRANULARITY_BITS,
  MAX_BITMAP_NAME_BYTES,
  MAX_BITMAPS,
  MIN_BITMAP_GRANULARITY_BITS,
} from '../format/limits.ts';
import { BitmapReader } from '../image/bitmap-reader.ts';
import type { Image } from '../image/image.ts';
import type { WritableQcow2 } from '../image/writable-qcow2.ts';
import { changeBitmaps, mergedTable, newTable } from './bitmap-change.ts';

/** How a bitmap is made. */
export interface AddBitmapOptions {
  /** Guest bytes of one bit: a power of two, 512 to 2 GiB. Default: a cluster, but 4 to 64 KiB. */
  granularity?: number;
  /** Whether it records what is written from now on. Default true. */
  enabled?: boolean;
}

/** Clusters between which the default granularity is theirs. */
const LEAST_DEFAULT_GRANULARITY = 4096;
const MOST_DEFAULT_GRANULARITY = 65536;

/**
 * Adds a persistent dirty bitmap (format section 13) in which no bit is set. From then on every writer
 * records in it what changes, so that a backup need copy that only. Durable, as all changes of bitmaps.
 * @param image open for writing
 * @param name of 1 to 1023 bytes, unlike those of the other bitmaps
 * @throws Qcow2Error READ_ONLY; UNSUPPORTED: raw images, and those of version 2; INVALID_ARGUMENT: the
 *   name or the granularity; REFUSED: there is one of this name; TOO_LARGE: it would take too much
 *   space, or there are too many; BAD_ENTRY, TRUNCATED, IO
 * @example
 * import { addBitmap, openImage } from 'qcow2';
 *
 * const image = await openImage('vm.qcow2', { writable: true });
 * await addBitmap(image, 'since-monday', { granularity: 65536 });
 * await image.write(0, new Uint8Array(512)); // recorded
 * await image.close();
 */
export async function addBitmap(
  image: Image,
  name: string,
  { granularity, enabled = true }: AddBitmapOptions = {},
): Promise<void> {
  const given = nameOf(name);
  if (given.raw.length === 0) throw failure('INVALID_ARGUMENT', 'Bitmap name cannot be empty');
  if (name.includes('\0'))
    throw failure('INVALID_ARGUMENT', 'Bitmap name must not have zero bytes');
  const bits = granularity === undefined ? undefined : granularityBits(granularity);
  if (image.format === 'raw')
    throw failure(
      'UNSUPPORTED',
      `Can't store persistent bitmaps to '${image.storage.name}': Operation not supported for raw images`,
    );
  await image.withWritable((disk) => {
    const { geometry, virtualSize } = disk.header.metadata;
    const { entries } = disk.bitmaps;
    const refuse = (code: Qcow2ErrorCode, text: string): Qcow2Error =>
      failure(code, `Can't make bitmap '${name}' persistent in '${image.storage.name}': ${text}`);
    if (find(entries, name) !== undefined)
      throw failure('REFUSED', `Bitmap already exists: ${name}`);
    if (disk.header.header.version < 3)
      throw refuse('UNSUPPORTED', 'Cannot store dirty bitmaps in qcow2 v2 files');
    if (given.raw.length > MAX_BITMAP_NAME_BYTES)
      throw refuse(
        'INVALID_ARGUMENT',
        `Name length exceeds maximum (${MAX_BITMAP_NAME_BYTES} characters)`,
      );
    const entry: BitmapDirectoryEntry = {
      bitmapTableOffset: 0,
      bitmapTableSize: 0,
      flags: enabled ? BITMAP_AUTO : 0,
      type: BITMAP_TYPE_DIRTY,
      granularityBits: bits ?? defaultGranularityBits(geometry.clusterSize),
      extraData: new Uint8Array(0),
      name: given,
    };
    const size = bitmapTableNeeded(virtualSize, entry.granularityBits, geometry);
    if (size === 0)
      throw refuse('INVALID_ARGUMENT', 'the disk is empty, there is nothing to record');
    if (size > MAX_BITMAP_DATA_BYTES / geometry.clusterSize)
      throw refuse(
        'TOO_LARGE',
        'Too much space will be occupied by the bitmap. Use larger granularity',
      );
    if (entries.length >= MAX_BITMAPS)
      throw refuse('TOO_LARGE', 'Maximum number of persistent bitmaps is already reached');
    const bytes = entries.reduce((sum, each) => sum + bitmapEntryBytes(each), 0);
    if (bytes + bitmapEntryBytes(entry) > MAX_BITMAP_DIRECTORY_BYTES)
      throw refuse('TOO_LARGE', 'Not enough space in the bitmap directory');
    return changeBitmaps(disk, async (undo) => [...entries, await newTable(disk, entry, undo)]);
  });
}

/**
 * Removes a bitmap, also one that is inconsistent, and gives its space back.
 * @param image open for writing
 * @throws Qcow2Error NOT_FOUND; READ_ONLY; BAD_ENTRY, TRUNCATED, IO
 * @example
 * import { openImage, removeBitmap } from 'qcow2';
 *
 * const image = await openImage('vm.qcow2', { writable: true });
 * await removeBitmap(image, 'monday');
 * await image.close();
 */
export function removeBitmap(image: Image, name: string): Promise<void> {
  return onBitmap(image, name, (disk, entry) =>
    changeBitmaps(disk, async () => disk.bitmaps.entries.filter((each) => each !== entry)),
  );
}

/**
 * Clears all bits of a bitmap.
 * @param image open for writing
 * @throws Qcow2Error NOT_FOUND; REFUSED: it is inconsistent; READ_ONLY; BAD_ENTRY, TRUNCATED, IO
 * @example
 * import { clearBitmap, openImage } from 'qcow2';
 *
 * const image = await openImage('vm.qcow2', { writable: true });
 * await clearBitmap(image, 'monday'); // a backup was made
 * await image.close();
 */
export function clearBitmap(image: Image, name: string): Promise<void> {
  return onUsable(image, name, (disk, entry) =>
    changeBitmaps(disk, async (undo) => replace(disk, entry, await newTable(disk, entry, undo))),
  );
}

/**
 * Makes a bitmap record what is written from now on.
 * @param image open for writing
 * @throws Qcow2Error as `clearBitmap`
 * @example
 * import { enableBitmap, openImage } from 'qcow2';
 *
 * const image = await openImage('vm.qcow2', { writable: true });
 * await enableBitmap(image, 'monday');
 * await image.close();
 */
export function enableBitmap(image: Image, name: string): Promise<void> {
  return setFlags(image, name, BITMAP_AUTO);
}

/**
 * Makes a bitmap stay as it is, whatever is written.
 * @param image open for writing
 * @throws Qcow2Error as `clearBitmap`
 * @example
 * import { disableBitmap, openImage } from 'qcow2';
 *
 * const image = await openImage('vm.qcow2', { writable: true });
 * await disableBitmap(image, 'monday');
 * await image.close();
 */
export function disableBitmap(image: Image, name: string): Promise<void> {
  return setFlags(image, name, 0);
}

/**
 * Adds the bits of another bitmap. Of a coarser one, all of each granule counts; of a finer one, the
 * granules that it touches.
 * @param image open for writing
 * @param source name of the other bitmap
 * @param from the image that has it; default the same
 * @throws Qcow2Error NOT_FOUND; REFUSED: one of the two is inconsistent; INVALID_ARGUMENT: `from` has a
 *   disk of another size; READ_ONLY; MALFORMED, BAD_ENTRY, TRUNCATED, IO
 * @example
 * import { mergeBitmap, openImage } from 'qcow2';
 *
 * const image = await openImage('vm.qcow2', { writable: true });
 * await mergeBitmap(image, 'monday', 'tuesday'); // what has changed since monday
 * await image.close();
 */
export function mergeBitmap(
  image: Image,
  name: string,
  source: string,
  from: Image = image,
): Promise<void> {
  return onUsable(image, name, async (disk, entry) => {
    const isOwn = from === image;
    const { identity } = image.storage;
    if (!isOwn && identity !== undefined && identity === from.storage.identity) {
      const text = `the source '${from.storage.name}' is the image itself, opened once more; leave it out`;
      throw failure('INVALID_ARGUMENT', text);
    }
    const added = find(isOwn ? disk.bitmaps.entries : await from.bitmaps(), source);
    if (added === undefined) throw notFound(source);
    requireUsable(added);
    const { geometry, virtualSize } = isOwn ? disk.header.metadata : from.metadata!;
    if (virtualSize !== disk.header.metadata.virtualSize) {
      const sizes = `destination size is ${disk.header.metadata.virtualSize}, source size is ${virtualSize}`;
      const text = `Bitmaps are of different sizes (${sizes}) and can't be merged`;
      throw failure('INVALID_ARGUMENT', text);
    }
    await changeBitmaps(disk, async (undo) => {
      const reader = await BitmapReader.open(from.storage, added, geometry);
      reader.requireOwnClusters();
      const more = { reader, granularityBits: added.granularityBits };
      return replace(disk, entry, await mergedTable(disk, entry, more, undo));
    });
  });
}

function setFlags(image: Image, name: string, flags: number): Promise<void> {
  return onUsable(image, name, (disk, entry) =>
    changeBitmaps(disk, async () => replace(disk, entry, { ...entry, flags })),
  );
}

/** Works on the bitmap of a name. */
function onBitmap(
  image: Image,
  name: string,
  work: (disk: WritableQcow2, entry: BitmapDirectoryEntry) => Promise<void>,
): Promise<void> {
  if (image.format === 'raw') return Promise.reject(notFound(name));
  return image.withWritable((disk) => {
    const entry = find(disk.bitmaps.entries, name);
    if (entry === undefined) throw notFound(name);
    return work(disk, entry);
  });
}

function onUsable(image: Image, name: string, work: Parameters<typeof onBitmap>[2]): Promise<void> {
  return onBitmap(image, name, (disk, entry) => {
    requireUsable(entry);
    return work(disk, entry);
  });
}

/** What has extra data nobody here understands cannot be kept right. */
function requireUsable({ flags, extraData, name }: BitmapDirectoryEntry): void {
  if ((flags & BITMAP_IN_USE) !== 0)
    throw failure(
      'REFUSED',
      `Bitmap '${name.text}' is inconsistent and cannot be used; remove it from the image`,
    );
  if (extraData.length > 0)
    throw failure(
      'REFUSED',
      `Bitmap '${name.text}' has extra data that is not known; it can only be removed`,
    );
}

function replace(
  disk: WritableQcow2,
  old: BitmapDirectoryEntry,
  now: BitmapDirectoryEntry,
): BitmapDirectoryEntry[] {
  return disk.bitmaps.entries.map((each) => (each === old ? now : each));
}

/** The bitmap whose name has these bytes. */
function find(
  entries: readonly BitmapDirectoryEntry[],
  name: string,
): BitmapDirectoryEntry | undefined {
  const { raw } = nameOf(name);
  return entries.find((entry) => {
    const other = entry.name.raw;
    return other.length === raw.length && other.every((byte, i) => byte === raw[i]);
  });
}

function granularityBits(granularity: number): number {
  const bits = Math.log2(granularity);
  if (
    Number.isInteger(bits) &&
    bits >= MIN_BITMAP_GRANULARITY_BITS &&
    bits <= MAX_BITMAP_GRANULARITY_BITS
  )
    return bits;
  const least = 2 ** MIN_BITMAP_GRANULARITY_BITS;
  const text =
    bits > MAX_BITMAP_GRANULARITY_BITS && Number.isInteger(bits)
      ? `Granularity exceeds maximum (${2 ** MAX_BITMAP_GRANULARITY_BITS} bytes)`
      : `Granularity must be power of 2 and at least ${least}`;
  throw failure('INVALID_ARGUMENT', text);
}

function defaultGranularityBits(clusterSize: number): number {
  const most = Math.min(clusterSize, MOST_DEFAULT_GRANULARITY);
  return Math.log2(Math.max(most, LEAST_DEFAULT_GRANULARITY));
}

function notFound(name: string): Qcow2Error {
  return failure('NOT_FOUND', `Dirty bitmap '${name}' not found`);
}

function failure(code: Qcow2ErrorCode, text: string): Qcow2Error {
  return new Qcow2Error(code, text, { structure: 'bitmap directory' });
}
