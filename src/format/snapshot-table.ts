import { hex, Qcow2Error } from '../errors.ts';
import {
  align8,
  decodeName,
  type FieldTable,
  type FieldValues,
  type Name,
  readFields,
  tableBytes,
  viewOf,
  writeFields,
} from './fields.ts';
import { type Geometry, type HostOffset, isClusterAligned, requireInFile } from './geometry.ts';
import * as limits from './limits.ts';

const ENTRY_FIELDS = {
  l1TableOffset: [0, 'n64'],
  l1Size: [8, 'u32'],
  idStrSize: [12, 'u16'],
  nameSize: [14, 'u16'],
  dateSec: [16, 'u32'],
  dateNsec: [20, 'u32'],
  vmClockNsec: [24, 'u64'],
  vmStateSize32: [32, 'u32'],
  extraDataSize: [36, 'u32'],
} as const satisfies FieldTable;

const ENTRY_BYTES = tableBytes(ENTRY_FIELDS);

const VM_STATE_FIELD = { vmStateSize64: [0, 'n64'] } as const satisfies FieldTable;
const DISK_SIZE_FIELD = { diskSize: [8, 'n64'] } as const satisfies FieldTable;
const ICOUNT_FIELD = { icount: [16, 'u64'] } as const satisfies FieldTable;
/** Bytes of the extra data this package understands, and writes. */
export const SNAPSHOT_EXTRA_BYTES = tableBytes(ICOUNT_FIELD);

/** `icount` of a snapshot taken without record/replay. */
export const ICOUNT_OFF = 0xffff_ffff_ffff_ffffn;

/** One internal snapshot (format section 12). */
export interface Snapshot
  extends Omit<FieldValues<typeof ENTRY_FIELDS>, 'idStrSize' | 'nameSize' | 'extraDataSize'> {
  /** Host offset of the snapshot's L1 table; unchecked, see `validateSnapshotL1`. */
  readonly l1TableOffset: HostOffset;
  /** Entries of that table; unchecked as well. */
  readonly l1Size: number;
  /** Seconds since 1970 and nanoseconds. */
  readonly dateSec: number;
  readonly dateNsec: number;
  /** Guest run time. */
  readonly vmClockNsec: bigint;
  /** The 32-bit VM state size; `vmStateSize()` knows which of the two counts. */
  readonly vmStateSize32: number;
  /** Present if there are 8 bytes of extra data. */
  readonly vmStateSize64: number | undefined;
  /** Virtual size in bytes at the time; present if there are 16 bytes of extra data. */
  readonly diskSize: number | undefined;
  /** Present if there are 24 bytes of extra data. */
  readonly icount: bigint | undefined;
  /** Extra data behind what the fields above cover, kept as it is. */
  readonly unknownExtra: Uint8Array;
  readonly id: Name;
  readonly name: Name;
}

/** Bytes of VM state: the 64-bit field wins if it is there, even when smaller. */
export function vmStateSize(snapshot: Snapshot): number {
  return snapshot.vmStateSize64 ?? snapshot.vmStateSize32;
}

/** How far a table reaches, as far as its first bytes tell. */
export interface SnapshotTableExtent {
  /** True if the bytes hold all `count` entries; then `length` is the table's length. */
  readonly complete: boolean;
  /** Bytes of the table, or the least that must be read to see more of it. */
  readonly length: number;
}

/**
 * Walks a snapshot table, whose length is stored nowhere: read some bytes, measure, and read on
 * to `length` until it is complete. Looks at nothing but the sizes.
 * @throws TOO_LARGE if the table is longer than 64 MiB
 */
export function measureSnapshotTable(bytes: Uint8Array, count: number): SnapshotTableExtent {
  const view = viewOf(bytes);
  let at = 0;
  let end = 0;
  for (let index = 0; index < count; index++) {
    end = at + ENTRY_BYTES;
    if (end <= bytes.length) end += entryTail(view, at);
    requireTableLength(end);
    if (end > bytes.length) return { complete: false, length: end };
    at = align8(end);
  }
  return { complete: true, length: end };
}

function entryTail(view: DataView, at: number): number {
  const { idStrSize, nameSize, extraDataSize } = ENTRY_FIELDS;
  return (
    view.getUint32(at + extraDataSize[0]) +
    view.getUint16(at + idStrSize[0]) +
    view.getUint16(at + nameSize[0])
  );
}

function requireTableLength(length: number): void {
  if (length <= limits.MAX_SNAPSHOT_TABLE_BYTES) return;
  throw new Qcow2Error(
    'TOO_LARGE',
    `snapshot table: has at least ${length} bytes; must have at most ${limits.MAX_SNAPSHOT_TABLE_BYTES}`,
    { structure: 'snapshot table', value: length },
  );
}

/** How strictly to read a snapshot table. */
export interface SnapshotTableOptions {
  /** Accept, as `check` repairs it, more extra data than allowed. */
  readonly forCheck?: boolean;
}

/**
 * Reads all entries of a snapshot table.
 * @param bytes the table, as measured; more is ignored
 * @throws MALFORMED if the bytes end too early; TOO_LARGE beyond the limits of format section 15
 */
export function parseSnapshotTable(
  bytes: Uint8Array,
  count: number,
  options: SnapshotTableOptions = {},
): Snapshot[] {
  const snapshots: Snapshot[] = [];
  let at = 0;
  for (let index = 0; index < count; index++) {
    const { snapshot, end } = parseEntry(bytes, at, index, options.forCheck === true);
    requireTableLength(end);
    snapshots.push(snapshot);
    at = align8(end);
  }
  return snapshots;
}

function parseEntry(
  bytes: Uint8Array,
  at: number,
  index: number,
  forCheck: boolean,
): { snapshot: Snapshot; end: number } {
  const structure = `snapshot table entry ${index}`;
  const fields = readFields(ENTRY_FIELDS, bytes, structure, at);
  const { idStrSize, nameSize, extraDataSize, ...kept } = fields;
  if (extraDataSize > limits.MAX_SNAPSHOT_EXTRA_BYTES && !forCheck) {
    throw new Qcow2Error(
      'TOO_LARGE',
      `${structure}: extra_data_size is ${extraDataSize}; must be 0 to ` +
        `${limits.MAX_SNAPSHOT_EXTRA_BYTES}, a repairing check cuts it`,
      { structure, offset: at, value: extraDataSize },
    );
  }
  const extraAt = at + ENTRY_BYTES;
  const idAt = extraAt + extraDataSize;
  const nameAt = idAt + idStrSize;
  const end = nameAt + nameSize;
  if (end > bytes.length) {
    throw new Qcow2Error(
      'MALFORMED',
      `${structure}: ends at byte ${end} of the table; only ${bytes.length} are there`,
      { structure, offset: at, value: end },
    );
  }
  const extra = bytes.slice(extraAt, idAt);
  const snapshot = {
    ...kept,
    ...readExtra(extra, structure),
    id: decodeName(bytes.subarray(idAt, nameAt)),
    name: decodeName(bytes.subarray(nameAt, end)),
  };
  return { snapshot, end };
}

type Extra = Pick<Snapshot, 'vmStateSize64' | 'diskSize' | 'icount' | 'unknownExtra'>;

function readExtra(extra: Uint8Array, structure: string): Extra {
  const has = (table: FieldTable) => extra.length >= tableBytes(table);
  const known = Math.min(Math.floor(extra.length / 8) * 8, SNAPSHOT_EXTRA_BYTES);
  return {
    vmStateSize64: has(VM_STATE_FIELD)
      ? readFields(VM_STATE_FIELD, extra, structure).vmStateSize64
      : undefined,
    diskSize: has(DISK_SIZE_FIELD)
      ? readFields(DISK_SIZE_FIELD, extra, structure).diskSize
      : undefined,
    icount: has(ICOUNT_FIELD) ? readFields(ICOUNT_FIELD, extra, structure).icount : undefined,
    unknownExtra: extra.slice(known),
  };
}

function writeExtra(snapshot: Snapshot): Uint8Array {
  const { vmStateSize64, diskSize, icount, unknownExtra } = snapshot;
  const known = icount !== undefined ? 24 : diskSize !== undefined ? 16 : 8;
  const length = vmStateSize64 === undefined ? 0 : known;
  const whole = vmStateSize64 !== undefined && (icount === undefined || diskSize !== undefined);
  const none = diskSize === undefined && icount === undefined;
  if (!(whole || (vmStateSize64 === undefined && none)) || brokenTail(length, unknownExtra)) {
    throw new Qcow2Error(
      'INVALID_ARGUMENT',
      'snapshot extra data has a gap; set vmStateSize64, diskSize and icount, in this order',
      { structure: 'snapshot table entry' },
    );
  }
  const extra = new Uint8Array(length + unknownExtra.length);
  if (vmStateSize64 !== undefined) writeFields(VM_STATE_FIELD, { vmStateSize64 }, extra);
  if (diskSize !== undefined) writeFields(DISK_SIZE_FIELD, { diskSize }, extra);
  if (icount !== undefined) writeFields(ICOUNT_FIELD, { icount }, extra);
  extra.set(unknownExtra, length);
  return extra;
}

/** Behind an absent field there can only be less than its 8 bytes. */
function brokenTail(length: number, unknown: Uint8Array): boolean {
  return length < SNAPSHOT_EXTRA_BYTES && unknown.length >= 8;
}

/** Bytes one entry takes, without padding to the next. */
export function snapshotBytes(snapshot: Snapshot): number {
  const extra = writeExtra(snapshot).length;
  return ENTRY_BYTES + extra + snapshot.id.raw.length + snapshot.name.raw.length;
}

/**
 * Writes a snapshot table: entries at multiples of 8, the last one not padded.
 * @throws INVALID_ARGUMENT for values that do not fit their fields; TOO_LARGE beyond the limits
 */
export function encodeSnapshotTable(snapshots: readonly Snapshot[]): Uint8Array {
  const sizes = snapshots.map(snapshotBytes);
  const length = sizes.reduce((end, size) => align8(end) + size, 0);
  requireTableLength(length);
  if (snapshots.length > limits.MAX_SNAPSHOTS) {
    throw new Qcow2Error(
      'TOO_LARGE',
      `snapshot table: ${snapshots.length} snapshots; must be at most ${limits.MAX_SNAPSHOTS}`,
      { structure: 'snapshot table', value: snapshots.length },
    );
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  snapshots.forEach((snapshot, index) => {
    writeEntry(snapshot, bytes, at);
    at = align8(at + (sizes[index] ?? 0));
  });
  return bytes;
}

function writeEntry(snapshot: Snapshot, bytes: Uint8Array, at: number): void {
  const extra = writeExtra(snapshot);
  const { id, name } = snapshot;
  const sizes = {
    idStrSize: id.raw.length,
    nameSize: name.raw.length,
    extraDataSize: extra.length,
  };
  writeFields(ENTRY_FIELDS, { ...snapshot, ...sizes }, bytes, at);
  bytes.set(extra, at + ENTRY_BYTES);
  bytes.set(id.raw, at + ENTRY_BYTES + extra.length);
  bytes.set(name.raw, at + ENTRY_BYTES + extra.length + id.raw.length);
}

/**
 * Rules a snapshot's L1 pointer must meet before it is followed; opening the image does not need
 * them.
 * @param fileSize bytes of the image file
 * @throws MALFORMED, TOO_LARGE, TRUNCATED
 */
export function validateSnapshotL1(snapshot: Snapshot, geometry: Geometry, fileSize: number): void {
  const { l1TableOffset: offset, l1Size } = snapshot;
  if (l1Size > limits.MAX_L1_ENTRIES) {
    throw new Qcow2Error(
      'TOO_LARGE',
      `snapshot table entry: l1_size is ${l1Size}; must be 0 to ${limits.MAX_L1_ENTRIES}`,
      { structure: 'snapshot table entry', value: l1Size },
    );
  }
  if (!isClusterAligned(offset, geometry) || (offset === 0 && l1Size > 0)) {
    throw new Qcow2Error(
      'MALFORMED',
      `snapshot table entry: l1_table_offset is ${hex(offset)}; must be a multiple of the cluster ` +
        `size ${hex(geometry.clusterSize)} and not 0`,
      { structure: 'snapshot table entry', value: offset },
    );
  }
  requireInFile('snapshot L1 table', offset, l1Size * 8, fileSize, geometry);
}
