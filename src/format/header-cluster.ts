import { Qcow2Error } from '../errors.ts';
import { INCOMPATIBLE_DATA_FILE } from './feature-bits.ts';
import { align8, decodeName, type Name } from './fields.ts';
import {
  CRYPT_LUKS,
  encodeHeader,
  HEADER_V2_BYTES,
  HEADER_V3_BYTES,
  type Header,
} from './header.ts';
import {
  encodeHeaderExtension,
  featureNamesExtension,
  findExtension,
  type HeaderExtension,
} from './header-extensions.ts';
import { MAX_BACKING_NAME_BYTES } from './limits.ts';

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
