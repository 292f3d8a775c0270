import { Qcow2Error } from '../errors.ts';
import {
  BITMAP_AUTO,
  BITMAP_IN_USE,
  type BitmapDirectoryEntry,
} from '../format/bitmap-directory.ts';
import {
  AUTOCLEAR_RAW_DATA_FILE,
  COMPATIBLE_LAZY_REFCOUNTS,
  INCOMPATIBLE_CORRUPT,
  INCOMPATIBLE_DIRTY,
} from '../format/feature-bits.ts';
import { COMPRESSION_ZSTD, CRYPT_AES, CRYPT_NONE, type Header } from '../format/header.ts';
import { MAX_CHAIN_DEPTH, SECTOR_SIZE } from '../format/limits.ts';
import {
  LUKS_SLOT_ACTIVE,
  type LuksHeader,
  type LuksKeySlot,
  luksText,
} from '../format/luks-header.ts';
import { ICOUNT_OFF, type Snapshot, vmStateSize } from '../format/snapshot-table.ts';
import { Image } from '../image/image.ts';
import type { Metadata } from '../image/metadata.ts';
import {
  type OutsideFile,
  type OutsideResolver,
  openOutside,
  refusal,
} from '../image/open-gate.ts';
import type { Storage } from '../storage/storage.ts';

/** What `info` says about an image. Plain data: it survives `JSON.stringify`. */
export interface ImageInfo {
  /** The name the image was opened by. */
  readonly filename: string;
  readonly format: 'qcow2' | 'raw';
  /** Length of the disk in bytes. */
  readonly virtualSize: number;
  /** Bytes the image file takes on its file system; absent where the storage does not know. */
  readonly actualSize?: number;
  /** Bytes; absent for raw images. */
  readonly clusterSize?: number;
  readonly encrypted: boolean;
  /** The image was not closed by its last writer; its refcounts may be out of date. */
  readonly dirtyFlag: boolean;
  /** The name recorded in the image. It may contain anything: see the open gate before opening it. */
  readonly backingFilename?: string;
  /** The recorded name seen from here: relative names count from the image's folder. */
  readonly fullBackingFilename?: string;
  readonly backingFilenameFormat?: string;
  /** In the order of the snapshot table. */
  readonly snapshots: readonly SnapshotInfo[];
  /** Absent for raw images. */
  readonly formatSpecific?: Qcow2Info;
}

/** An internal snapshot. */
export interface SnapshotInfo {
  readonly id: string;
  readonly name: string;
  /** Bytes of saved machine state. */
  readonly vmStateSize: number;
  /** When it was taken: seconds since 1970 and the nanoseconds of that second. */
  readonly dateSec: number;
  readonly dateNsec: number;
  /** How long the guest had run: whole seconds and the nanoseconds left. */
  readonly vmClockSec: number;
  readonly vmClockNsec: number;
  /** Instructions executed, if they were counted; decimal text beyond 2^53 - 1. */
  readonly icount?: number | string;
}

/** What only qcow2 images have. */
export interface Qcow2Info {
  /** `0.10` is version 2, `1.1` version 3. */
  readonly compat: '0.10' | '1.1';
  readonly compressionType: 'zlib' | 'zstd';
  /** Bits. */
  readonly refcountBits: number;
  /** This and the flags below are absent in version 2, which cannot express them. */
  readonly lazyRefcounts?: boolean;
  readonly corrupt?: boolean;
  readonly extendedL2?: boolean;
  /** Name of the external data file, if there is one. */
  readonly dataFile?: string;
  /** With a data file: whether it alone is a usable raw image. */
  readonly dataFileRaw?: boolean;
  /** Dirty bitmaps, in the order of the bitmap directory. */
  readonly bitmaps: readonly BitmapInfo[];
  readonly encrypt?: EncryptionInfo;
}

/** A dirty bitmap. */
export interface BitmapInfo {
  readonly name: string;
  /** Guest bytes of one bit. */
  readonly granularity: number;
  readonly flags: readonly ('in-use' | 'auto')[];
}

/** How the image is encrypted. */
export type EncryptionInfo = { readonly format: 'aes' } | LuksInfo;

/** Contents of a LUKS header that are no secret. */
export interface LuksInfo {
  readonly format: 'luks';
  readonly cipherAlg: string;
  readonly cipherMode: string;
  readonly ivgenAlg?: string;
  readonly ivgenHashAlg?: string;
  readonly hashAlg: string;
  readonly uuid: string;
  /** Bytes from the start of the LUKS header. */
  readonly payloadOffset: number;
  readonly masterKeyIters: number;
  readonly slots: readonly LuksSlotInfo[];
}

/** A key slot. Iterations and stripes mean something in active slots only. */
export interface LuksSlotInfo {
  readonly active: boolean;
  /** Bytes from the start of the LUKS header. */
  readonly keyOffset: number;
  readonly iters?: number;
  readonly stripes?: number;
}

/**
 * Describes an image from its own metadata. Backing and data files are named, never opened.
 * @throws Qcow2Error MALFORMED, TOO_LARGE, TRUNCATED for broken snapshot, bitmap or LUKS metadata
 * @example
 * import { info, openImage } from 'qcow2';
 *
 * const image = await openImage('disk.qcow2');
 * const { virtualSize, clusterSize, snapshots } = await info(image);
 * console.log(virtualSize, clusterSize, snapshots.map(({ name }) => name));
 * await image.close();
 */
export function info(image: Image): Promise<ImageInfo> {
  return describe(image, image.storage.name ?? '');
}

async function describe(image: Image, filename: string): Promise<ImageInfo> {
  const { format, metadata, virtualSize } = image;
  const actualSize = given('actualSize', allocatedSize(image.storage));
  const common = { filename, format, virtualSize, ...actualSize };
  if (metadata === undefined) {
    return { ...common, encrypted: false, dirtyFlag: false, snapshots: [] };
  }
  const { header, backingFile } = metadata;
  const backing = backingFile?.text;
  return {
    ...common,
    clusterSize: metadata.geometry.clusterSize,
    encrypted: header.cryptMethod !== CRYPT_NONE,
    dirtyFlag: (header.incompatibleFeatures & INCOMPATIBLE_DIRTY) !== 0n,
    ...given('backingFilename', backing),
    ...given('fullBackingFilename', backing && fullBackingFilename(filename, backing)),
    ...given('backingFilenameFormat', metadata.backingFormat),
    snapshots: (await image.snapshots()).map(snapshotInfo),
    formatSpecific: await qcow2Info(image, metadata),
  };
}

/**
 * Describes an image and, through the gate, the backing files below it as they are recorded; top
 * first.
 * @param resolver default that of the image
 * @throws Qcow2Error as {@link info}, those of opening a backing file, and REFUSED for a loop
 * @example
 * import { backingChainInfo, openImage } from 'qcow2';
 *
 * const image = await openImage('overlay.qcow2');
 * const chain = await backingChainInfo(image);
 * console.log(chain.map(({ filename }) => filename)); // [ 'overlay.qcow2', 'disk.qcow2' ]
 * await image.close();
 */
export async function backingChainInfo(
  image: Image,
  resolver: OutsideResolver | undefined = image.outside.resolver,
): Promise<ImageInfo[]> {
  const result = [await info(image)];
  const seen = new Set([image.storage.identity]);
  let below = await openBackingFile(image, resolver);
  while (below !== undefined) {
    const opened: Image = below;
    try {
      requireNewInChain(opened, seen, result.length);
      const filename = result.at(-1)?.fullBackingFilename ?? '';
      result.push(await describe(opened, filename));
      below = await openBackingFile(opened, resolver);
    } finally {
      await opened.close();
    }
  }
  return result;
}

async function openBackingFile(
  image: Image,
  resolver: OutsideResolver | undefined,
): Promise<Image | undefined> {
  const { backingFile, backingFormat } = image.metadata ?? {};
  if (backingFile === undefined) return undefined;
  const namedBy = image.storage.name ?? '';
  const file = { role: 'backing file', name: backingFile.text, namedBy } as const;
  const format = requireKnownFormat(file, backingFormat);
  const storage = await openOutside(file, resolver);
  const opened = await Image.open(storage, format === undefined ? {} : { format });
  const namesMore = opened.metadata?.backingFile !== undefined || opened.metadata?.hasDataFile;
  if (format !== undefined || !namesMore) return opened;
  await opened.close();
  // The guest writes the bytes that are probed: it must not be able to make up a backing file.
  throw refusal(file, 'its format is not recorded and it names a further file');
}

function requireKnownFormat(
  file: OutsideFile,
  format: string | undefined,
): 'qcow2' | 'raw' | undefined {
  if (format === undefined || format === 'qcow2' || format === 'raw') return format;
  const text = `recorded format '${format}' is not supported; only qcow2 and raw are`;
  throw new Qcow2Error('UNSUPPORTED', `backing file '${file.name}': ${text}`, {
    structure: 'backing file format',
  });
}

function requireNewInChain(image: Image, seen: Set<string | undefined>, depth: number): void {
  const { identity, name } = image.storage;
  const details = { structure: 'backing chain' };
  if (identity !== undefined && seen.has(identity)) {
    const text = `backing chain: '${name}' appears twice; an image must not refer back to itself`;
    throw new Qcow2Error('REFUSED', text, details);
  }
  if (depth >= MAX_CHAIN_DEPTH) {
    const text = `backing chain: more than ${MAX_CHAIN_DEPTH} images; merge some of them`;
    throw new Qcow2Error('TOO_LARGE', text, details);
  }
  seen.add(identity);
}

/** A property that is there if it has a value. */
function given<K extends string, T>(key: K, value: T | undefined): { [P in K]?: T } {
  return (value === undefined ? {} : { [key]: value }) as { [P in K]?: T };
}

/** Files know the space they take; the storage contract does not ask for it. */
function allocatedSize(storage: Storage & { readonly allocatedSize?: number }): number | undefined {
  return storage.allocatedSize;
}

/**
 * A backing name seen from where its image was opened from. Absolute names and names with a protocol
 * stand for themselves.
 */
export function fullBackingFilename(imageName: string, backingName: string): string {
  const hasProtocol = /^[^/]*:/.test(backingName);
  if (hasProtocol || backingName.startsWith('/')) return backingName;
  return imageName.slice(0, imageName.lastIndexOf('/') + 1) + backingName;
}

/** A snapshot as `info` shows it. */
export function snapshotInfo(snapshot: Snapshot): SnapshotInfo {
  const { vmClockNsec, icount } = snapshot;
  const counted = icount !== undefined && icount !== ICOUNT_OFF;
  return {
    id: snapshot.id.text,
    name: snapshot.name.text,
    vmStateSize: vmStateSize(snapshot),
    dateSec: snapshot.dateSec,
    dateNsec: snapshot.dateNsec,
    vmClockSec: Number(vmClockNsec / 1_000_000_000n),
    vmClockNsec: Number(vmClockNsec % 1_000_000_000n),
    ...given('icount', counted ? signed(icount) : undefined),
  };
}

/** A 64-bit word as the signed number tools show. */
function signed(word: bigint): number | string {
  const value = BigInt.asIntN(64, word);
  return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
}

async function qcow2Info(image: Image, metadata: Metadata): Promise<Qcow2Info> {
  const { header, geometry, hasDataFile, dataFile } = metadata;
  const encrypt = await encryptionInfo(image, header);
  return {
    compat: header.version === 2 ? '0.10' : '1.1',
    compressionType: header.compressionType === COMPRESSION_ZSTD ? 'zstd' : 'zlib',
    refcountBits: geometry.refcountBits,
    bitmaps: (await image.bitmaps()).map(bitmapInfo),
    ...given('dataFile', hasDataFile ? dataFile?.text : undefined),
    ...(hasDataFile && {
      dataFileRaw: (header.autoclearFeatures & AUTOCLEAR_RAW_DATA_FILE) !== 0n,
    }),
    ...given('encrypt', encrypt),
    ...(header.version > 2 && {
      lazyRefcounts: (header.compatibleFeatures & COMPATIBLE_LAZY_REFCOUNTS) !== 0n,
      corrupt: (header.incompatibleFeatures & INCOMPATIBLE_CORRUPT) !== 0n,
      extendedL2: geometry.extendedL2,
    }),
  };
}

function bitmapInfo({ name, granularityBits, flags }: BitmapDirectoryEntry): BitmapInfo {
  return {
    name: name.text,
    granularity: 2 ** granularityBits,
    flags: [
      ...((flags & BITMAP_IN_USE) !== 0 ? (['in-use'] as const) : []),
      ...((flags & BITMAP_AUTO) !== 0 ? (['auto'] as const) : []),
    ],
  };
}

async function encryptionInfo(
  image: Image,
  { cryptMethod }: Header,
): Promise<EncryptionInfo | undefined> {
  if (cryptMethod === CRYPT_AES) return { format: 'aes' };
  const header = await image.luksHeader();
  return header && luksInfo(header);
}

function luksInfo(header: LuksHeader): LuksInfo {
  // "xts-plain64", "cbc-essiv:sha256"
  const [cipherMode = '', ivgen] = luksText(header.cipherMode).split('-', 2);
  const [ivgenAlg, ivgenHashAlg] = ivgen?.split(':', 2) ?? [];
  // XTS works with two keys of half the length.
  const keyBits = (header.keyBytes * 8) / (cipherMode === 'xts' ? 2 : 1);
  return {
    format: 'luks',
    cipherAlg: `${luksText(header.cipherName)}-${keyBits}`,
    cipherMode,
    ...given('ivgenAlg', ivgenAlg),
    ...given('ivgenHashAlg', ivgenHashAlg),
    hashAlg: luksText(header.hashSpec),
    uuid: luksText(header.uuid),
    payloadOffset: header.payloadOffset * SECTOR_SIZE,
    masterKeyIters: header.mkDigestIterations,
    slots: header.slots.map(slotInfo),
  };
}

function slotInfo({ active, keyMaterialOffset, iterations, stripes }: LuksKeySlot): LuksSlotInfo {
  const keyOffset = keyMaterialOffset * SECTOR_SIZE;
  if (active !== LUKS_SLOT_ACTIVE) return { active: false, keyOffset };
  return { active: true, keyOffset, iters: iterations, stripes };
}
