import { hex, Qcow2Error } from '../errors.ts';
import {
  type BitmapsPointer,
  encodeBitmapsPointer,
  parseBitmapsPointer,
  validateBitmapsPointer,
} from './bitmap-directory.ts';
import {
  type EncryptionPointer,
  encodeEncryptionPointer,
  parseEncryptionPointer,
  validateEncryptionPointer,
} from './encryption-pointer.ts';
import {
  AUTOCLEAR_BITMAPS,
  encodeFeatureNames,
  FEATURE_NAMES,
  type FeatureName,
  parseFeatureNames,
} from './feature-bits.ts';
import { align8, decodeName, type Name, nameOf, viewOf } from './fields.ts';
import type { Geometry } from './geometry.ts';
import { CRYPT_LUKS, type Header } from './header.ts';
import { MAX_BACKING_FORMAT_BYTES } from './limits.ts';

/** Types of header extensions (format section 5). */
export const EXTENSION_END = 0x00000000;
export const EXTENSION_BACKING_FORMAT = 0xe2792aca;
export const EXTENSION_FEATURE_NAMES = 0x6803f857;
export const EXTENSION_BITMAPS = 0x23852875;
export const EXTENSION_ENCRYPTION = 0x0537be77;
export const EXTENSION_DATA_FILE = 0x44415441;

interface Stored {
  /** The type word of the file. */
  readonly type: number;
  /** The data as stored, without padding. What the other fields say follows from it. */
  readonly data: Uint8Array;
  /** The padding as stored; shorter than 8-alignment asks for if the area ended there. */
  readonly padding: Uint8Array;
}

/** The backing file's format name; empty counts as not given. */
export type BackingFormatExtension = Stored & {
  readonly kind: 'backing-format';
  readonly format: Name;
};
export type FeatureNamesExtension = Stored & {
  readonly kind: 'feature-names';
  readonly rows: readonly FeatureName[];
};
export type BitmapsExtension = Stored & {
  readonly kind: 'bitmaps';
  readonly pointer: BitmapsPointer;
};
export type EncryptionExtension = Stored & {
  readonly kind: 'encryption-pointer';
  readonly pointer: EncryptionPointer;
};
/** Means something only with the incompatible bit for an external data file. */
export type DataFileNameExtension = Stored & {
  readonly kind: 'data-file-name';
  readonly name: Name;
};
/** Kept byte for byte. */
export type UnknownExtension = Stored & { readonly kind: 'unknown' };

/** One header extension: the stored bytes and their reading. Made by parsing or by `…Extension()`. */
export type HeaderExtension =
  | BackingFormatExtension
  | FeatureNamesExtension
  | BitmapsExtension
  | EncryptionExtension
  | DataFileNameExtension
  | UnknownExtension;

/** Byte of the first cluster at which the extension area ends. */
function areaEnd(bytes: Uint8Array, header: Header): number {
  const cluster = Math.min(bytes.length, 2 ** header.clusterBits);
  const { backingFileOffset } = header;
  return backingFileOffset === 0 ? cluster : Math.min(cluster, backingFileOffset);
}

/**
 * Reads the extensions in file order, up to the end marker or the end of the area. An image whose
 * backing name begins inside the header has none.
 * @param bytes the first cluster, or what there is of it
 * @throws MALFORMED for an extension that reaches over the end of the area or breaks a rule of its
 *   own; TOO_LARGE for 64-bit values above 2^53 - 1
 */
export function parseHeaderExtensions(bytes: Uint8Array, header: Header): HeaderExtension[] {
  const extensions: HeaderExtension[] = [];
  const end = areaEnd(bytes, header);
  const view = viewOf(bytes);
  let at = header.headerLength;
  while (at < end) {
    if (at + 8 > end) throw overArea(at, 8, end);
    const type = view.getUint32(at);
    const length = view.getUint32(at + 4);
    if (at + 8 + length > end) throw overArea(at, 8 + length, end);
    if (type === EXTENSION_END) break;
    const next = at + 8 + align8(length);
    const data = bytes.slice(at + 8, at + 8 + length);
    const padding = bytes.slice(at + 8 + length, Math.min(next, end));
    extensions.push(readExtension({ type, data, padding }));
    at = next;
  }
  return extensions;
}

function overArea(at: number, length: number, end: number): Qcow2Error {
  return new Qcow2Error(
    'MALFORMED',
    `header extension at byte ${at} has ${length} bytes with its head; must end by byte ${end}`,
    { structure: 'header extension', offset: at, value: length },
  );
}

/** Gives stored bytes their reading. */
function readExtension(stored: Stored): HeaderExtension {
  const { type, data } = stored;
  switch (type) {
    case EXTENSION_BACKING_FORMAT:
      requireFormatLength(data.length);
      return { kind: 'backing-format', ...stored, format: decodeName(data) };
    case EXTENSION_FEATURE_NAMES:
      return { kind: 'feature-names', ...stored, rows: parseFeatureNames(data) };
    case EXTENSION_BITMAPS:
      return { kind: 'bitmaps', ...stored, pointer: parseBitmapsPointer(data) };
    case EXTENSION_ENCRYPTION:
      return { kind: 'encryption-pointer', ...stored, pointer: parseEncryptionPointer(data) };
    case EXTENSION_DATA_FILE:
      return { kind: 'data-file-name', ...stored, name: decodeName(data) };
    default:
      return { kind: 'unknown', ...stored };
  }
}

function requireFormatLength(length: number): void {
  if (length <= MAX_BACKING_FORMAT_BYTES) return;
  throw new Qcow2Error(
    'MALFORMED',
    `backing format extension: has ${length} bytes; must have 0 to ${MAX_BACKING_FORMAT_BYTES}`,
    { structure: 'backing format extension', value: length },
  );
}

/**
 * The feature name table of a first cluster, for wording an error about the header: empty when
 * there is none or the extensions cannot be read. Never throws.
 */
export function readFeatureNames(bytes: Uint8Array, header: Header): readonly FeatureName[] {
  const end = areaEnd(bytes, header);
  const view = viewOf(bytes);
  let at = header.headerLength;
  while (at + 8 <= end) {
    const type = view.getUint32(at);
    const dataEnd = at + 8 + view.getUint32(at + 4);
    if (type === EXTENSION_END || dataEnd > end) break;
    if (type === EXTENSION_FEATURE_NAMES) return parseFeatureNames(bytes.subarray(at + 8, dataEnd));
    at = align8(dataEnd);
  }
  return [];
}

/** The extension of a kind; of several the last, as QEMU takes it. */
export function findExtension<K extends HeaderExtension['kind']>(
  extensions: readonly HeaderExtension[],
  kind: K,
): Extract<HeaderExtension, { kind: K }> | undefined {
  const isKind = (e: HeaderExtension): e is Extract<HeaderExtension, { kind: K }> =>
    e.kind === kind;
  return extensions.filter(isKind).at(-1);
}

/**
 * Rules that tie extensions to the header and the file (format sections 5, 13, 14). The contents of
 * the bitmaps extension count only while autoclear bit 0 says it is in sync.
 * @param fileSize bytes of the image file
 * @throws MALFORMED, TRUNCATED
 */
export function validateHeaderExtensions(
  header: Header,
  extensions: readonly HeaderExtension[],
  geometry: Geometry,
  fileSize: number,
): void {
  const encryption = findExtension(extensions, 'encryption-pointer');
  if ((encryption !== undefined) !== (header.cryptMethod === CRYPT_LUKS)) {
    const rule = encryption === undefined ? 'needs an' : 'must not come with an';
    throw new Qcow2Error(
      'MALFORMED',
      `header: crypt_method (byte 32) is ${header.cryptMethod}; that ${rule} encryption header ` +
        `pointer (extension ${hex(EXTENSION_ENCRYPTION)})`,
      { structure: 'header crypt_method', offset: 32, value: header.cryptMethod },
    );
  }
  if (encryption !== undefined) validateEncryptionPointer(encryption.pointer, geometry, fileSize);
  const bitmaps = findExtension(extensions, 'bitmaps');
  if (bitmaps !== undefined && (header.autoclearFeatures & AUTOCLEAR_BITMAPS) !== 0n) {
    validateBitmapsPointer(bitmaps.pointer, geometry, fileSize);
  }
}

/** Writes one extension, head and padding included: byte for byte what was parsed. */
export function encodeHeaderExtension(extension: HeaderExtension): Uint8Array {
  const { type, data, padding } = extension;
  const bytes = new Uint8Array(8 + data.length + padding.length);
  const view = viewOf(bytes);
  view.setUint32(0, type);
  view.setUint32(4, data.length);
  bytes.set(data, 8);
  bytes.set(padding, 8 + data.length);
  return bytes;
}

function made(type: number, data: Uint8Array): Stored {
  return { type, data, padding: new Uint8Array(align8(data.length) - data.length) };
}

/** A backing format extension. @throws MALFORMED if the name has more than 15 bytes */
export function backingFormatExtension(format: string | Uint8Array): BackingFormatExtension {
  const name = nameOf(format);
  requireFormatLength(name.raw.length);
  return { kind: 'backing-format', ...made(EXTENSION_BACKING_FORMAT, name.raw), format: name };
}

/** A feature name table; by default the eight rows QEMU writes. */
export function featureNamesExtension(
  rows: readonly FeatureName[] = FEATURE_NAMES,
): FeatureNamesExtension {
  const stored = made(EXTENSION_FEATURE_NAMES, encodeFeatureNames(rows));
  return { kind: 'feature-names', ...stored, rows };
}

/** A bitmaps extension. */
export function bitmapsExtension(pointer: Omit<BitmapsPointer, 'reserved'>): BitmapsExtension {
  const whole = { ...pointer, reserved: 0 };
  const stored = made(EXTENSION_BITMAPS, encodeBitmapsPointer(whole));
  return { kind: 'bitmaps', ...stored, pointer: whole };
}

/** An encryption header pointer. */
export function encryptionExtension(pointer: EncryptionPointer): EncryptionExtension {
  const stored = made(EXTENSION_ENCRYPTION, encodeEncryptionPointer(pointer));
  return { kind: 'encryption-pointer', ...stored, pointer };
}

/** An external data file name. */
export function dataFileNameExtension(name: string | Uint8Array): DataFileNameExtension {
  const named = nameOf(name);
  return { kind: 'data-file-name', ...made(EXTENSION_DATA_FILE, named.raw), name: named };
}
