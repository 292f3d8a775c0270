import { hex, Qcow2Error, type Qcow2ErrorCode } from '../errors.ts';
import {
  decodeName,
  type FieldTable,
  type FieldValues,
  fieldLabel,
  readFields,
  tableBytes,
  writeFields,
} from './fields.ts';
import { LUKS_STRIPES, MAX_LUKS_ITERATIONS, MAX_LUKS_KEY_BYTES, SECTOR_SIZE } from './limits.ts';

/** First bytes of a LUKS area: "LUKS" 0xba 0xbe. */
export const LUKS_MAGIC = Uint8Array.of(0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe);

/** `active` of a key slot. */
export const LUKS_SLOT_ACTIVE = 0x00ac71f3;
export const LUKS_SLOT_INACTIVE = 0x0000dead;

const HEADER_FIELDS = {
  magic: [0, 'bytes', 6],
  version: [6, 'u16'],
  cipherName: [8, 'bytes', 32],
  cipherMode: [40, 'bytes', 32],
  hashSpec: [72, 'bytes', 32],
  payloadOffset: [104, 'u32'],
  keyBytes: [108, 'u32'],
  mkDigest: [112, 'bytes', 20],
  mkDigestSalt: [132, 'bytes', 32],
  mkDigestIterations: [164, 'u32'],
  uuid: [168, 'bytes', 40],
} as const satisfies FieldTable;

const SLOT_FIELDS = {
  active: [0, 'u32'],
  iterations: [4, 'u32'],
  salt: [8, 'bytes', 32],
  keyMaterialOffset: [40, 'u32'],
  stripes: [44, 'u32'],
} as const satisfies FieldTable;

const SLOTS_AT = tableBytes(HEADER_FIELDS);
const SLOT_BYTES = tableBytes(SLOT_FIELDS);

/** Key slots of a LUKS1 header. */
export const LUKS_SLOTS = 8;
/** Bytes of a LUKS1 header with its key slots. */
export const LUKS_HEADER_BYTES = SLOTS_AT + LUKS_SLOTS * SLOT_BYTES;

/** One key slot. */
export interface LuksKeySlot extends FieldValues<typeof SLOT_FIELDS> {
  /** `LUKS_SLOT_ACTIVE` or `LUKS_SLOT_INACTIVE`. */
  readonly active: number;
  /** PBKDF2 iterations. */
  readonly iterations: number;
  /** In 512-byte sectors from the start of the LUKS area. */
  readonly keyMaterialOffset: number;
  readonly stripes: number;
}

/**
 * A LUKS1 header (format section 14). Texts are stored NUL-terminated in fixed fields; they are
 * kept as those fields, `luksText` reads them.
 */
export interface LuksHeader extends Omit<FieldValues<typeof HEADER_FIELDS>, 'magic'> {
  readonly version: number;
  /** In 512-byte sectors; qcow2 does not use it. */
  readonly payloadOffset: number;
  /** Length of the master key. */
  readonly keyBytes: number;
  readonly slots: readonly LuksKeySlot[];
}

/** The text of a NUL-terminated field. */
export function luksText(field: Uint8Array): string {
  const end = field.indexOf(0);
  return decodeName(end < 0 ? field : field.subarray(0, end)).text;
}

/**
 * Reads the header at the start of a LUKS area; only magic and version are checked.
 * @throws MALFORMED
 */
export function parseLuksHeader(bytes: Uint8Array): LuksHeader {
  const { magic, ...fields } = readFields(HEADER_FIELDS, bytes, 'LUKS header');
  if (magic.some((byte, index) => byte !== LUKS_MAGIC[index])) {
    throw luksError('MALFORMED', 'no LUKS magic at the start of the area; the image is damaged', 0);
  }
  if (fields.version !== 1) {
    const found = `${fieldLabel(HEADER_FIELDS, 'version')} is ${fields.version}; must be 1`;
    throw luksError('MALFORMED', found, fields.version);
  }
  const slots = Array.from({ length: LUKS_SLOTS }, (_, index) =>
    readFields(SLOT_FIELDS, bytes, `LUKS key slot ${index}`, SLOTS_AT + index * SLOT_BYTES),
  );
  return { ...fields, slots };
}

/** Writes a LUKS1 header of 592 bytes. @throws INVALID_ARGUMENT for values that do not fit */
export function encodeLuksHeader(header: LuksHeader): Uint8Array {
  const bytes = new Uint8Array(LUKS_HEADER_BYTES);
  writeFields(HEADER_FIELDS, { ...header, magic: LUKS_MAGIC }, bytes);
  if (header.slots.length !== LUKS_SLOTS) {
    const found = `has ${header.slots.length} key slots; must have ${LUKS_SLOTS}`;
    throw luksError('INVALID_ARGUMENT', found, header.slots.length);
  }
  header.slots.forEach((slot, index) => {
    writeFields(SLOT_FIELDS, slot, bytes, SLOTS_AT + index * SLOT_BYTES);
  });
  return bytes;
}

/** Bytes of one slot's key material: every stripe is as long as the master key. */
export function keyMaterialBytes(header: LuksHeader): number {
  return header.keyBytes * LUKS_STRIPES;
}

/** Limits a caller may raise. */
export interface LuksOptions {
  /** Most PBKDF2 iterations of a slot or the digest; 10 million by default. */
  readonly maxIterations?: number;
}

/**
 * Holds a LUKS header to the rules that need no key (format section 14).
 * @param areaLength `length` of the encryption pointer, in bytes
 * @throws MALFORMED; TOO_LARGE for a key length or iteration count beyond the limits
 */
export function validateLuksHeader(
  header: LuksHeader,
  areaLength: number,
  options: LuksOptions = {},
): void {
  if (areaLength < LUKS_HEADER_BYTES) {
    const found = `the area has ${areaLength} bytes; must have at least ${LUKS_HEADER_BYTES}`;
    throw luksError('MALFORMED', found, areaLength);
  }
  for (const key of ['cipherName', 'cipherMode', 'hashSpec'] as const) {
    if (header[key].includes(0)) continue;
    const found = `${fieldLabel(HEADER_FIELDS, key)} has no terminating NUL; the image is damaged`;
    throw luksError('MALFORMED', found, luksText(header[key]));
  }
  if (header.keyBytes < 1 || header.keyBytes > MAX_LUKS_KEY_BYTES) {
    const label = fieldLabel(HEADER_FIELDS, 'keyBytes');
    const found = `${label} is ${header.keyBytes}; must be 1 to ${MAX_LUKS_KEY_BYTES}`;
    throw luksError('TOO_LARGE', found, header.keyBytes);
  }
  const most = options.maxIterations ?? MAX_LUKS_ITERATIONS;
  requireIterations('LUKS header: mk_digest_iterations', header.mkDigestIterations, most);
  header.slots.forEach((slot, index) => {
    validateSlot(slot, index, header, areaLength, most);
  });
  requireDisjointSlots(header);
}

function validateSlot(
  slot: LuksKeySlot,
  index: number,
  header: LuksHeader,
  areaLength: number,
  maxIterations: number,
): void {
  const label = (key: keyof typeof SLOT_FIELDS) =>
    `key slot ${index}: ${fieldLabel(SLOT_FIELDS, key)}`;
  if (slot.active !== LUKS_SLOT_ACTIVE && slot.active !== LUKS_SLOT_INACTIVE) {
    const rule = `must be ${hex(LUKS_SLOT_ACTIVE)} or ${hex(LUKS_SLOT_INACTIVE)}`;
    throw luksError('MALFORMED', `${label('active')} is ${hex(slot.active)}; ${rule}`, slot.active);
  }
  if (slot.stripes !== LUKS_STRIPES) {
    const found = `${label('stripes')} is ${slot.stripes}; must be ${LUKS_STRIPES}`;
    throw luksError('MALFORMED', found, slot.stripes);
  }
  if (slot.active === LUKS_SLOT_INACTIVE) return;
  requireIterations(`LUKS header: ${label('iterations')}`, slot.iterations, maxIterations);
  const start = slot.keyMaterialOffset * SECTOR_SIZE;
  if (start < LUKS_HEADER_BYTES || start + keyMaterialBytes(header) > areaLength) {
    const rule = `its ${keyMaterialBytes(header)} bytes must lie behind the header and inside the area of ${areaLength}`;
    const found = `${label('keyMaterialOffset')} is sector ${slot.keyMaterialOffset}; ${rule}`;
    throw luksError('MALFORMED', found, slot.keyMaterialOffset);
  }
}

function requireIterations(what: string, iterations: number, most: number): void {
  if (iterations >= 1 && iterations <= most) return;
  const rule = `must be 1 to ${most}; raise the limit if you trust the image`;
  throw new Qcow2Error(
    iterations < 1 ? 'MALFORMED' : 'TOO_LARGE',
    `${what} is ${iterations}; ${rule}`,
    { structure: 'LUKS header', value: iterations },
  );
}

function requireDisjointSlots(header: LuksHeader): void {
  const starts = header.slots
    .filter((slot) => slot.active === LUKS_SLOT_ACTIVE)
    .map((slot) => slot.keyMaterialOffset * SECTOR_SIZE)
    .sort((a, b) => a - b);
  const bytes = keyMaterialBytes(header);
  starts.forEach((start, index) => {
    const next = starts[index + 1];
    if (next === undefined || start + bytes <= next) return;
    const found = `key material at bytes ${start} and ${next} of the area overlaps; the image is damaged`;
    throw luksError('MALFORMED', found, next);
  });
}

function luksError(code: Qcow2ErrorCode, found: string, value: number | string): Qcow2Error {
  return new Qcow2Error(code, `LUKS header: ${found}`, { structure: 'LUKS header', value });
}
