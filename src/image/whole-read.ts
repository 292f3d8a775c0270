import { hex, Qcow2Error } from '../errors.ts';
import type { Storage } from '../storage/storage.ts';

/**
 * Checks the result of a read: it may be short at the end of the file only. A file that has become
 * shorter than it said, or a storage that stops early, must not pass for zeros.
 * @param end where the read stopped; @param wanted where it was to stop
 * @throws Qcow2Error TRUNCATED
 */
export function requireReadToEnd(storage: Storage, end: number, wanted: number): void {
  if (end >= wanted || end >= storage.size) return;
  const text = `'${storage.name}' could be read to offset ${hex(end)} only, of ${hex(storage.size)} bytes; it was cut off while in use`;
  throw new Qcow2Error('TRUNCATED', text, { structure: 'file', offset: end });
}
