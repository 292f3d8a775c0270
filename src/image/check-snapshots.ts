import { hex, Qcow2Error } from '../errors.ts';
import { decodeName, viewOf } from '../format/fields.ts';
import {
  MAX_L1_ENTRIES,
  MAX_SNAPSHOT_EXTRA_BYTES,
  MAX_SNAPSHOT_TABLE_BYTES,
  MAX_SNAPSHOTS,
} from '../format/limits.ts';
import {
  measureSnapshotTable,
  parseSnapshotTable,
  SNAPSHOT_EXTRA_BYTES,
  type Snapshot,
} from '../format/snapshot-table.ts';
import type { CheckedFile } from './check-file.ts';
import type { L1TableSpan } from './check-l1.ts';
import { completeSnapshot } from './complete-snapshot.ts';
import type { Metadata } from './metadata.ts';

const FIRST_READ = 65536;
const ENTRY_BYTES = 40;
/** Extra data version 3 requires of every entry. */
const LEAST_EXTRA_BYTES = 16;

/** The snapshot table as check reads it: broken entries are findings, not errors. */
export interface CheckedSnapshots {
  /** Bytes of the table. */
  readonly bytes: number;
  /** L1 tables that can be followed. */
  readonly l1Tables: readonly L1TableSpan[];
  /** The table that should stand in its place, if entries have too little or too much extra data. */
  readonly repaired: readonly Snapshot[] | undefined;
  /** Whether the header tells of more entries than the table can hold, and some are left out. */
  readonly isShortened: boolean;
  /** Corruptions that are gone with that. */
  readonly faults: number;
}

/**
 * Reads the snapshot table (format sections 12 and 18).
 * @param cuts whether too much extra data, and empty entries beyond the limit, are findings
 * @throws Qcow2Error TOO_LARGE: too many snapshots or too much extra data, which check cannot pass
 */
export async function checkSnapshots(file: CheckedFile, cuts: boolean): Promise<CheckedSnapshots> {
  const { nbSnapshots } = file.header;
  if (nbSnapshots === 0)
    return { bytes: 0, l1Tables: [], repaired: undefined, faults: 0, isShortened: false };
  const isTooLong = nbSnapshots > MAX_SNAPSHOTS;
  if (isTooLong && !cuts) throw tooMany(nbSnapshots);
  if (file.metadata.hasDataFile) {
    const at = file.header.snapshotsOffset;
    file.findings.add('corruption', 'snapshot table', at, 1, () => {
      return `ERROR ${nbSnapshots} snapshots in image with data file`;
    });
  }
  const count = isTooLong ? await usedEntries(file) : nbSnapshots;
  // Without any, it is the table that is lost.
  if (count === 0 || count > MAX_SNAPSHOTS) throw tooMany(nbSnapshots);
  const { bytes, length } = await readTable(file, count);
  const { corruptions, lost } = file.findings;
  const { l1Tables, areSound } = checkEntries(file, bytes, count, cuts);
  if (isTooLong) {
    const at = file.header.snapshotsOffset;
    file.findings.add('corruption', 'snapshot table', at, 1, () => {
      return `ERROR ${nbSnapshots} snapshots, of which ${count} are there`;
    });
  }
  const faults = file.findings.corruptions - corruptions;
  if (faults === 0)
    return { bytes: length, l1Tables, repaired: undefined, faults, isShortened: false };
  // Wrong lengths, or entries read at the wrong places: then nothing here is what it seems.
  if (!areSound) file.findings.lost++;
  if (file.findings.lost !== lost || !cuts)
    return { bytes: length, l1Tables, repaired: undefined, faults: 0, isShortened: isTooLong };
  const snapshots = parseSnapshotTable(bytes, count, { forCheck: true });
  const repaired = snapshots.map((each) => repairedEntry(each, file.metadata));
  return { bytes: length, l1Tables, repaired, faults, isShortened: isTooLong };
}

/** Entries in front of the first empty one. */
async function usedEntries(file: CheckedFile): Promise<number> {
  const bytes = new Uint8Array(MAX_SNAPSHOTS * 256);
  const found = await file.storage.read(file.header.snapshotsOffset, bytes);
  const view = viewOf(bytes.subarray(0, found));
  let at = 0;
  for (let index = 0; index <= MAX_SNAPSHOTS && at + ENTRY_BYTES <= found; index++) {
    // Offset and size of the L1 table, lengths of the names and of the extra data.
    const fields = [0, 4, 8, 12, 36].map((field) => view.getUint32(at + field));
    if (fields.every((value) => value === 0)) return index;
    const names = view.getUint16(at + 12) + view.getUint16(at + 14);
    at = Math.ceil((at + ENTRY_BYTES + view.getUint32(at + 36) + names) / 8) * 8;
  }
  return MAX_SNAPSHOTS + 1;
}

function repairedEntry(snapshot: Snapshot, metadata: Metadata): Snapshot {
  const { unknownExtra, ...rest } = completeSnapshot(snapshot, metadata);
  const most = MAX_SNAPSHOT_EXTRA_BYTES - SNAPSHOT_EXTRA_BYTES;
  return { ...rest, unknownExtra: unknownExtra.subarray(0, most) };
}

function tooMany(count: number): Qcow2Error {
  const text = `snapshot table: ${count} snapshots; at most ${MAX_SNAPSHOTS} can be checked`;
  return new Qcow2Error('TOO_LARGE', text, { structure: 'snapshot table', value: count });
}

/** The table, with zeros for what lies past the end of the file. */
async function readTable(
  file: CheckedFile,
  count: number,
): Promise<{ bytes: Uint8Array; length: number }> {
  for (let length = FIRST_READ; ; ) {
    const bytes = new Uint8Array(length);
    await file.storage.read(file.header.snapshotsOffset, bytes);
    const extent = measureSnapshotTable(bytes, count);
    if (extent.complete) return { bytes, length: extent.length };
    length = Math.max(extent.length, Math.min(length * 4, MAX_SNAPSHOT_TABLE_BYTES));
  }
}

function checkEntries(
  file: CheckedFile,
  bytes: Uint8Array,
  count: number,
  cuts: boolean,
): { l1Tables: L1TableSpan[]; areSound: boolean } {
  const view = viewOf(bytes);
  const l1Tables: L1TableSpan[] = [];
  let sound = 0;
  let at = 0;
  for (let index = 0; index < count; index++) {
    const extra = view.getUint32(at + 36);
    const idAt = at + ENTRY_BYTES + extra;
    const nameAt = idAt + view.getUint16(at + 12);
    const end = nameAt + view.getUint16(at + 14);
    checkExtra(file, index, at, extra, cuts);
    const name = (): string => {
      const id = decodeName(bytes.subarray(idAt, nameAt)).text;
      return `${id} (${decodeName(bytes.subarray(nameAt, end)).text})`;
    };
    const table = checkL1(file, view, at, name);
    if (table !== undefined && table.offset > 0) sound++;
    if (table !== undefined) l1Tables.push(table);
    at = Math.ceil(end / 8) * 8;
  }
  return { l1Tables, areSound: sound === count };
}

function checkExtra(
  file: CheckedFile,
  index: number,
  at: number,
  extra: number,
  cuts: boolean,
): void {
  const offset = file.header.snapshotsOffset + at;
  if (extra > MAX_SNAPSHOT_EXTRA_BYTES && cuts) {
    file.findings.add('corruption', 'snapshot table entry', offset, 1, () => {
      return `ERROR snapshot table entry ${index} has ${extra} bytes of extra data`;
    });
  } else if (extra > MAX_SNAPSHOT_EXTRA_BYTES) {
    const structure = `snapshot table entry ${index}`;
    const text = `${structure}: extra_data_size is ${extra}, more than ${MAX_SNAPSHOT_EXTRA_BYTES}; the check cannot be completed`;
    throw new Qcow2Error('TOO_LARGE', text, { structure, offset, value: extra });
  }
  if (file.header.version === 2 || extra >= LEAST_EXTRA_BYTES) return;
  file.findings.add('corruption', 'snapshot table entry', offset, 1, () => {
    return `ERROR snapshot table entry ${index} is incomplete`;
  });
}

function checkL1(
  file: CheckedFile,
  view: DataView,
  at: number,
  name: () => string,
): L1TableSpan | undefined {
  const low = view.getUint32(at + 4);
  const offset = view.getUint32(at) * 2 ** 32 + low;
  const entries = view.getUint32(at + 8);
  const report = (text: string): undefined => {
    const where = file.header.snapshotsOffset + at;
    const message = (): string => `ERROR snapshot ${name()}: ${text}`;
    file.findings.addLost('snapshot table entry', where, 1, message);
    return undefined;
  };
  if (low % file.geometry.clusterSize !== 0) {
    return report(`L1 table offset ${hex(offset)} is not cluster aligned`);
  }
  if (entries > MAX_L1_ENTRIES) return report(`L1 table of ${entries} entries is too large`);
  return entries === 0 ? undefined : { offset, entries };
}
