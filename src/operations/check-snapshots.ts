import { hex, Qcow2Error } from '../errors.ts';
import { decodeName, viewOf } from '../format/fields.ts';
import {
  MAX_L1_ENTRIES,
  MAX_SNAPSHOT_EXTRA_BYTES,
  MAX_SNAPSHOT_TABLE_BYTES,
  MAX_SNAPSHOTS,
} from '../format/limits.ts';
import { measureSnapshotTable } from '../format/snapshot-table.ts';
import type { CheckedFile } from './check-file.ts';
import type { L1TableSpan } from './check-l1.ts';

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
}

/**
 * Reads the snapshot table (format sections 12 and 18).
 * @throws Qcow2Error TOO_LARGE: too many snapshots or too much extra data, which check cannot pass
 */
export async function checkSnapshots(file: CheckedFile): Promise<CheckedSnapshots> {
  const { nbSnapshots } = file.header;
  if (nbSnapshots === 0) return { bytes: 0, l1Tables: [] };
  if (nbSnapshots > MAX_SNAPSHOTS) {
    const text = `snapshot table: ${nbSnapshots} snapshots; at most ${MAX_SNAPSHOTS} can be checked`;
    throw new Qcow2Error('TOO_LARGE', text, { structure: 'snapshot table', value: nbSnapshots });
  }
  if (file.metadata.hasDataFile) {
    const at = file.header.snapshotsOffset;
    file.findings.add('corruption', 'snapshot table', at, 1, () => {
      return `ERROR ${nbSnapshots} snapshots in image with data file`;
    });
  }
  const { bytes, length } = await readTable(file, nbSnapshots);
  return { bytes: length, l1Tables: checkEntries(file, bytes, nbSnapshots) };
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

function checkEntries(file: CheckedFile, bytes: Uint8Array, count: number): L1TableSpan[] {
  const view = viewOf(bytes);
  const tables: L1TableSpan[] = [];
  let at = 0;
  for (let index = 0; index < count; index++) {
    const extra = view.getUint32(at + 36);
    const idAt = at + ENTRY_BYTES + extra;
    const nameAt = idAt + view.getUint16(at + 12);
    const end = nameAt + view.getUint16(at + 14);
    checkExtra(file, index, at, extra);
    const name = (): string => {
      const id = decodeName(bytes.subarray(idAt, nameAt)).text;
      return `${id} (${decodeName(bytes.subarray(nameAt, end)).text})`;
    };
    const table = checkL1(file, view, at, name);
    if (table !== undefined) tables.push(table);
    at = Math.ceil(end / 8) * 8;
  }
  return tables;
}

function checkExtra(file: CheckedFile, index: number, at: number, extra: number): void {
  const offset = file.header.snapshotsOffset + at;
  if (extra > MAX_SNAPSHOT_EXTRA_BYTES) {
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
    file.findings.add('corruption', 'snapshot table entry', where, 1, message);
    return undefined;
  };
  if (low % file.geometry.clusterSize !== 0) {
    return report(`L1 table offset ${hex(offset)} is not cluster aligned`);
  }
  if (entries > MAX_L1_ENTRIES) return report(`L1 table of ${entries} entries is too large`);
  return entries === 0 ? undefined : { offset, entries };
}
