import { Qcow2Error } from '../errors.ts';
import { PROBE_BYTES, probeFormat } from '../format/probe.ts';
import type { Snapshot } from '../format/snapshot-table.ts';
import type { Storage } from '../storage/storage.ts';
import { type Metadata, readSnapshots } from './metadata.ts';

/** Picks a snapshot; both must match where both are given. */
export interface SnapshotQuery {
  id?: string;
  name?: string;
}

/**
 * What an image is, by its first bytes.
 * @throws Qcow2Error UNSUPPORTED: another format
 */
export async function probe(storage: Storage): Promise<'qcow2' | 'raw'> {
  const bytes = new Uint8Array(PROBE_BYTES);
  const n = await storage.read(0, bytes);
  const format = probeFormat(bytes.subarray(0, n));
  if (format === 'qcow2' || format === 'raw') return format;
  const text = `'${storage.name}' is a ${format} image; only qcow2 and raw are supported`;
  throw new Qcow2Error('UNSUPPORTED', text, { value: format });
}

/**
 * The internal snapshot that is wanted: by id or name, or by id first and then by name.
 * @throws Qcow2Error NOT_FOUND, and those of reading the table
 */
export async function findSnapshot(
  storage: Storage,
  metadata: Metadata | undefined,
  wanted: string | SnapshotQuery,
): Promise<Snapshot> {
  const snapshots = metadata ? await readSnapshots(storage, metadata) : [];
  return pickSnapshot(snapshots, wanted, storage);
}

/**
 * The first of some snapshots that is wanted; see `findSnapshot`.
 * @throws Qcow2Error NOT_FOUND
 */
export function pickSnapshot(
  snapshots: readonly Snapshot[],
  wanted: string | SnapshotQuery,
  storage: Storage,
): Snapshot {
  const query = typeof wanted === 'string' ? null : wanted;
  const found = query
    ? snapshots.find(
        (s) =>
          (query.id === undefined || s.id.text === query.id) &&
          (query.name === undefined || s.name.text === query.name),
      )
    : (snapshots.find((s) => s.id.text === wanted) ??
      snapshots.find((s) => s.name.text === wanted));
  if (found) return found;
  const what = query ? [query.id, query.name].filter(Boolean).join('/') : wanted;
  const text = `no internal snapshot with id or name '${what}' in '${storage.name}'`;
  throw new Qcow2Error('NOT_FOUND', text, { structure: 'snapshot table' });
}
