import { hex, Qcow2Error, type Qcow2ErrorCode } from '../errors.ts';
import * as abi from '../kernel/abi.ts';
import type { Layer } from './layer.ts';

const REASONS: Readonly<Record<number, [Qcow2ErrorCode, (host: string, end: string) => string]>> = {
  [abi.INVALID_UNALIGNED]: ['BAD_ENTRY', (host) => `host offset ${host} is not cluster aligned`],
  [abi.INVALID_ZERO_IN_V2]: ['BAD_ENTRY', () => 'the zero flag is set in a version 2 image'],
  [abi.INVALID_COMPRESSED_IN_DATA_FILE]: [
    'BAD_ENTRY',
    () => 'a compressed cluster in an image with an external data file',
  ],
  [abi.INVALID_HOST_NOT_GUEST]: [
    'BAD_ENTRY',
    (host) => `data-file offset ${host} differs from the guest offset`,
  ],
  [abi.INVALID_PAST_END]: [
    'TRUNCATED',
    (host, end) => `host offset ${host} is past the end of the file (${end}); it is truncated`,
  ],
  [abi.INVALID_ALLOC_AND_ZERO]: [
    'BAD_ENTRY',
    () => 'a subcluster is marked both allocated and zero',
  ],
  [abi.INVALID_ALLOC_WITHOUT_OFFSET]: [
    'BAD_ENTRY',
    () => 'a subcluster is marked allocated without a host offset',
  ],
  [abi.INVALID_BITMAP_ON_COMPRESSED]: [
    'BAD_ENTRY',
    () => 'a compressed cluster has a subcluster bitmap',
  ],
};

/** The error for an L2 entry the kernel called invalid. */
export function invalidEntry(
  layer: Layer,
  reason: number,
  host: number,
  where: { offset: number; guestOffset: number },
): Qcow2Error {
  const [code, text] = REASONS[reason] ?? ['BAD_ENTRY', () => `reason ${reason}`];
  const what = text(hex(host), hex(layer.dataStorage.size));
  const at = `L2 entry at offset ${hex(where.offset)} of '${layer.storage.name}'`;
  const message = `${at} (guest offset ${hex(where.guestOffset)}): ${what}`;
  return new Qcow2Error(code, message, { structure: 'L2 entry', value: host, ...where });
}
