import { Qcow2Error } from '../errors.ts';
import type { Codec } from './codec.ts';

/**
 * The error for a stream that does not decode to exactly one cluster (format section 8).
 * @param reason what is wrong, as the second half of a sentence
 */
export function badStream(name: Codec['name'], reason: string, cause?: unknown): Qcow2Error {
  return new Qcow2Error(
    'BAD_DATA',
    `compressed cluster (${name}) cannot be decoded: ${reason}; restore the image from another copy`,
    { structure: 'compressed cluster' },
    cause === undefined ? undefined : { cause },
  );
}
