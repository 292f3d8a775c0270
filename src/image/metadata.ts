import { type BitmapDirectoryEntry, parseBitmapDirectory } from '../format/bitmap-directory.ts';
import { AUTOCLEAR_BITMAPS, INCOMPATIBLE_DATA_FILE } from '../format/feature-bits.ts';
import type { Name } from '../format/fields.ts';
import type { Geometry } from '../format/geometry.ts';
import { type Header, parseHeader, validateHeader, virtualSize } from '../format/header.ts';
import { readBackingFileName } from '../format/header-cluster.ts';
import {
  findExtension,
  type HeaderExtension,
  parseHeaderExtensions,
  readFeatureNames,
  validateHeaderExtensions,
} from '../format/header-extensions.ts';
import { MAX_SNAPSHOT_TABLE_BYTES } from '../format/limits.ts';
import {
  LUKS_HEADER_BYTES,
  type LuksHeader,
  parseLuksHeader,
  validateLuksHeader,
} from '../format/luks-header.ts';
import {
  measureSnapshotTable,
  parseSnapshotTable,
  type Snapshot,
} from '../format/snapshot-table.ts';
import type { Storage } from '../storage/storage.ts';

/** What the first cluster of a qcow2 file says, validated (format sections 3 to 5). */
export interface Metadata {
  readonly header: Header;
  readonly geometry: Geometry;
  readonly extensions: readonly HeaderExtension[];
  /** Length of the disk in bytes. */
  readonly virtualSize: number;
  /** As recorded; never opened without the caller's gate. */
  readonly backingFile: Name | undefined;
  /** Recorded format of the backing file, if any. */
  readonly backingFormat: string | undefined;
  /** Whether guest data lives in an external data file. */
  readonly hasDataFile: boolean;
  /** Recorded name of the data file, if any. */
  readonly dataFile: Name | undefined;
}

const FIRST_READ = 65536;

/**
 * Reads and validates the first cluster.
 * @throws Qcow2Error NOT_QCOW2, UNSUPPORTED, MALFORMED, TOO_LARGE, TRUNCATED
 */
export async function readMetadata(storage: Storage, forCheck = false): Promise<Metadata> {
  let bytes = await readRange(storage, 0, FIRST_READ);
  const clusterSize = 2 ** Math.min(parseHeader(bytes).clusterBits, 21);
  if (clusterSize > FIRST_READ) bytes = await readRange(storage, 0, clusterSize);
  return parseMetadata(bytes, storage.size, forCheck);
}

/**
 * Reads and validates what a first cluster says.
 * @param bytes the first cluster, or what there is of it
 * @param fileSize in bytes
 * @throws Qcow2Error as `readMetadata`
 */
export function parseMetadata(bytes: Uint8Array, fileSize: number, forCheck = false): Metadata {
  const header = parseHeader(bytes);
  const featureNames = readFeatureNames(bytes, header);
  const geometry = validateHeader(header, fileSize, { forCheck, featureNames });
  const extensions = parseHeaderExtensions(bytes, header);
  validateHeaderExtensions(header, extensions, geometry, fileSize);
  return {
    header,
    geometry,
    extensions,
    virtualSize: virtualSize(header),
    backingFile: readBackingFileName(bytes, header),
    backingFormat: findExtension(extensions, 'backing-format')?.format.text || undefined,
    hasDataFile: (header.incompatibleFeatures & INCOMPATIBLE_DATA_FILE) !== 0n,
    dataFile: findExtension(extensions, 'data-file-name')?.name,
  };
}

/** The internal snapshots in table order (section 12). */
export async function readSnapshots(storage: Storage, metadata: Metadata): Promise<Snapshot[]> {
  const { nbSnapshots, snapshotsOffset } = metadata.header;
  if (nbSnapshots === 0) return [];
  // The table's length is stored nowhere: read some, measure, read on.
  for (let length = FIRST_READ; ; ) {
    const bytes = await readRange(storage, snapshotsOffset, length);
    const extent = measureSnapshotTable(bytes, nbSnapshots);
    if (extent.complete || bytes.length < length) return parseSnapshotTable(bytes, nbSnapshots);
    length = Math.min(MAX_SNAPSHOT_TABLE_BYTES, Math.max(extent.length, length * 4));
  }
}

/** The bitmap directory; empty when the image has no bitmaps that are in sync (section 13). */
export async function readBitmaps(
  storage: Storage,
  metadata: Metadata,
): Promise<BitmapDirectoryEntry[]> {
  const pointer = findExtension(metadata.extensions, 'bitmaps')?.pointer;
  const inSync = (metadata.header.autoclearFeatures & AUTOCLEAR_BITMAPS) !== 0n;
  if (pointer === undefined || !inSync) return [];
  const { bitmapDirectoryOffset, bitmapDirectorySize, nbBitmaps } = pointer;
  const bytes = await readRange(storage, bitmapDirectoryOffset, bitmapDirectorySize);
  const padded = new Uint8Array(bitmapDirectorySize);
  padded.set(bytes);
  return parseBitmapDirectory(padded, nbBitmaps, metadata.geometry);
}

/** The LUKS header of an encrypted image (section 14); undefined for other images. */
export async function readLuksHeader(
  storage: Storage,
  metadata: Metadata,
): Promise<LuksHeader | undefined> {
  const pointer = findExtension(metadata.extensions, 'encryption-pointer')?.pointer;
  if (pointer === undefined) return undefined;
  const bytes = await readRange(storage, pointer.offset, LUKS_HEADER_BYTES);
  const luks = parseLuksHeader(bytes);
  validateLuksHeader(luks, pointer.length);
  return luks;
}

/** Up to `length` bytes from `offset` on; fewer at the end of the file. */
async function readRange(storage: Storage, offset: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(Math.max(0, Math.min(length, storage.size - offset)));
  const n = await storage.read(offset, bytes);
  return bytes.subarray(0, n);
}
