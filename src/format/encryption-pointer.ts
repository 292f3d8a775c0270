import { hex, Qcow2Error } from '../errors.ts';
import {
  type FieldTable,
  type FieldValues,
  readFields,
  tableBytes,
  writeFields,
} from './fields.ts';
import { type Geometry, type HostOffset, isClusterAligned, requireInFile } from './geometry.ts';

const POINTER_FIELDS = {
  offset: [0, 'n64'],
  length: [8, 'n64'],
} as const satisfies FieldTable;

/** Bytes of the encryption pointer extension's data. */
export const ENCRYPTION_POINTER_BYTES = tableBytes(POINTER_FIELDS);

/** Where the LUKS header and key material lie (format section 14). */
export interface EncryptionPointer extends FieldValues<typeof POINTER_FIELDS> {
  /** Host offset in bytes, cluster aligned. */
  readonly offset: HostOffset;
  /** Bytes of header plus key material; whole clusters are allocated for it. */
  readonly length: number;
}

/**
 * Reads the data of the extension.
 * @throws MALFORMED if it is not 16 bytes long, TOO_LARGE for 64-bit values above 2^53 - 1
 */
export function parseEncryptionPointer(data: Uint8Array): EncryptionPointer {
  if (data.length !== ENCRYPTION_POINTER_BYTES) {
    throw new Qcow2Error(
      'MALFORMED',
      `encryption header pointer: has ${data.length} bytes; must have ${ENCRYPTION_POINTER_BYTES}`,
      { structure: 'encryption header pointer', value: data.length },
    );
  }
  return readFields(POINTER_FIELDS, data, 'encryption header pointer');
}

/** Writes the data of the extension. */
export function encodeEncryptionPointer(pointer: EncryptionPointer): Uint8Array {
  const data = new Uint8Array(ENCRYPTION_POINTER_BYTES);
  writeFields(POINTER_FIELDS, pointer, data);
  return data;
}

/**
 * @param fileSize bytes of the image file
 * @throws MALFORMED if the area is unaligned or at offset 0; TRUNCATED if it lies past the end
 */
export function validateEncryptionPointer(
  pointer: EncryptionPointer,
  geometry: Geometry,
  fileSize: number,
): void {
  if (pointer.offset === 0 || !isClusterAligned(pointer.offset, geometry)) {
    throw new Qcow2Error(
      'MALFORMED',
      `encryption header pointer: offset is ${hex(pointer.offset)}; ` +
        `must be a multiple of the cluster size ${hex(geometry.clusterSize)} and not 0`,
      { structure: 'encryption header pointer', value: pointer.offset },
    );
  }
  requireInFile('LUKS area', pointer.offset, pointer.length, fileSize, geometry);
}
