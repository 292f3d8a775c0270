import type { BitmapInfo, SnapshotInfo } from '../../src/operations/info.ts';
import { h, note, table } from '../dom.ts';
import { sizeText } from '../model/sizes.ts';
import type { View } from './session.ts';

/** Internal snapshots and persistent bitmaps. */
export const showSnapshots: View = async (panel, { client }) => {
  const { snapshots, formatSpecific } = await client.ask('info');
  const bitmaps = formatSpecific?.bitmaps ?? [];
  panel.replaceChildren(
    h('h3', {}, 'Internal snapshots'),
    snapshots.length > 0 ? snapshotTable(snapshots) : note('There are none.'),
    h('h3', {}, 'Bitmaps'),
    bitmaps.length > 0 ? bitmapTable(bitmaps) : note('There are none.'),
  );
};

function snapshotTable(snapshots: readonly SnapshotInfo[]): HTMLElement {
  const rows = snapshots.map((snapshot) => [
    snapshot.id,
    snapshot.name,
    dateText(snapshot.dateSec),
    snapshot.vmStateSize === 0 ? 'none' : sizeText(snapshot.vmStateSize),
    clockText(snapshot),
  ]);
  return table('Internal snapshots', ['Id', 'Name', 'Taken', 'Machine state', 'Machine ran'], rows);
}

function bitmapTable(bitmaps: readonly BitmapInfo[]): HTMLElement {
  const rows = bitmaps.map(({ name, granularity, flags }) => [
    name,
    sizeText(granularity),
    flags.join(', ') || 'none',
  ]);
  return table('Bitmaps', ['Name', 'Bytes of a bit', 'Flags'], rows);
}

function dateText(seconds: number): string {
  return new Date(seconds * 1000).toISOString().replace('T', ' ').replace('.000Z', ' UTC');
}

function clockText({ vmClockSec, vmClockNsec }: SnapshotInfo): string {
  if (vmClockSec === 0 && vmClockNsec === 0) return 'not';
  const pad = (value: number) => String(Math.floor(value)).padStart(2, '0');
  return `${pad(vmClockSec / 3600)}:${pad((vmClockSec / 60) % 60)}:${pad(vmClockSec % 60)}`;
}
