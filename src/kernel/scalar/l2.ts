import {
  INVALID_BITMAP_ON_COMPRESSED,
  INVALID_COMPRESSED_IN_DATA_FILE,
  INVALID_HOST_NOT_GUEST,
  INVALID_PAST_END,
  INVALID_UNALIGNED,
  INVALID_ZERO_IN_V2,
  L2_DATA_FILE,
  L2_VERSION_2,
  RUN_ATTR_COPIED,
  RUN_ATTR_RESERVED,
  RUN_COMPRESSED,
  RUN_DATA,
  RUN_INVALID,
  RUN_UNALLOCATED,
  RUN_ZERO_ALLOCATED,
  RUN_ZERO_PLAIN,
} from '../abi.ts';
import type { ScalarMemory } from './memory.ts';
import { RunWriter } from './runs.ts';

/** What the decoding of all entries of a table depends on. */
export interface L2Rules {
  clusterBits: number;
  isVersion2: boolean;
  isDataFile: boolean;
  attributes: number;
  /** First host offset that is past the end. */
  end: number;
}

export function l2Rules(
  clusterBits: number,
  flags: number,
  attributes: number,
  hostSize: number,
): L2Rules {
  return {
    clusterBits,
    isVersion2: (flags & L2_VERSION_2) !== 0,
    isDataFile: (flags & L2_DATA_FILE) !== 0,
    attributes,
    end: hostSize > 0 ? Math.min(Math.floor(hostSize), 2 ** 53) : 0,
  };
}

// Entries are two u32 halves, `high` and `low`.

export const isCompressed = (high: number): boolean => (high & 0x40000000) !== 0;
export const isCopied = (high: number): boolean => high >>> 31 === 1;

/** Bits 9 to 55. */
export function hostOffset(high: number, low: number): number {
  return (high & 0x00ffffff) * 2 ** 32 + ((low & 0xfffffe00) >>> 0);
}

export function attributesOf(high: number, low: number, hasHost: boolean, rules: L2Rules): number {
  let attributes = 0;
  if (hasHost && isCopied(high)) attributes |= RUN_ATTR_COPIED;
  if ((high & 0x3f000000) !== 0 || (low & 0x1fe) !== 0) attributes |= RUN_ATTR_RESERVED;
  return attributes & rules.attributes;
}

/** The `INVALID_*` code of a cluster's host offset, or 0. */
export function offsetFault(host: number, guest: number, isData: boolean, rules: L2Rules): number {
  if (host % 2 ** rules.clusterBits !== 0) return INVALID_UNALIGNED;
  if (rules.isDataFile && host !== guest) return INVALID_HOST_NOT_GUEST;
  if (isData && host >= rules.end) return INVALID_PAST_END;
  return 0;
}

/** Appends a compressed entry (format section 8). */
export function appendCompressed(
  runs: RunWriter,
  high: number,
  low: number,
  hasBitmap: boolean,
  first: number,
  units: number,
  rules: L2Rules,
): boolean {
  const highBits = 70 - rules.clusterBits - 32;
  const offset = (high & (2 ** highBits - 1)) * 2 ** 32 + low;
  const sectors = (high >>> highBits) & (2 ** (rules.clusterBits - 8) - 1);
  if (rules.isDataFile) {
    return runs.append(RUN_INVALID, first, units, INVALID_COMPRESSED_IN_DATA_FILE, offset);
  }
  if (hasBitmap)
    return runs.append(RUN_INVALID, first, units, INVALID_BITMAP_ON_COMPRESSED, offset);
  if (offset >= rules.end) return runs.append(RUN_INVALID, first, units, INVALID_PAST_END, offset);
  return runs.append(RUN_COMPRESSED, first, units, (sectors + 1) * 512 - (low & 511), offset);
}

/** Twin of `l2_decode`. */
export function decodeL2(
  memory: ScalarMemory,
  table: number,
  first: number,
  count: number,
  rules: L2Rules,
  guestBase: number,
  out: number,
  capacity: number,
): number {
  const cluster = 2 ** rules.clusterBits;
  const runs = new RunWriter(memory, out, capacity, cluster);
  let i = 0;
  for (; i < count; i++) {
    const high = memory.view.getUint32(table + (first + i) * 8);
    const low = memory.view.getUint32(table + (first + i) * 8 + 4);
    if (!appendEntry(runs, high, low, first + i, guestBase + i * cluster, rules)) break;
  }
  return runs.finish(first + i);
}

/** Classifies in the order of format section 7. */
function appendEntry(
  runs: RunWriter,
  high: number,
  low: number,
  index: number,
  guest: number,
  rules: L2Rules,
): boolean {
  if (isCompressed(high)) return appendCompressed(runs, high, low, false, index, 1, rules);
  const host = hostOffset(high, low);
  const isZero = (low & 1) !== 0;
  const hasHost = host !== 0 || (!isZero && rules.isDataFile && isCopied(high));
  let fault = 0;
  if (isZero && rules.isVersion2) fault = INVALID_ZERO_IN_V2;
  else if (hasHost) fault = offsetFault(host, guest, !isZero, rules);
  if (fault !== 0) return runs.append(RUN_INVALID, index, 1, fault, host);
  const attributes = attributesOf(high, low, hasHost, rules);
  let kind = hasHost ? RUN_DATA : RUN_UNALLOCATED;
  if (isZero) kind = hasHost ? RUN_ZERO_ALLOCATED : RUN_ZERO_PLAIN;
  return runs.append(kind, index, 1, attributes, host);
}
