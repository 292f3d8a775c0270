/** Stable error codes. Scripts may compare them; texts may change. */
export type Qcow2ErrorCode =
  /** The magic does not match: the file is of another format. */
  | 'NOT_QCOW2'
  /** Version, incompatible feature, compression type or cipher this library does not know. */
  | 'UNSUPPORTED'
  /** A header, extension or table pointer breaks a rule of the format. */
  | 'MALFORMED'
  /** A size is beyond a limit of `format/limits.ts`. */
  | 'TOO_LARGE'
  /** The image is encrypted and no key was given, or a wrong one. */
  | 'NEED_KEY'
  /** The image is marked corrupt, or opened read-only, and a write was asked for. */
  | 'READ_ONLY'
  /** A table entry met while reading is invalid. */
  | 'BAD_ENTRY'
  /** A compressed stream cannot be decoded to exactly one cluster. */
  | 'BAD_DATA'
  /** A structure or data cluster lies a cluster or more past the end of its file. */
  | 'TRUNCATED'
  /** The operation is not allowed on this image. */
  | 'REFUSED'
  /** The image names a file outside itself and nothing allowed opening it. */
  | 'EXTERNAL_REFUSED'
  /** A named thing (file, snapshot, bitmap) does not exist. */
  | 'NOT_FOUND'
  /** A caller's argument is out of range or contradicts another. */
  | 'INVALID_ARGUMENT'
  /** The storage below failed. */
  | 'IO'
  /** An AbortSignal fired. */
  | 'ABORTED';

/** What an error is about: enough to find the bytes. Offsets are in bytes. */
export interface Qcow2ErrorDetails {
  /** The structure in the format's words: "header", "L1 table", "L2 entry", ... */
  structure?: string;
  /** Host offset of the structure or entry in its file. */
  offset?: number;
  /** Guest offset being accessed. */
  guestOffset?: number;
  /** The offending value; 64-bit words are bigint. */
  value?: number | bigint | string;
  /** The file concerned, when it is not the image itself. */
  file?: string;
  /** System error code (ENOENT, ENOSPC, ...) of an `IO` error. */
  errno?: string;
}

/**
 * The one error class of this package. `message` is one line: what, where, what to do; names from
 * files in it are made printable.
 * @example
 * import { Image, Qcow2Error } from 'qcow2';
 *
 * try {
 *   await Image.open(new Uint8Array(72), { format: 'qcow2' });
 * } catch (error) {
 *   if (!(error instanceof Qcow2Error)) throw error;
 *   console.log(error.code, error.details.offset); // NOT_QCOW2 0
 * }
 */
export class Qcow2Error extends Error {
  override readonly name = 'Qcow2Error';
  readonly code: Qcow2ErrorCode;
  readonly details: Qcow2ErrorDetails;

  constructor(
    code: Qcow2ErrorCode,
    message: string,
    details: Qcow2ErrorDetails = {},
    options?: ErrorOptions,
  ) {
    super(printable(message), options);
    this.code = code;
    this.details = details;
  }
}

/**
 * True for errors of this package, also across realms and duplicate installs.
 * @example
 * import { isQcow2Error, openImage } from 'qcow2';
 *
 * await openImage('missing.qcow2').catch((error) => {
 *   if (isQcow2Error(error)) console.log(error.code); // NOT_FOUND
 * });
 */
export function isQcow2Error(error: unknown): error is Qcow2Error {
  return error instanceof Error && error.name === 'Qcow2Error' && 'code' in error;
}

/** A 64-bit word or offset the way error texts show it: 0x-prefixed hexadecimal. */
export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

// C0 and C1 controls, DEL, line separators, and the marks that reorder text on a terminal.
const UNSAFE =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

/** Text from a file or a command line, made safe to print: what could drive a terminal is escaped. */
export function printable(text: string): string {
  return text.replace(UNSAFE, (character) => {
    const code = character.charCodeAt(0);
    return code < 0x100
      ? `\\x${code.toString(16).padStart(2, '0')}`
      : `\\u${code.toString(16).padStart(4, '0')}`;
  });
}
