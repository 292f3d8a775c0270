import { hex, Qcow2Error } from '../errors.ts';

/**
 * Field tables: one table per structure drives reading, writing and the names and byte offsets in
 * error texts. Everything is big-endian. Keys are the format's names in camel case.
 *
 * - `u8` `u16` `u32`: number
 * - `n64`: 64 bits on disk, a `number` in memory, refused above 2^53 - 1
 * - `u64`: 64 bits, bigint
 * - `bytes`: a copy of that many bytes
 */
export type Field =
  | readonly [at: number, type: 'u8' | 'u16' | 'u32' | 'n64' | 'u64']
  | readonly [at: number, type: 'bytes', length: number];

/** Fields of a structure by name, each with its byte offset from the structure's start. */
export type FieldTable = Readonly<Record<string, Field>>;

type ValueOf<F extends Field> = F[1] extends 'u64'
  ? bigint
  : F[1] extends 'bytes'
    ? Uint8Array
    : number;

/** What reading a field table yields. */
export type FieldValues<T extends FieldTable> = { readonly [K in keyof T]: ValueOf<T[K]> };

const BYTES = { u8: 1, u16: 2, u32: 4, n64: 8, u64: 8 } as const;
const TWO_32 = 2 ** 32;

function bytesOf(field: Field): number {
  return field[1] === 'bytes' ? field[2] : BYTES[field[1]];
}

/** The format's spelling of a field: `l1TableOffset` is `l1_table_offset`. */
export function specName(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** A field the way error texts name it: `l1_table_offset (byte 40)`. */
export function fieldLabel(table: FieldTable, key: string): string {
  const field = table[key];
  return field === undefined ? specName(key) : `${specName(key)} (byte ${field[0]})`;
}

/** Bytes from a structure's start to the end of its last field. */
export function tableBytes(table: FieldTable): number {
  return Math.max(...Object.values(table).map((field) => field[0] + bytesOf(field)));
}

/** A DataView over exactly the bytes of an array. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * Reads a structure at byte `at` of `bytes`.
 * @throws MALFORMED if the bytes end before the structure; TOO_LARGE if an `n64` is above 2^53 - 1
 */
export function readFields<T extends FieldTable>(
  table: T,
  bytes: Uint8Array,
  structure: string,
  at = 0,
): FieldValues<T> {
  const end = at + tableBytes(table);
  if (end > bytes.length) {
    throw new Qcow2Error(
      'MALFORMED',
      `${structure}: needs ${end} bytes, only ${bytes.length} are there`,
      { structure, value: bytes.length },
    );
  }
  const view = viewOf(bytes);
  const values: Record<string, number | bigint | Uint8Array> = {};
  for (const [key, field] of Object.entries(table)) {
    const pos = at + field[0];
    if (field[1] === 'u8') values[key] = view.getUint8(pos);
    else if (field[1] === 'u16') values[key] = view.getUint16(pos);
    else if (field[1] === 'u32') values[key] = view.getUint32(pos);
    else if (field[1] === 'u64') values[key] = view.getBigUint64(pos);
    else if (field[1] === 'bytes') values[key] = bytes.slice(pos, pos + field[2]);
    else values[key] = readNumber64(view, pos, `${structure}: ${fieldLabel(table, key)}`);
  }
  return values as FieldValues<T>;
}

/**
 * Writes a structure at byte `at` of `bytes`; keys of `values` that the table lacks are ignored.
 * @throws INVALID_ARGUMENT if a value does not fit its field: nothing is cut silently
 */
export function writeFields<T extends FieldTable>(
  table: T,
  values: { readonly [K in keyof T]: ValueOf<T[K]> },
  bytes: Uint8Array,
  at = 0,
): void {
  const view = viewOf(bytes);
  for (const [key, field] of Object.entries(table)) {
    writeField(view, at, key, field, values[key] as number | bigint | Uint8Array);
  }
}

function writeField(
  view: DataView,
  at: number,
  key: string,
  field: Field,
  value: number | bigint | Uint8Array,
): void {
  const pos = at + field[0];
  if (!fits(field, value)) {
    const shown = value instanceof Uint8Array ? `${value.length} bytes` : String(value);
    throw new Qcow2Error(
      'INVALID_ARGUMENT',
      `${specName(key)} cannot be stored: ${shown} does not fit a field of type ${field[1]}`,
      { value: shown },
    );
  }
  if (value instanceof Uint8Array) {
    new Uint8Array(view.buffer, view.byteOffset + pos, value.length).set(value);
  } else if (typeof value === 'bigint') view.setBigUint64(pos, value);
  else if (field[1] === 'u8') view.setUint8(pos, value);
  else if (field[1] === 'u16') view.setUint16(pos, value);
  else if (field[1] === 'u32') view.setUint32(pos, value);
  else writeNumber64(view, pos, value);
}

function fits(field: Field, value: number | bigint | Uint8Array): boolean {
  if (field[1] === 'bytes') return value instanceof Uint8Array && value.length === field[2];
  if (field[1] === 'u64') return typeof value === 'bigint' && BigInt.asUintN(64, value) === value;
  const limit = field[1] === 'n64' ? Number.MAX_SAFE_INTEGER : 256 ** BYTES[field[1]] - 1;
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= limit;
}

/**
 * Reads 64 bits as a number.
 * @param what names the value in the error text
 * @throws TOO_LARGE above 2^53 - 1
 */
export function readNumber64(view: DataView, at: number, what: string): number {
  const high = view.getUint32(at);
  if (high > 0x1fffff) {
    const value = view.getBigUint64(at);
    throw new Qcow2Error(
      'TOO_LARGE',
      `${what} is ${hex(value)}; offsets and sizes above 2^53-1 are not supported`,
      { structure: what, value },
    );
  }
  return high * TWO_32 + view.getUint32(at + 4);
}

/** Writes an integer of 0 to 2^53 - 1 as 64 bits; the caller has checked the range. */
export function writeNumber64(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / TWO_32));
  view.setUint32(at + 4, value >>> 0);
}

/** A bit field of a 64-bit table entry: its lowest and highest bit. */
export type BitField = readonly [low: number, high: number];

/** The bit fields of a table entry; bits that no field claims are reserved. */
export type BitTable = Readonly<Record<string, BitField>>;

/** The bits of a field, in place. An offset field is used this way: it is stored unshifted. */
export function bitMask([low, high]: BitField): bigint {
  return ((1n << BigInt(high - low + 1)) - 1n) << BigInt(low);
}

/** All bits of a 64-bit entry that no field of the table claims. */
export function reservedMask(table: BitTable): bigint {
  const used = Object.values(table).reduce((bits, field) => bits | bitMask(field), 0n);
  return BigInt.asUintN(64, ~used);
}

/** A string of the file: its bytes, which are what counts, and their UTF-8 reading for display. */
export interface Name {
  readonly raw: Uint8Array;
  /** Bytes that are not UTF-8 show as U+FFFD. */
  readonly text: string;
}

const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
const encoder = new TextEncoder();

/** Wraps bytes of a file as a name; the bytes are copied. */
export function decodeName(raw: Uint8Array): Name {
  return { raw: raw.slice(), text: decoder.decode(raw) };
}

/** A name to be written, from text (stored as UTF-8) or from bytes. */
export function nameOf(value: string | Uint8Array): Name {
  return decodeName(typeof value === 'string' ? encoder.encode(value) : value);
}

/** `n` rounded up to a multiple of 8. */
export function align8(n: number): number {
  return Math.ceil(n / 8) * 8;
}
