import { hex, Qcow2Error } from '../errors.ts';
import {
  AUTOCLEAR_RAW_DATA_FILE,
  COMPATIBLE_LAZY_REFCOUNTS,
  INCOMPATIBLE_COMPRESSION_TYPE,
  INCOMPATIBLE_DIRTY,
} from '../format/feature-bits.ts';
import { SECTOR_SIZE } from '../format/limits.ts';
import { vmStateSize } from '../format/snapshot-table.ts';
import type { Image } from '../image/image.ts';
import type { Metadata } from '../image/metadata.ts';
import { changeHeader, changeRefcountWidth, downgrade, upgrade } from './amend-steps.ts';
import { type OperationControl, pacer } from './control.ts';
import { resize } from './resize.ts';

/** What an image is to be like; what is not given stays as it is. */
export interface AmendOptions extends OperationControl {
  /** `0.10` is version 2 of the format, `1.1` version 3. */
  compat?: '0.10' | '1.1';
  /** Let writers postpone refcount updates. */
  lazyRefcounts?: boolean;
  /** Width of a reference counter: 1, 2, 4, 8, 16, 32 or 64. */
  refcountBits?: number;
  /** Only what is recorded already: another backing file changes what the disk reads. */
  backingFile?: string;
  /** Only what is recorded already; together with `backingFile`. */
  backingFormat?: string;
  /** The name recorded for the external data file. Nothing is opened or moved. */
  dataFile?: string;
  /** `false`: the data file need not stay valid as a raw image. */
  dataFileRaw?: boolean;
  /** Length of the disk in bytes. What is behind a shorter one's end is lost. 0: as it is. */
  size?: number;
}

/** The parts of an amendment that change something. */
interface Amendment {
  upgrades: boolean;
  downgrades: boolean;
  refcountOrder: number | undefined;
  lazyRefcounts: boolean | undefined;
  dataFile: string | undefined;
  dataFileRaw: false | undefined;
  size: number | undefined;
}

/**
 * Changes options of a qcow2 image that is open for writing, durably (format sections 2 to 6, 16). All of
 * them are checked before anything changes, but for what only the whole image tells: counters that
 * are too high for `refcountBits`, and zstd clusters that version 2 cannot have. If it fails or is aborted
 * half-way, each option has the old value or the new one. Progress is told in steps.
 * @throws Qcow2Error INVALID_ARGUMENT: no such value; REFUSED, UNSUPPORTED, TOO_LARGE: not with this image;
 *   READ_ONLY; ABORTED; BAD_ENTRY, TRUNCATED, IO
 * @example
 * import { amend, create, Image, MemoryStorage } from 'qcow2';
 *
 * const storage = new MemoryStorage();
 * await create(storage, { format: 'qcow2', size: 1024 ** 3 });
 * const image = await Image.open(storage, { writable: true });
 * await amend(image, { refcountBits: 64, lazyRefcounts: true });
 * console.log(image.metadata?.geometry.refcountBits); // 64
 * await image.close();
 */
export async function amend(image: Image, options: AmendOptions): Promise<void> {
  const { signal, onProgress } = options;
  const step = pacer(signal, 'the amendment');
  const steps = stepsOf(image, await plan(image, options), step, signal);
  for (const [done, work] of steps.entries()) {
    await onProgress?.(done, steps.length);
    await step();
    await work();
  }
  await onProgress?.(steps.length, steps.length);
}

/** First to version 3, so that it can have all else; last to version 2. */
function stepsOf(
  image: Image,
  change: Amendment,
  step: () => void | Promise<void>,
  signal: AbortSignal | undefined,
): (() => Promise<void>)[] {
  const { refcountOrder, size, lazyRefcounts, dataFile, dataFileRaw } = change;
  const fields = { lazyRefcounts, dataFile, dataFileRaw };
  const steps: (() => Promise<void>)[] = [];
  if (change.upgrades) steps.push(() => upgrade(image));
  if (refcountOrder !== undefined)
    steps.push(() => changeRefcountWidth(image, refcountOrder, step));
  if (Object.values(fields).some((value) => value !== undefined))
    steps.push(() => changeHeader(image, fields));
  if (size !== undefined) steps.push(() => resize(image, size, { shrink: true, signal }));
  if (change.downgrades) steps.push(() => downgrade(image, step));
  return steps;
}

/** Checks what is asked for; leaves out what is so already. */
async function plan(image: Image, options: AmendOptions): Promise<Amendment> {
  const { metadata } = image;
  if (metadata === undefined) {
    const text = "Format driver 'raw' does not support option amendment";
    throw new Qcow2Error('UNSUPPORTED', text, { structure: 'image format' });
  }
  const { header, geometry } = metadata;
  const { compat, lazyRefcounts, refcountBits = geometry.refcountBits, size } = options;
  const version = compat === undefined ? header.version : versionOf(compat);
  requireWidth(refcountBits);
  requireDataFileChange(image, metadata, options);
  if (refcountBits !== 16 && options.refcountBits !== undefined && version < 3)
    throw needsVersion3('Refcount widths other than 16 bits require');
  requireSameBacking(metadata, options);
  if (lazyRefcounts && version < 3) throw needsVersion3('Lazy refcounts only supported with');
  await requireSize(image, size, version);
  const newSize = size || image.virtualSize;
  const downgrades = version < header.version;
  if (downgrades) await requireDowngrade(image, metadata, refcountBits, newSize);
  const wasLazy = (header.compatibleFeatures & COMPATIBLE_LAZY_REFCOUNTS) !== 0n;
  const wasRaw = (header.autoclearFeatures & AUTOCLEAR_RAW_DATA_FILE) !== 0n;
  return {
    upgrades: version > header.version,
    downgrades,
    refcountOrder: refcountBits === geometry.refcountBits ? undefined : Math.log2(refcountBits),
    lazyRefcounts: lazyRefcounts === wasLazy ? undefined : lazyRefcounts,
    dataFile: options.dataFile === metadata.dataFile?.text ? undefined : options.dataFile,
    dataFileRaw: options.dataFileRaw === false && wasRaw ? false : undefined,
    size: newSize === image.virtualSize ? undefined : newSize,
  };
}

function versionOf(compat: string): 2 | 3 {
  if (compat === '0.10') return 2;
  if (compat === '1.1') return 3;
  throw new Qcow2Error('INVALID_ARGUMENT', `Unknown compatibility level ${compat}`);
}

function requireWidth(bits: number): void {
  if (Number.isInteger(Math.log2(bits)) && bits >= 1 && bits <= 64) return;
  const text = 'Refcount width must be a power of two and may not exceed 64 bits';
  throw new Qcow2Error('INVALID_ARGUMENT', text, { value: bits });
}

function needsVersion3(what: string): Qcow2Error {
  const level = what.startsWith('Lazy') ? '1.1 and above' : '1.1 or above';
  const text = `${what} compatibility level ${level} (use compat=1.1 or greater)`;
  return new Qcow2Error('UNSUPPORTED', text, { structure: 'header version' });
}

function requireDataFileChange(
  image: Image,
  { header, hasDataFile }: Metadata,
  { dataFile, dataFileRaw }: AmendOptions,
): void {
  const refuse = (text: string): never => {
    throw new Qcow2Error('REFUSED', text, { structure: 'data file name' });
  };
  if (dataFile !== undefined && !hasDataFile)
    refuse('data-file can only be set for images that use an external data file');
  if (dataFile === '' || dataFile?.includes('\0') || dataFile === image.storage.name)
    refuse('data_file must be the name of another file: no image opens without its data file');
  if (dataFileRaw && (header.autoclearFeatures & AUTOCLEAR_RAW_DATA_FILE) === 0n)
    refuse('data-file-raw cannot be set on existing images');
}

function requireSameBacking(metadata: Metadata, options: AmendOptions): void {
  const { backingFile, backingFormat } = options;
  if (backingFile === undefined && backingFormat === undefined) return;
  if (backingFile === metadata.backingFile?.text && backingFormat === metadata.backingFormat)
    return;
  const text = "Cannot amend the backing file; use 'rebase' instead";
  throw new Qcow2Error('REFUSED', text, { structure: 'backing file name' });
}

async function requireSize(image: Image, size: number | undefined, version: 2 | 3): Promise<void> {
  if (size === undefined || size === 0) return;
  const fail = (code: 'INVALID_ARGUMENT' | 'UNSUPPORTED', text: string): never => {
    throw new Qcow2Error(code, text, { value: size });
  };
  if (!Number.isSafeInteger(size) || size < 0)
    fail('INVALID_ARGUMENT', 'New image size must be positive');
  if (size % SECTOR_SIZE !== 0) fail('INVALID_ARGUMENT', 'The new size must be a multiple of 512');
  const { header } = image.metadata!;
  // While the image is of version 2 its snapshots have no size of their own.
  const isOld = header.version === 2 && version === 2;
  if (isOld && header.nbSnapshots > 0)
    fail('UNSUPPORTED', "Can't resize a v2 image which has snapshots");
}

/** Refuses what version 2 cannot express, and what it would lose. */
async function requireDowngrade(
  image: Image,
  { header, hasDataFile }: Metadata,
  refcountBits: number,
  size: number,
): Promise<void> {
  const refuse = (text: string, structure: string): never => {
    throw new Qcow2Error('REFUSED', text, { structure });
  };
  if (hasDataFile) refuse('Cannot downgrade an image with a data file', 'data file name');
  if (refcountBits !== 16) refuse('compat=0.10 requires refcount_bits=16', 'refcount block');
  for (const snapshot of await image.snapshots())
    if (vmStateSize(snapshot) >= 2 ** 32 || (snapshot.diskSize ?? size) !== size)
      refuse('Internal snapshots prevent downgrade of image', 'snapshot table');
  const expressible = INCOMPATIBLE_DIRTY | INCOMPATIBLE_COMPRESSION_TYPE;
  const left = header.incompatibleFeatures & ~expressible;
  if (left !== 0n)
    refuse(
      `Cannot downgrade an image with incompatible features ${hex(Number(left))} set`,
      'header incompatible_features',
    );
  if ((await image.bitmaps()).length > 0)
    refuse(
      'Cannot downgrade an image with bitmaps, which would be lost; remove them first',
      'bitmap directory',
    );
}
