import {
  type BitmapDirectoryEntry,
  encodeBitmapDirectory,
} from '../../src/format/bitmap-directory.ts';
import { nameOf, viewOf } from '../../src/format/fields.ts';
import type { Geometry } from '../../src/format/geometry.ts';
import {
  bitmapsExtension,
  encryptionExtension,
  type HeaderExtension,
} from '../../src/format/header-extensions.ts';
import {
  encodeLuksHeader,
  LUKS_SLOT_ACTIVE,
  LUKS_SLOT_INACTIVE,
  LUKS_SLOTS,
  type LuksHeader,
} from '../../src/format/luks-header.ts';
import { encodeSnapshotTable, type Snapshot } from '../../src/format/snapshot-table.ts';
import type { Places } from './small-image.ts';

/** Hands out clusters at the end of the growing file. */
export class Layout {
  next = 0;
  readonly #clusterSize: number;
  constructor(clusterSize: number) {
    this.#clusterSize = clusterSize;
  }
  take(bytes: number): number {
    const at = this.next;
    this.next += Math.ceil(bytes / this.#clusterSize) * this.#clusterSize;
    return at;
  }
}

/** A 64-bit word, big-endian. */
export function u64Bytes(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  viewOf(bytes).setBigUint64(0, value);
  return bytes;
}

/** A snapshot table, and one L1 table that all snapshots share. */
export function buildSnapshots(
  snapshots: readonly Partial<Snapshot>[],
  l1: Uint8Array,
  size: number,
  layout: Layout,
  at: Places,
  parts: [number, Uint8Array][],
): void {
  at.snapshotL1 = layout.take(l1.length);
  parts.push([at.snapshotL1, l1]);
  const whole = snapshots.map((snapshot, index): Snapshot => {
    return {
      l1TableOffset: at.snapshotL1,
      l1Size: l1.length / 8,
      dateSec: 1_700_000_000,
      dateNsec: 0,
      vmClockNsec: 0n,
      vmStateSize32: 0,
      vmStateSize64: 0,
      diskSize: size,
      icount: 0n,
      unknownExtra: new Uint8Array(0),
      id: nameOf(String(index + 1)),
      name: nameOf(`snapshot${index + 1}`),
      ...snapshot,
    };
  });
  const table = encodeSnapshotTable(whole);
  at.snapshots = layout.take(table.length);
  parts.push([at.snapshots, table]);
}

/** Bitmap tables and directory; every bitmap is all ones. */
export function buildBitmaps(
  bitmaps: readonly Partial<BitmapDirectoryEntry>[],
  geometry: Geometry,
  layout: Layout,
  at: Places,
  parts: [number, Uint8Array][],
): HeaderExtension {
  const whole = bitmaps.map((bitmap, index): BitmapDirectoryEntry => {
    const bitmapTableOffset = layout.take(geometry.clusterSize);
    at.bitmapTables.push(bitmapTableOffset);
    parts.push([bitmapTableOffset, u64Bytes(1n)]);
    return {
      bitmapTableOffset,
      bitmapTableSize: 1,
      flags: 2,
      type: 1,
      granularityBits: 16,
      extraData: new Uint8Array(0),
      name: nameOf(`bitmap${index}`),
      ...bitmap,
    };
  });
  const directory = encodeBitmapDirectory(whole);
  at.bitmapDirectory = layout.take(directory.length);
  parts.push([at.bitmapDirectory, directory]);
  return bitmapsExtension({
    nbBitmaps: whole.length,
    bitmapDirectorySize: directory.length,
    bitmapDirectoryOffset: at.bitmapDirectory,
  });
}

/** Bytes of a fixed field with a NUL-terminated text. */
function textField(text: string, length: number): Uint8Array {
  const field = new Uint8Array(length);
  new TextEncoder().encodeInto(text, field);
  return field;
}

/** A LUKS area of QEMU's layout with one active key slot. */
export function buildLuks(
  { area = 2068480, ...changes }: Partial<LuksHeader> & { area?: number },
  layout: Layout,
  at: Places,
  parts: [number, Uint8Array][],
): HeaderExtension {
  const slots = Array.from({ length: LUKS_SLOTS }, (_, index) => ({
    active: index === 0 ? LUKS_SLOT_ACTIVE : LUKS_SLOT_INACTIVE,
    iterations: index === 0 ? 1000 : 0,
    salt: new Uint8Array(32).fill(index + 1),
    keyMaterialOffset: 8 + 504 * index,
    stripes: 4000,
  }));
  const header: LuksHeader = {
    version: 1,
    cipherName: textField('aes', 32),
    cipherMode: textField('xts-plain64', 32),
    hashSpec: textField('sha256', 32),
    payloadOffset: 4040,
    keyBytes: 64,
    mkDigest: new Uint8Array(20).fill(1),
    mkDigestSalt: new Uint8Array(32).fill(2),
    mkDigestIterations: 1000,
    uuid: textField('6f0e8a52-8a52-4d3a-9d2c-0123456789ab', 40),
    slots,
    ...changes,
  };
  at.luks = layout.take(area);
  parts.push([at.luks, encodeLuksHeader(header)]);
  return encryptionExtension({ offset: at.luks, length: area });
}
