import { Qcow2Error } from '../errors.ts';

/** Powers of 1024 by suffix letter; `b` is bytes. */
const SUFFIXES = 'bkmgtpe';

// Whitespace, sign, then decimal digits with an optional fraction, or hexadecimal digits; a suffix.
const SIZE = /^\s*\+?(?:(0x[0-9a-f]+)|([0-9]+)(?:\.([0-9]*))?)([bkmgtpe]?)$/i;

/**
 * Reads a size in bytes as qemu-img does: decimal with an optional fraction and suffix (`1.5G`), or
 * hexadecimal. A fraction needs a suffix above bytes and is rounded to the nearest byte.
 * @param what names the value in the error, as in "image size"
 * @throws Qcow2Error INVALID_ARGUMENT
 */
export function parseSize(text: string, what: string): number {
  const bytes = readSize(text);
  if (bytes === null) {
    throw new Qcow2Error(
      'INVALID_ARGUMENT',
      `invalid ${what} '${text}': give bytes, or a number with one of the suffixes k, M, G, T, P, E`,
    );
  }
  if (bytes > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new Qcow2Error(
      'INVALID_ARGUMENT',
      `invalid ${what} '${text}': the largest supported value is ${Number.MAX_SAFE_INTEGER} bytes`,
    );
  }
  return Number(bytes);
}

/**
 * Reads a size or a number with the same suffixes, and refuses it in qemu-img's words.
 * @param what names the value in the error
 * @param most the largest value allowed
 * @throws Qcow2Error INVALID_ARGUMENT
 */
export function parseBounded(text: string, what: string, least: number, most: bigint): bigint {
  const value = readSize(text);
  if (value === null) {
    const names = 'kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes';
    const why = `You may use k, M, G, T, P or E suffixes for ${names}.`;
    throw new Qcow2Error('INVALID_ARGUMENT', `Invalid ${what} specified. ${why}`);
  }
  if (value >= least && value <= most) return value;
  const why = `Must be between ${least} and ${most}.`;
  throw new Qcow2Error('INVALID_ARGUMENT', `Invalid ${what} specified. ${why}`);
}

/**
 * Reads a size that may be relative, as of `resize`, and refuses it in qemu-img's words.
 * @param from what `+` and `-` count from
 * @throws Qcow2Error INVALID_ARGUMENT
 */
export function parseResize(text: string, from: number): bigint {
  const sign = /^[+-]/.exec(text)?.[0];
  const bytes = readSize(sign === undefined ? text : text.slice(1));
  if (bytes === null) {
    const why = `Parameter 'size' expects a non-negative number below 2^64; optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta- and exabytes, respectively.`;
    throw new Qcow2Error('INVALID_ARGUMENT', why);
  }
  if (bytes >= 2n ** 64n) {
    const shown = text.slice(sign === undefined ? 0 : 1);
    const why = `Value '${shown}' is out of range for parameter 'size'`;
    throw new Qcow2Error('INVALID_ARGUMENT', why);
  }
  if (sign === undefined) return bytes;
  return sign === '+' ? BigInt(from) + bytes : BigInt(from) - bytes;
}

/** Bytes, or null for what is no size. */
function readSize(text: string): bigint | null {
  const match = SIZE.exec(text);
  return match === null ? null : toBytes(match);
}

function toBytes(match: RegExpExecArray): bigint | null {
  const [, hexadecimal, decimal, fraction = '', suffix = ''] = match;
  const unit = 1024 ** Math.max(0, SUFFIXES.indexOf(suffix.toLowerCase() || 'b'));
  const whole = BigInt(hexadecimal ?? decimal ?? '') * BigInt(unit);
  const part = Number(`0.${fraction || '0'}`);
  if (part > 0 && unit === 1) return null;
  return whole + BigInt(Math.floor(part * unit + 0.5));
}

/**
 * Reads a whole number in C notation: decimal, 0x hexadecimal, or octal after a leading 0.
 * @throws Qcow2Error INVALID_ARGUMENT
 */
export function parseWholeNumber(text: string, what: string): number {
  const match = /^\s*\+?(?:(0x[0-9a-f]+)|0([0-7]+)|(0|[1-9][0-9]*))$/i.exec(text);
  const value =
    match === null ? Number.NaN : Number(match[1] ?? (match[2] && `0o${match[2]}`) ?? match[3]);
  if (!Number.isSafeInteger(value)) {
    throw new Qcow2Error(
      'INVALID_ARGUMENT',
      `invalid ${what} '${text}': a whole number is expected`,
    );
  }
  return value;
}

/**
 * A whole number within limits.
 * @throws Qcow2Error INVALID_ARGUMENT
 */
export function wholeNumber(text: string, what: string, least: number, most: number): number {
  const count = parseWholeNumber(text, what);
  if (count >= least && count <= most) return count;
  const range = `${least} to ${most} are possible`;
  throw new Qcow2Error('INVALID_ARGUMENT', `invalid ${what} '${text}': ${range}`);
}

const MAX_RETRIES = 1000;

/** How often a job is tried again; undefined: that was not said. */
export function retriesOf(text: string | undefined): number | undefined {
  return text === undefined ? undefined : wholeNumber(text, 'number of retries', 0, MAX_RETRIES);
}
