import { Qcow2Error } from '../errors.ts';
import { INCOMPATIBLE_DATA_FILE } from './feature-bits.ts';
import { align8, decodeName, type Name, viewOf } from './fields.ts';
import {
  CRYPT_LUKS,
  encodeHeader,
  HEADER_V2_BYTES,
  HEADER_V3_BYTES,
  type Header,
} from './header.ts';
import {
  EXTENSION_FEATURE_NAMES,
  encodeHeaderExtension,
  featureNamesExtension,
  findExtension,
  type HeaderExtension,
} from './header-extensions.ts';
import { MAX_BACKING_NAME_BYTES, SECTOR_SIZE } from './limits.ts';

/** Clusters up to this size hold no feature name table: the room is needed for the backing name. */
const MAX_CLUSTER_WITHOUT_FEATURE_NAMES = 4096;

/** Bytes of the end marker of the extension area. */
const END_MARKER_BYTES = 8;

/** What a first cluster is made of. */
export interface HeaderClusterParts {
  /** Its backing name fields and `headerLength` are computed, whatever they say. */
  readonly header: Header;
  readonly extensions: readonly HeaderExtension[];
  /** Left out: no backing file, and no backing format extension either. */
  readonly backingFileName?: Name | undefined;
}

/**
 * Lays out a whole first cluster in QEMU's order (format section 3, "Rewriting the header"):
 * header, backing format, data file name, encryption pointer, feature names, bitmaps, unknown
 * extensions in the order given, end marker, backing name, zeros.
 *
 * Version 3 with clusters above 4 KiB always gets a feature name table, the given one or QEMU's.
 * Dropped are a data file name without the data file feature bit, an encryption pointer without
 * LUKS, and all but the last of an extension that appears twice.
 * @throws TOO_LARGE if the backing name is too long or the parts do not fit one cluster
 */
export function buildHeaderCluster(parts: HeaderClusterParts, clusterSize: number): Uint8Array {
  const name = parts.backingFileName?.raw ?? new Uint8Array(0);
  requireNameLength(name.length);
  const headerLength = newHeaderLength(parts.header);
  const extensions = orderedExtensions(parts, name.length > 0, clusterSize);
  const tail = encodeTail(extensions, name);
  const nameAt = headerLength + tail.length - name.length;
  if (nameAt + name.length > clusterSize) throw doesNotFit(nameAt, name.length, clusterSize);
  const cluster = new Uint8Array(clusterSize);
  cluster.set(encodeHeaderWith(parts.header, headerLength, nameAt, name.length));
  cluster.set(tail, headerLength);
  return cluster;
}

/**
 * The same contents laid out so that of the first cluster only the first sector and what lies from byte
 * `at` on count: all extensions and the name are there, behind a feature name table that is as long as
 * what lies between. For a moment, while the place they are to have is rewritten.
 * @param at multiple of 8, at least a sector
 * @returns undefined: there is no room for that
 */
export function buildDetachedHeader(
  parts: HeaderClusterParts,
  clusterSize: number,
  at: number,
): { sector: Uint8Array; tail: Uint8Array } | undefined {
  const name = parts.backingFileName?.raw ?? new Uint8Array(0);
  const headerLength = newHeaderLength(parts.header);
  const extensions = orderedExtensions(parts, name.length > 0, clusterSize);
  const tail = encodeTail(
    extensions.filter(({ kind }) => kind !== 'feature-names'),
    name,
  );
  if (headerLength + 8 > SECTOR_SIZE || at + tail.length > clusterSize) return undefined;
  const sector = new Uint8Array(SECTOR_SIZE);
  const nameAt = at + tail.length - name.length;
  sector.set(encodeHeaderWith(parts.header, headerLength, nameAt, name.length));
  const view = viewOf(sector);
  view.setUint32(headerLength, EXTENSION_FEATURE_NAMES);
  view.setUint32(headerLength + 4, at - headerLength - 8);
  return { sector, tail };
}

/** Byte behind everything that counts in a first cluster. */
export function headerClusterEnd(header: Header, extensions: readonly HeaderExtension[]): number {
  const { headerLength, backingFileOffset, backingFileSize } = header;
  const bytes = extensions.reduce((sum, { data }) => sum + 8 + align8(data.length), 0);
  return Math.max(headerLength + bytes + END_MARKER_BYTES, backingFileOffset + backingFileSize);
}

function newHeaderLength({ version, unknownFields }: Header): number {
  return version === 2 ? HEADER_V2_BYTES : HEADER_V3_BYTES + unknownFields.length;
}

function encodeHeaderWith(
  header: Header,
  headerLength: number,
  nameAt: number,
  nameLength: number,
): Uint8Array {
  const backingFileOffset = nameLength > 0 ? nameAt : 0;
  return encodeHeader({ ...header, headerLength, backingFileOffset, backingFileSize: nameLength });
}

/** Extensions, end marker and backing name. */
function encodeTail(extensions: readonly HeaderExtension[], name: Uint8Array): Uint8Array {
  const encoded = extensions.map((extension) => encodeHeaderExtension(withZeroPadding(extension)));
  const nameAt = encoded.reduce((sum, { length }) => sum + length, END_MARKER_BYTES);
  const tail = new Uint8Array(nameAt + name.length);
  let at = 0;
  for (const extension of encoded) {
    tail.set(extension, at);
    at += extension.length;
  }
  tail.set(name, nameAt);
  return tail;
}

function orderedExtensions(
  { header, extensions }: HeaderClusterParts,
  hasBacking: boolean,
  clusterSize: number,
): HeaderExtension[] {
  const hasDataFile = (header.incompatibleFeatures & INCOMPATIBLE_DATA_FILE) !== 0n;
  const hasFeatureNames = header.version === 3 && clusterSize > MAX_CLUSTER_WITHOUT_FEATURE_NAMES;
  const ordered = [
    hasBacking && findExtension(extensions, 'backing-format'),
    hasDataFile && findExtension(extensions, 'data-file-name'),
    header.cryptMethod === CRYPT_LUKS && findExtension(extensions, 'encryption-pointer'),
    hasFeatureNames && (findExtension(extensions, 'feature-names') ?? featureNamesExtension()),
    findExtension(extensions, 'bitmaps'),
    ...extensions.filter((extension) => extension.kind === 'unknown'),
  ];
  return ordered.filter((extension) => extension !== false && extension !== undefined);
}

function withZeroPadding(extension: HeaderExtension): HeaderExtension {
  const { length } = extension.data;
  return { ...extension, padding: new Uint8Array(align8(length) - length) };
}

function requireNameLength(length: number): void {
  if (length <= MAX_BACKING_NAME_BYTES) return;
  throw new Qcow2Error(
    'TOO_LARGE',
    `backing file name has ${length} bytes; must have at most ${MAX_BACKING_NAME_BYTES}, use a shorter path`,
    { structure: 'backing file name', value: length },
  );
}

function doesNotFit(nameAt: number, nameLength: number, clusterSize: number): Qcow2Error {
  return new Qcow2Error(
    'TOO_LARGE',
    `header, extensions and backing file name need ${nameAt + nameLength} bytes; must fit one cluster ` +
      `of ${clusterSize} bytes, use a shorter name or larger clusters`,
    { structure: 'header', value: nameAt + nameLength },
  );
}

/**
 * The backing file name of a validated header; undefined if the image has none. The bytes are as
 * stored: a NUL among them, where QEMU ends the name, is for the caller to judge.
 * @param bytes the first cluster
 * @throws TRUNCATED if the bytes end before the name does
 */
export function readBackingFileName(bytes: Uint8Array, header: Header): Name | undefined {
  const { backingFileOffset: at, backingFileSize: size } = header;
  if (at === 0 || size === 0) return undefined;
  if (at + size > bytes.length) {
    throw new Qcow2Error(
      'TRUNCATED',
      `backing file name at byte ${at} has ${size} bytes; the file ends at byte ${bytes.length}, get a whole copy`,
      { structure: 'backing file name', offset: at, value: size },
    );
  }
  return decodeName(bytes.subarray(at, at + size));
}
