import { hex, Qcow2Error } from '../errors.ts';

/**
 * Refuses a guest range that is not on the disk; offsets and lengths in bytes.
 * @throws Qcow2Error INVALID_ARGUMENT
 */
export function requireOnDisk(verb: string, offset: number, length: number, size: number): void {
  const isWhole = Number.isSafeInteger(offset) && Number.isSafeInteger(length);
  if (isWhole && offset >= 0 && length >= 0 && offset + length <= size) return;
  const text = `${verb} of ${length} bytes at offset ${offset}: the disk has ${size} bytes (${hex(size)})`;
  throw new Qcow2Error('INVALID_ARGUMENT', text, { guestOffset: offset });
}
