import { hex, Qcow2Error, type Qcow2ErrorCode } from '../errors.ts';
import {
  AUTOCLEAR_RAW_DATA_FILE,
  type FeatureName,
  INCOMPATIBLE_COMPRESSION_TYPE,
  INCOMPATIBLE_DATA_FILE,
  INCOMPATIBLE_EXTENDED_L2,
  unknownIncompatible,
} from './feature-bits.ts';
import {
  type FieldTable,
  type FieldValues,
  fieldLabel,
  readFields,
  specName,
  viewOf,
  writeFields,
} from './fields.ts';
import { type Geometry, geometryOf, type HostOffset, l1Needed, requireInFile } from './geometry.ts';
import * as limits from './limits.ts';

/** The first four bytes of every qcow2 image: "QFI" and 0xfb. */
export const QCOW2_MAGIC = 0x514649fb;

/** `crypt_method`. */
export const CRYPT_NONE = 0;
export const CRYPT_AES = 1;
export const CRYPT_LUKS = 2;

/** `compression_type`. */
export const COMPRESSION_DEFLATE = 0;
export const COMPRESSION_ZSTD = 1;

/** Bytes of a version 2 header, which is also where its extensions begin. */
export const HEADER_V2_BYTES = 72;
/** Least `header_length` of version 3: without `compression_type`. */
export const HEADER_V3_MIN_BYTES = 104;
/** `header_length` of version 3 as it is written today. */
export const HEADER_V3_BYTES = 112;

/** Header fields of both versions (format section 3). */
export const HEADER_FIELDS = {
  magic: [0, 'u32'],
  version: [4, 'u32'],
  backingFileOffset: [8, 'n64'],
  backingFileSize: [16, 'u32'],
  clusterBits: [20, 'u32'],
  size: [24, 'n64'],
  cryptMethod: [32, 'u32'],
  l1Size: [36, 'u32'],
  l1TableOffset: [40, 'n64'],
  refcountTableOffset: [48, 'n64'],
  refcountTableClusters: [56, 'u32'],
  nbSnapshots: [60, 'u32'],
  snapshotsOffset: [64, 'n64'],
} as const satisfies FieldTable;

/** Header fields version 3 adds; `compression_type` (byte 104) is there if the length says so. */
export const HEADER_V3_FIELDS = {
  incompatibleFeatures: [72, 'u64'],
  compatibleFeatures: [80, 'u64'],
  autoclearFeatures: [88, 'u64'],
  refcountOrder: [96, 'u32'],
  headerLength: [100, 'u32'],
} as const satisfies FieldTable;

const COMPRESSION_FIELD = { compressionType: [104, 'u8'] } as const satisfies FieldTable;

const ALL_FIELDS = { ...HEADER_FIELDS, ...HEADER_V3_FIELDS, ...COMPRESSION_FIELD };

type BaseFields = Omit<FieldValues<typeof HEADER_FIELDS>, 'magic' | 'version'>;

/**
 * The header as stored. Version 2 images carry what their readers assume: no feature bits, 16-bit
 * counters (`refcountOrder` 4), `headerLength` 72, deflate. Offsets are host offsets in bytes.
 */
export interface Header extends BaseFields, FieldValues<typeof HEADER_V3_FIELDS> {
  readonly version: 2 | 3;
  /** Virtual size in bytes as stored; see `virtualSize`. */
  readonly size: number;
  readonly l1TableOffset: HostOffset;
  readonly refcountTableOffset: HostOffset;
  readonly snapshotsOffset: HostOffset;
  /** 0 deflate, 1 zstd; 0 where the header is too short to have the field. */
  readonly compressionType: number;
  /** Bytes 112 up to `headerLength`: fields of later versions, preserved. */
  readonly unknownFields: Uint8Array;
}

/**
 * Reads the header's fields from the start of a file; checks nothing but that they are there.
 * @param bytes at least the header, usually the first cluster
 * @throws NOT_QCOW2, UNSUPPORTED (version), MALFORMED (too short), TOO_LARGE (a 64-bit field)
 */
export function parseHeader(bytes: Uint8Array): Header {
  if (bytes.length < 8 || viewOf(bytes).getUint32(0) !== QCOW2_MAGIC) throw notQcow2();
  const version = viewOf(bytes).getUint32(4);
  if (version === 1) throw notQcow2(' (version 1 is the older qcow format)');
  if (version !== 2 && version !== 3) {
    throw headerError('UNSUPPORTED', 'version', version, 'must be 2 or 3; use a newer program');
  }
  const { magic: _, ...base } = readFields(HEADER_FIELDS, bytes, 'header');
  if (version === 2) {
    return {
      ...base,
      version,
      incompatibleFeatures: 0n,
      compatibleFeatures: 0n,
      autoclearFeatures: 0n,
      refcountOrder: 4,
      headerLength: HEADER_V2_BYTES,
      compressionType: COMPRESSION_DEFLATE,
      unknownFields: new Uint8Array(0),
    };
  }
  const added = readFields(HEADER_V3_FIELDS, bytes, 'header');
  const { headerLength } = added;
  if (headerLength < HEADER_V3_MIN_BYTES || headerLength > bytes.length) {
    const range = `must be ${HEADER_V3_MIN_BYTES} to ${bytes.length}, the bytes at hand`;
    throw headerError('MALFORMED', 'headerLength', headerLength, range);
  }
  const hasType = headerLength > HEADER_V3_MIN_BYTES;
  return {
    ...base,
    ...added,
    version,
    compressionType: hasType
      ? readFields(COMPRESSION_FIELD, bytes, 'header').compressionType
      : COMPRESSION_DEFLATE,
    unknownFields: bytes.slice(HEADER_V3_BYTES, Math.max(headerLength, HEADER_V3_BYTES)),
  };
}

function notQcow2(why = ''): Qcow2Error {
  return new Qcow2Error(
    'NOT_QCOW2',
    `header: the file does not begin with the qcow2 magic 514649fb and version 2 or 3${why}; open it as another format`,
    { structure: 'header', offset: 0 },
  );
}

/** The virtual size in bytes: the stored size rounded down to a multiple of 512. */
export function virtualSize(header: { readonly size: number }): number {
  return header.size - (header.size % limits.SECTOR_SIZE);
}

/**
 * Writes the header's fields: 72 bytes for version 2, `headerLength` for version 3. The inverse of
 * `parseHeader`, except that the padding at bytes 105 to 111 becomes zero.
 * @throws INVALID_ARGUMENT if a value does not fit its field or `headerLength` its content
 */
export function encodeHeader(header: Header): Uint8Array {
  const { version, headerLength, unknownFields } = header;
  const bytes = new Uint8Array(Math.max(HEADER_V3_BYTES + unknownFields.length, HEADER_V2_BYTES));
  writeFields(HEADER_FIELDS, { ...header, magic: QCOW2_MAGIC }, bytes);
  if (version === 2) {
    requireVersion2(header);
    return bytes.slice(0, HEADER_V2_BYTES);
  }
  writeFields(HEADER_V3_FIELDS, header, bytes);
  writeFields(COMPRESSION_FIELD, header, bytes);
  bytes.set(unknownFields, HEADER_V3_BYTES);
  const lengthFits =
    unknownFields.length > 0
      ? headerLength === bytes.length
      : headerLength >= HEADER_V3_MIN_BYTES && headerLength <= HEADER_V3_BYTES;
  const typeFits = headerLength > HEADER_V3_MIN_BYTES || header.compressionType === 0;
  if (!lengthFits || !typeFits) {
    throw headerError('INVALID_ARGUMENT', 'headerLength', headerLength, 'must cover the fields');
  }
  return bytes.slice(0, headerLength);
}

/** A version 2 header has no room for anything but the values its readers assume. */
function requireVersion2(header: Header): void {
  const plain =
    (header.incompatibleFeatures | header.compatibleFeatures | header.autoclearFeatures) === 0n &&
    header.refcountOrder === 4 &&
    header.headerLength === HEADER_V2_BYTES &&
    header.compressionType === COMPRESSION_DEFLATE &&
    header.unknownFields.length === 0;
  if (plain) return;
  throw headerError('INVALID_ARGUMENT', 'version', 2, 'must be 3 to store feature bits and widths');
}

/** How strictly to validate, and what helps to word the errors. */
export interface ValidateHeaderOptions {
  /**
   * Accept what `check` reports or repairs itself: a refcount table without clusters or at offset
   * 0, more snapshots than allowed, and tables that lie past the end of the file.
   */
  readonly forCheck?: boolean;
  /** The image's feature name table, to name unknown features (see `readFeatureNames`). */
  readonly featureNames?: readonly FeatureName[];
}

/**
 * Holds a header to every rule that needs no other structure (format sections 3, 4 and 15) and
 * returns the geometry that follows. The first broken rule throws.
 * @param fileSize bytes of the image file
 * @throws UNSUPPORTED, MALFORMED, TOO_LARGE, TRUNCATED
 */
export function validateHeader(
  header: Header,
  fileSize: number,
  options: ValidateHeaderOptions = {},
): Geometry {
  const forCheck = options.forCheck === true;
  requireFeatures(header, options.featureNames ?? []);
  const geometry = requireGeometry(header);
  requireCompression(header);
  if (header.cryptMethod > CRYPT_LUKS) {
    throw headerError('UNSUPPORTED', 'cryptMethod', header.cryptMethod, 'must be 0, 1 or 2');
  }
  requireBackingName(header, geometry);
  requireL1Table(header, geometry);
  requireRefcountTable(header, geometry, forCheck);
  requireSnapshotTable(header, geometry, forCheck);
  if (!forCheck) requireTablesInFile(header, geometry, fileSize);
  return geometry;
}

function requireFeatures(header: Header, featureNames: readonly FeatureName[]): void {
  const unknown = unknownIncompatible(header, featureNames);
  if (unknown.length > 0) {
    const named = `names unknown features (${unknown.join(', ')}); use a newer program`;
    throw headerError('UNSUPPORTED', 'incompatibleFeatures', header.incompatibleFeatures, named);
  }
  const rawData = (header.autoclearFeatures & AUTOCLEAR_RAW_DATA_FILE) !== 0n;
  if (rawData && (header.incompatibleFeatures & INCOMPATIBLE_DATA_FILE) === 0n) {
    const rule = 'bit 1 (raw external data) needs incompatible bit 2 (external data file)';
    throw headerError('MALFORMED', 'autoclearFeatures', header.autoclearFeatures, rule);
  }
}

function requireGeometry(header: Header): Geometry {
  const extended = (header.incompatibleFeatures & INCOMPATIBLE_EXTENDED_L2) !== 0n;
  const least = extended ? limits.MIN_CLUSTER_BITS_EXTENDED_L2 : limits.MIN_CLUSTER_BITS;
  if (header.clusterBits < least || header.clusterBits > limits.MAX_CLUSTER_BITS) {
    const why = extended ? ' with extended L2 entries' : '';
    const rule = `must be ${least} to ${limits.MAX_CLUSTER_BITS}${why}`;
    throw headerError('MALFORMED', 'clusterBits', header.clusterBits, rule);
  }
  if (header.refcountOrder > limits.MAX_REFCOUNT_ORDER) {
    throw headerError('MALFORMED', 'refcountOrder', header.refcountOrder, 'must be 0 to 6');
  }
  const clusterSize = 2 ** header.clusterBits;
  if (header.headerLength > clusterSize || header.headerLength % 8 !== 0) {
    const rule = `must be a multiple of 8 up to the cluster size ${clusterSize}`;
    throw headerError('MALFORMED', 'headerLength', header.headerLength, rule);
  }
  return geometryOf(header);
}

function requireCompression(header: Header): void {
  const type = header.compressionType;
  const marked = (header.incompatibleFeatures & INCOMPATIBLE_COMPRESSION_TYPE) !== 0n;
  if (marked !== (type !== COMPRESSION_DEFLATE)) {
    const rule = `must ${marked ? 'not be 0 with' : 'be 0 without'} incompatible bit 3`;
    throw headerError('MALFORMED', 'compressionType', type, rule);
  }
  if (type > COMPRESSION_ZSTD) {
    const rule = 'must be 0 (deflate) or 1 (zstd); use a newer program';
    throw headerError('UNSUPPORTED', 'compressionType', type, rule);
  }
}

function requireBackingName(header: Header, { clusterSize }: Geometry): void {
  const { backingFileOffset: offset, backingFileSize: size } = header;
  if (offset > clusterSize) {
    const rule = `must be 0 to ${hex(clusterSize)}, inside the first cluster`;
    throw headerError('MALFORMED', 'backingFileOffset', offset, rule);
  }
  const most = Math.min(limits.MAX_BACKING_NAME_BYTES, clusterSize - offset);
  if (offset !== 0 && size > most) {
    throw headerError('MALFORMED', 'backingFileSize', size, `must be 0 to ${most}`);
  }
}

function requireL1Table(header: Header, geometry: Geometry): void {
  const { l1Size, l1TableOffset, size } = header;
  if (l1Size > limits.MAX_L1_ENTRIES) {
    throw headerError('TOO_LARGE', 'l1Size', l1Size, `must be 0 to ${limits.MAX_L1_ENTRIES}`);
  }
  const needed = l1Needed(virtualSize(header), geometry);
  if (needed > limits.MAX_L1_NEEDED) {
    const most = limits.MAX_L1_NEEDED * geometry.l2Coverage;
    throw headerError('TOO_LARGE', 'size', size, `must be 0 to ${most}`);
  }
  if (l1Size < needed) {
    const rule = `must be ${needed} to ${limits.MAX_L1_ENTRIES} to map ${size} bytes`;
    throw headerError('MALFORMED', 'l1Size', l1Size, rule);
  }
  requireTableOffset('l1TableOffset', l1TableOffset, geometry);
  if (l1Size > 0 && l1TableOffset === 0) {
    throw headerError('MALFORMED', 'l1TableOffset', 0, 'must not be 0, where the header is');
  }
}

function requireRefcountTable(header: Header, geometry: Geometry, forCheck: boolean): void {
  const { refcountTableOffset, refcountTableClusters: clusters } = header;
  requireTableOffset('refcountTableOffset', refcountTableOffset, geometry);
  const most = limits.MAX_REFCOUNT_TABLE_BYTES / geometry.clusterSize;
  if (clusters > most) {
    throw headerError('TOO_LARGE', 'refcountTableClusters', clusters, `must be 1 to ${most}`);
  }
  if (forCheck) return;
  if (clusters === 0) {
    const rule = `must be 1 to ${most}; a repairing check can rebuild the refcounts`;
    throw headerError('MALFORMED', 'refcountTableClusters', 0, rule);
  }
  if (refcountTableOffset === 0) {
    const rule = 'must not be 0, where the header is; a repairing check can rebuild the refcounts';
    throw headerError('MALFORMED', 'refcountTableOffset', 0, rule);
  }
}

function requireSnapshotTable(header: Header, geometry: Geometry, forCheck: boolean): void {
  const { nbSnapshots, snapshotsOffset } = header;
  if (nbSnapshots > limits.MAX_SNAPSHOTS && !forCheck) {
    const rule = `must be 0 to ${limits.MAX_SNAPSHOTS}`;
    throw headerError('TOO_LARGE', 'nbSnapshots', nbSnapshots, rule);
  }
  requireTableOffset('snapshotsOffset', snapshotsOffset, geometry);
  if (nbSnapshots > 0 && snapshotsOffset === 0) {
    throw headerError('MALFORMED', 'snapshotsOffset', 0, 'must not be 0, where the header is');
  }
}

function requireTableOffset(
  key: 'l1TableOffset' | 'refcountTableOffset' | 'snapshotsOffset',
  offset: HostOffset,
  { clusterSize }: Geometry,
): void {
  if (offset % clusterSize === 0) return;
  const rule = `must be a multiple of the cluster size ${hex(clusterSize)}`;
  throw headerError('MALFORMED', key, offset, rule);
}

function requireTablesInFile(header: Header, geometry: Geometry, fileSize: number): void {
  const refcountBytes = header.refcountTableClusters * geometry.clusterSize;
  const leastSnapshotBytes = header.nbSnapshots * 40;
  const regions: [structure: string, offset: number, bytes: number][] = [
    ['active L1 table', header.l1TableOffset, header.l1Size * 8],
    ['refcount table', header.refcountTableOffset, refcountBytes],
    ['snapshot table', header.snapshotsOffset, leastSnapshotBytes],
  ];
  for (const [structure, offset, bytes] of regions) {
    requireInFile(structure, offset, bytes, fileSize, geometry);
  }
}

type HeaderKey = Exclude<keyof Header, 'unknownFields'>;

function headerError(
  code: Qcow2ErrorCode,
  key: HeaderKey,
  value: number | bigint,
  rule: string,
): Qcow2Error {
  const shown = /Offset|Features/.test(key) ? hex(value) : String(value);
  return new Qcow2Error(code, `header: ${fieldLabel(ALL_FIELDS, key)} is ${shown}; ${rule}`, {
    structure: `header ${specName(key)}`,
    offset: ALL_FIELDS[key][0],
    value,
  });
}
