import { hex, Qcow2Error, type Qcow2ErrorDetails } from '../errors.ts';
import {
  align8,
  decodeName,
  type FieldTable,
  type FieldValues,
  fieldLabel,
  type Name,
  readFields,
  tableBytes,
  writeFields,
} from './fields.ts';
import { type Geometry, type HostOffset, isClusterAligned, requireInFile } from './geometry.ts';
import * as limits from './limits.ts';

const EXTENSION_FIELDS = {
  nbBitmaps: [0, 'u32'],
  reserved: [4, 'u32'],
  bitmapDirectorySize: [8, 'n64'],
  bitmapDirectoryOffset: [16, 'n64'],
} as const satisfies FieldTable;

/** Bytes of the bitmaps extension's data. */
export const BITMAPS_EXTENSION_BYTES = tableBytes(EXTENSION_FIELDS);

/** The bitmaps extension: where the directory lies (format section 13). */
export interface BitmapsPointer extends FieldValues<typeof EXTENSION_FIELDS> {
  /** Bytes of the directory. */
  readonly bitmapDirectorySize: number;
  /** Host offset of the directory, cluster aligned. */
  readonly bitmapDirectoryOffset: HostOffset;
}

/** `flags` of a directory entry. */
export const BITMAP_IN_USE = 1;
export const BITMAP_AUTO = 2;
export const BITMAP_EXTRA_DATA_COMPATIBLE = 4;

/** The only bitmap type there is: dirty tracking. */
export const BITMAP_TYPE_DIRTY = 1;

const ENTRY_FIELDS = {
  bitmapTableOffset: [0, 'n64'],
  bitmapTableSize: [8, 'u32'],
  flags: [12, 'u32'],
  type: [16, 'u8'],
  granularityBits: [17, 'u8'],
  nameSize: [18, 'u16'],
  extraDataSize: [20, 'u32'],
} as const satisfies FieldTable;
const ENTRY_BYTES = tableBytes(ENTRY_FIELDS);

/** One bitmap's directory entry. */
export interface BitmapDirectoryEntry
  extends Omit<FieldValues<typeof ENTRY_FIELDS>, 'nameSize' | 'extraDataSize'> {
  /** Host offset of the bitmap table, cluster aligned. */
  readonly bitmapTableOffset: HostOffset;
  /** Entries of the bitmap table. */
  readonly bitmapTableSize: number;
  /** Of one bit: 2^granularityBits guest bytes. */
  readonly granularityBits: number;
  /** Not understood by this package. Without `BITMAP_EXTRA_DATA_COMPATIBLE`: leave it alone. */
  readonly extraData: Uint8Array;
  readonly name: Name;
}

/**
 * Reads the data of the extension; its values are checked by `validateBitmapsPointer`.
 * @throws MALFORMED if it is not 24 bytes long, TOO_LARGE for 64-bit values above 2^53 - 1
 */
export function parseBitmapsPointer(data: Uint8Array): BitmapsPointer {
  if (data.length !== BITMAPS_EXTENSION_BYTES) {
    const found = `has ${data.length} bytes; must have ${BITMAPS_EXTENSION_BYTES}`;
    throw malformed('bitmaps extension', found, { value: data.length });
  }
  return readFields(EXTENSION_FIELDS, data, 'bitmaps extension');
}

/** Writes the data of the extension. */
export function encodeBitmapsPointer(pointer: BitmapsPointer): Uint8Array {
  const data = new Uint8Array(BITMAPS_EXTENSION_BYTES);
  writeFields(EXTENSION_FIELDS, pointer, data);
  return data;
}

/**
 * Rules of the extension, which apply only while autoclear bit 0 is set.
 * @param fileSize bytes of the image file
 * @throws MALFORMED, TRUNCATED
 */
export function validateBitmapsPointer(
  pointer: BitmapsPointer,
  geometry: Geometry,
  fileSize: number,
): void {
  const { nbBitmaps, reserved, bitmapDirectorySize: size, bitmapDirectoryOffset: at } = pointer;
  const reject = (key: keyof BitmapsPointer, shown: string, rule: string) =>
    malformed('bitmaps extension', `${fieldLabel(EXTENSION_FIELDS, key)} is ${shown}; ${rule}`, {
      value: pointer[key],
    });
  if (nbBitmaps < 1 || nbBitmaps > limits.MAX_BITMAPS) {
    throw reject('nbBitmaps', String(nbBitmaps), `must be 1 to ${limits.MAX_BITMAPS}`);
  }
  if (reserved !== 0) throw reject('reserved', hex(reserved), 'must be 0');
  if (size < 1 || size > limits.MAX_BITMAP_DIRECTORY_BYTES) {
    const rule = `must be 1 to ${limits.MAX_BITMAP_DIRECTORY_BYTES}`;
    throw reject('bitmapDirectorySize', String(size), rule);
  }
  if (at === 0 || !isClusterAligned(at, geometry)) {
    const rule = `must be a multiple of the cluster size ${hex(geometry.clusterSize)} and not 0`;
    throw reject('bitmapDirectoryOffset', hex(at), rule);
  }
  requireInFile('bitmap directory', at, size, fileSize, geometry);
}

/** A character per byte: a key that tells names apart by their bytes. */
const BYTES_AS_TEXT = new TextDecoder('latin1');

/**
 * Reads and checks the whole directory. Whether a table fits the disk is `validateBitmapTableSize`.
 * @param bytes exactly `bitmapDirectorySize` bytes
 * @param count `nbBitmaps`
 * @throws MALFORMED for any broken entry, a duplicate name, or entries that do not fill the bytes
 */
export function parseBitmapDirectory(
  bytes: Uint8Array,
  count: number,
  geometry: Geometry,
): BitmapDirectoryEntry[] {
  const entries: BitmapDirectoryEntry[] = [];
  const names = new Set<string>();
  let at = 0;
  for (let index = 0; index < count; index++) {
    const structure = `bitmap directory entry ${index}`;
    const { entry, next } = parseEntry(bytes, at, structure);
    validateBitmapEntry(entry, geometry, structure);
    const key = BYTES_AS_TEXT.decode(entry.name.raw);
    if (names.has(key)) {
      throw malformed(
        structure,
        `at byte ${at} repeats the name of an earlier one; must be unique`,
      );
    }
    names.add(key);
    entries.push(entry);
    at = next;
  }
  if (at !== bytes.length) {
    const found = `has ${bytes.length} bytes, its ${count} entries take ${at}; must be equal`;
    throw malformed('bitmap directory', found, { value: bytes.length });
  }
  return entries;
}

function parseEntry(
  bytes: Uint8Array,
  at: number,
  structure: string,
): { entry: BitmapDirectoryEntry; next: number } {
  const { nameSize, extraDataSize, ...fields } = readFields(ENTRY_FIELDS, bytes, structure, at);
  const nameAt = at + ENTRY_BYTES + extraDataSize;
  const next = at + align8(ENTRY_BYTES + extraDataSize + nameSize);
  if (next > bytes.length) {
    const found = `at byte ${at} ends at byte ${next}; the directory has ${bytes.length} bytes`;
    throw malformed(structure, found, { value: next });
  }
  const extraData = bytes.slice(at + ENTRY_BYTES, nameAt);
  const name = decodeName(bytes.subarray(nameAt, nameAt + nameSize));
  return { entry: { ...fields, extraData, name }, next };
}

/**
 * Rules of one directory entry (format section 13).
 * @throws MALFORMED
 */
export function validateBitmapEntry(
  entry: BitmapDirectoryEntry,
  geometry: Geometry,
  structure = 'bitmap directory entry',
): void {
  const { bitmapTableOffset: at, bitmapTableSize: size, flags, granularityBits: bits } = entry;
  const reject = (key: keyof typeof ENTRY_FIELDS, value: number, shown: string, rule: string) =>
    malformed(structure, `${fieldLabel(ENTRY_FIELDS, key)} is ${shown}; ${rule}`, { value });
  if (at === 0 || !isClusterAligned(at, geometry)) {
    const rule = `must be a multiple of the cluster size ${hex(geometry.clusterSize)} and not 0`;
    throw reject('bitmapTableOffset', at, hex(at), rule);
  }
  const most = Math.min(
    limits.MAX_BITMAP_TABLE_ENTRIES,
    limits.MAX_BITMAP_DATA_BYTES / geometry.clusterSize,
  );
  if (size < 1 || size > most) {
    throw reject('bitmapTableSize', size, String(size), `must be 1 to ${most}`);
  }
  if (flags > (BITMAP_IN_USE | BITMAP_AUTO | BITMAP_EXTRA_DATA_COMPATIBLE)) {
    throw reject('flags', flags, hex(flags), 'only bits 0 to 2 may be set');
  }
  if (entry.type !== BITMAP_TYPE_DIRTY) {
    throw reject('type', entry.type, String(entry.type), 'must be 1');
  }
  const [fine, coarse] = [limits.MIN_BITMAP_GRANULARITY_BITS, limits.MAX_BITMAP_GRANULARITY_BITS];
  if (bits < fine || bits > coarse) {
    throw reject('granularityBits', bits, String(bits), `must be ${fine} to ${coarse}`);
  }
  if (entry.name.raw.length > limits.MAX_BITMAP_NAME_BYTES) {
    const rule = `must be at most ${limits.MAX_BITMAP_NAME_BYTES}`;
    throw reject('nameSize', entry.name.raw.length, String(entry.name.raw.length), rule);
  }
}

/** Writes a directory; each entry is padded with zeros to a multiple of 8 bytes. */
export function encodeBitmapDirectory(entries: readonly BitmapDirectoryEntry[]): Uint8Array {
  const bytes = new Uint8Array(entries.reduce((sum, entry) => sum + bitmapEntryBytes(entry), 0));
  let at = 0;
  for (const entry of entries) {
    const sizes = { nameSize: entry.name.raw.length, extraDataSize: entry.extraData.length };
    writeFields(ENTRY_FIELDS, { ...entry, ...sizes }, bytes, at);
    bytes.set(entry.extraData, at + ENTRY_BYTES);
    bytes.set(entry.name.raw, at + ENTRY_BYTES + entry.extraData.length);
    at += bitmapEntryBytes(entry);
  }
  return bytes;
}

/** Bytes a directory entry takes, padding included. */
export function bitmapEntryBytes(entry: BitmapDirectoryEntry): number {
  return align8(ENTRY_BYTES + entry.extraData.length + entry.name.raw.length);
}

function malformed(structure: string, found: string, details: Qcow2ErrorDetails = {}): Qcow2Error {
  return new Qcow2Error('MALFORMED', `${structure}: ${found}`, { structure, ...details });
}
