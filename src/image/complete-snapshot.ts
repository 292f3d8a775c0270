import { ICOUNT_OFF, type Snapshot, vmStateSize } from '../format/snapshot-table.ts';
import type { Metadata } from './metadata.ts';

/** An entry with all the fields that are known today: version 3 demands the disk size of every one. */
export function completeSnapshot(snapshot: Snapshot, { virtualSize }: Metadata): Snapshot {
  if (snapshot.icount !== undefined) return snapshot;
  return {
    ...snapshot,
    vmStateSize64: vmStateSize(snapshot),
    diskSize: snapshot.diskSize ?? virtualSize,
    icount: ICOUNT_OFF,
    unknownExtra: new Uint8Array(0),
  };
}
