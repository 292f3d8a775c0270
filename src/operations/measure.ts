import { Qcow2Error } from '../errors.ts';
import { BITMAP_IN_USE, bitmapEntryBytes } from '../format/bitmap-directory.ts';
import { MAX_L1_BYTES, SECTOR_SIZE } from '../format/limits.ts';
import type { Image } from '../image/image.ts';
import type { NewImageOptions } from '../image/new-image.ts';
import { STATUS_ALLOCATED, STATUS_DATA, STATUS_ZERO, StatusRuns } from './block-status.ts';
import { type OperationControl, throwIfAborted } from './control.ts';

/** What the new image is to be like. */
export interface MeasureOptions extends OperationControl {
  format: 'raw' | 'qcow2';
  /** Of a new qcow2 image; what does not change its size is not looked at. */
  create?: Omit<NewImageOptions, 'size'>;
}

/** How much space a new image takes. All in bytes. */
export interface MeasureResult {
  /** Length of the file when it holds what the source holds. */
  required: number;
  /** Length of the file when every cluster of the disk has been written. */
  fullyAllocated: number;
  /** What copies of the source's bitmaps take besides; absent if source or target cannot have any. */
  bitmaps?: number;
}

/** Ranges looked at between two reports. */
const REPORT_RUNS = 4096;

/**
 * Tells how much space an image would take when it is converted, or created and then filled. The
 * numbers are those of qemu-img, an upper bound: data is counted as it is mapped, not read, and
 * compression and external data files are not taken off.
 * @param source the image to be converted, or the size of a new disk in bytes
 * @throws Qcow2Error INVALID_ARGUMENT, TOO_LARGE, ABORTED, and what mapping the source throws
 * @example
 * import { measure, openImage } from 'qcow2';
 *
 * const image = await openImage('disk.qcow2');
 * const { required, fullyAllocated } = await measure(image, { format: 'qcow2' });
 * console.log(`${required} bytes now, ${fullyAllocated} when the disk is full`);
 * await image.close();
 */
export async function measure(
  source: Image | number,
  options: MeasureOptions,
): Promise<MeasureResult> {
  throwIfAborted(options.signal, 'measuring');
  const size = typeof source === 'number' ? source : source.virtualSize;
  if (!Number.isSafeInteger(size) || size < 0)
    throw new Qcow2Error('INVALID_ARGUMENT', `image size ${size} is out of range`);
  const image = typeof source === 'number' ? undefined : source;
  if (options.format === 'raw') {
    const whole = alignUp(size, SECTOR_SIZE);
    return { required: whole, fullyAllocated: whole };
  }
  const create = options.create ?? {};
  const shape = shapeOf(create);
  const disk = alignUp(size, shape.clusterSize);
  const metadata = metadataBytes(disk, shape);
  const fullyAllocated = metadata + disk;
  const data = isWholeDisk(create, image)
    ? disk
    : image
      ? await dataBytes(image, shape.clusterSize, options)
      : 0;
  const result: MeasureResult = { required: metadata + data, fullyAllocated };
  const bitmaps = image && create.compat !== '0.10' ? await bitmapBytes(image, shape) : undefined;
  return bitmaps === undefined ? result : { ...result, bitmaps };
}

/** The options that decide how large metadata are. Sizes in bytes. */
interface Shape {
  clusterSize: number;
  l2EntrySize: 8 | 16;
  refcountBits: number;
}

function shapeOf(create: Omit<NewImageOptions, 'size'>): Shape {
  const fail = (text: string): never => {
    throw new Qcow2Error('INVALID_ARGUMENT', text);
  };
  const { clusterSize = 65536, refcountBits = 16, extendedL2 = false } = create;
  if (!Number.isInteger(Math.log2(clusterSize)) || clusterSize < 512 || clusterSize > 2 ** 21)
    fail('Cluster size must be a power of two between 512 and 2048k');
  if (extendedL2 && clusterSize < 16384)
    fail('Extended L2 entries are only supported with cluster sizes of at least 16384 bytes');
  if (![1, 2, 4, 8, 16, 32, 64].includes(refcountBits))
    fail('Refcount width must be a power of two and may not exceed 64 bits');
  if (create.compat === '0.10' && refcountBits !== 16)
    fail('Refcount widths other than 16 bits require compat=1.1 or above');
  return { clusterSize, refcountBits, l2EntrySize: extendedL2 ? 16 : 8 };
}

/** Header, L1 and L2 tables and refcounts of an image whose whole disk is mapped. */
function metadataBytes(disk: number, { clusterSize, l2EntrySize, refcountBits }: Shape): number {
  const clusters = disk / clusterSize;
  const l2Tables = Math.ceil((clusters * l2EntrySize) / clusterSize);
  if (l2Tables * 8 > MAX_L1_BYTES) {
    const text = `image size ${disk} needs an L1 table of ${l2Tables * 8} bytes, more than ${MAX_L1_BYTES}; choose larger clusters`;
    throw new Qcow2Error('TOO_LARGE', text, { structure: 'L1 table', value: l2Tables });
  }
  const l1Clusters = Math.ceil((l2Tables * 8) / clusterSize);
  const counted = 1 + l1Clusters + l2Tables + clusters;
  const perBlock = (clusterSize * 8) / refcountBits;
  // Refcount blocks and the table of them count themselves, too.
  let refcounts = 0;
  for (let before = -1; refcounts !== before; ) {
    before = refcounts;
    const blocks = Math.ceil((counted + refcounts) / perBlock);
    refcounts = blocks + Math.ceil((blocks * 8) / clusterSize);
  }
  return (1 + l1Clusters + l2Tables + refcounts) * clusterSize;
}

/**
 * Whether the whole disk counts as data: it is filled ahead; or the new image has a backing file, since
 * nothing is known of what it shares with the source.
 */
function isWholeDisk(
  { preallocation, backingFile }: Omit<NewImageOptions, 'size'>,
  image: Image | undefined,
): boolean {
  if (preallocation === 'full' || preallocation === 'falloc') return true;
  return image !== undefined && backingFile !== undefined;
}

/** Bytes of the new clusters that data of the source falls into. */
async function dataBytes(
  image: Image,
  clusterSize: number,
  { onProgress, signal }: OperationControl,
): Promise<number> {
  const runs = await StatusRuns.open(image, { holes: true });
  let bytes = 0;
  /** Up to here clusters are counted. */
  let counted = 0;
  for (let turn = 0; ; turn++) {
    const next = runs.next();
    if (!(typeof next === 'boolean' ? next : await next)) return bytes;
    if (isData(runs.flags)) {
      const from = Math.max(counted, runs.start - (runs.start % clusterSize));
      counted = Math.max(counted, alignUp(runs.end, clusterSize));
      bytes += Math.max(0, counted - from);
    }
    if (turn % REPORT_RUNS !== 0) continue;
    throwIfAborted(signal, 'measuring');
    await onProgress?.(runs.end, image.virtualSize);
  }
}

function isData(flags: number): boolean {
  const wanted = STATUS_DATA | STATUS_ALLOCATED;
  return (flags & (wanted | STATUS_ZERO)) === wanted;
}

/** Bitmaps, their tables and their directory; undefined for an image that cannot have bitmaps. */
async function bitmapBytes(image: Image, { clusterSize }: Shape): Promise<number | undefined> {
  if (image.metadata === undefined || image.metadata.header.version === 2) return undefined;
  let clusters = 0;
  let directory = 0;
  for (const entry of await image.bitmaps()) {
    // What was not closed properly is not copied.
    if ((entry.flags & BITMAP_IN_USE) !== 0) continue;
    const bits = Math.ceil(image.metadata.virtualSize / 2 ** entry.granularityBits);
    const own = Math.ceil(bits / 8 / clusterSize);
    clusters += own + Math.ceil((own * 8) / clusterSize);
    directory += bitmapEntryBytes({ ...entry, extraData: new Uint8Array(0) });
  }
  return (clusters + Math.ceil(directory / clusterSize)) * clusterSize;
}

function alignUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}
