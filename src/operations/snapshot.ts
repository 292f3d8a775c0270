import { Qcow2Error } from '../errors.ts';
import { INCOMPATIBLE_DIRTY } from '../format/feature-bits.ts';
import { nameOf } from '../format/fields.ts';
import { l1Needed } from '../format/geometry.ts';
import { MAX_L1_ENTRIES, SECTOR_SIZE } from '../format/limits.ts';
import {
  encodeSnapshotTable,
  type Snapshot,
  validateSnapshotL1,
} from '../format/snapshot-table.ts';
import { ClusterTree, l2OffsetAt, readL1 } from '../image/cluster-tree.ts';
import { completeSnapshot } from '../image/complete-snapshot.ts';
import { L1_TABLE } from '../image/dirty-pages.ts';
import { pickSnapshot, type SnapshotQuery } from '../image/identify.ts';
import type { Image } from '../image/image.ts';
import { type Metadata, readBitmaps, readSnapshots } from '../image/metadata.ts';
import type { L1Table } from '../image/qcow2-layer.ts';
import { requireUnsharedTables } from '../image/shared-tables.ts';
import type { WritableQcow2 } from '../image/writable-qcow2.ts';
import { type SnapshotInfo, snapshotInfo } from './info.ts';
import { orUndo, place, remove, switchTo } from './structures.ts';

/** Longest name in bytes: QEMU cuts longer ones off where it shows and looks for them. */
const MAX_NAME_BYTES = 255;

/** How a snapshot is taken. */
export interface CreateSnapshotOptions {
  /** When it was taken, for those who list it. Default now. */
  date?: Date;
}

/**
 * Takes an internal snapshot (format section 12) of what the disk holds now. Names need not be unique; the
 * id is the next number. Everything written before is durable then, and the snapshot is.
 * @param image open for writing
 * @returns the new snapshot
 * @throws Qcow2Error READ_ONLY; UNSUPPORTED: raw images, and those with an external data file;
 *   INVALID_ARGUMENT: the name; TOO_LARGE: too many snapshots, or reference counters too narrow for one
 *   more (nothing has changed then); BAD_ENTRY, TRUNCATED, IO
 * @example
 * import { createSnapshot, openImage } from 'qcow2';
 *
 * const image = await openImage('disk.qcow2', { writable: true });
 * const { id } = await createSnapshot(image, 'tuesday');
 * await image.write(0, new Uint8Array(512));
 * await image.close();
 */
export function createSnapshot(
  image: Image,
  name: string,
  { date = new Date() }: CreateSnapshotOptions = {},
): Promise<SnapshotInfo> {
  return image.withWritable(async (disk) => {
    const { writeBack, header } = disk;
    const known = await snapshotsOf(disk);
    const fresh = newSnapshot(name, date, known, header.metadata);
    // Refuses what does not fit before anything changes.
    const oldTable = encodeSnapshotTable(known).length;
    encodeSnapshotTable([...known, fresh]);
    await disk.settle();
    const active = activeL1(disk);
    const l1 = await readL1(writeBack.file.storage, active);
    const tree = new ClusterTree(disk, image.kernel);
    await writeBack.markDirty();
    const { snapshot, snapshotsOffset } = await orUndo(disk, async (undo) => {
      const l1TableOffset = await place(disk, 'snapshot L1 table', withoutFlags(l1), undo);
      const taken = { ...fresh, l1TableOffset };
      const all = [...known.map((each) => completeSnapshot(each, header.metadata)), taken];
      const table = await place(disk, 'snapshot table', encodeSnapshotTable(all), undo);
      undo.push(() => tree.updateCopiedFlags(active));
      await tree.addReferences(l1);
      undo.push(() => tree.releaseReferences(l1));
      // A cluster that is shared must not be written in place any more.
      await tree.updateCopiedFlags(active);
      await writeBack.commitAll();
      await writeBack.barrier();
      return { snapshot: taken, snapshotsOffset: table };
    });
    const { snapshotsOffset: oldOffset, incompatibleFeatures } = header.header;
    await switchTo(disk, {
      snapshotsOffset,
      nbSnapshots: known.length + 1,
      incompatibleFeatures: incompatibleFeatures & ~INCOMPATIBLE_DIRTY,
    });
    disk.tablesChanged();
    await remove(disk, 'snapshot table', oldOffset, oldTable);
    return snapshotInfo(snapshot);
  });
}

/**
 * Makes the disk what it was when a snapshot was taken; its size too. What it holds now is lost, unless
 * another snapshot has it. The snapshot stays.
 * @param image open for writing; its `virtualSize` may change
 * @param wanted its id, or else its name
 * @returns the snapshot
 * @throws Qcow2Error NOT_FOUND; READ_ONLY; REFUSED: the image has dirty bitmaps, which would not follow,
 *   or is of version 2 and its size would change; UNSUPPORTED, TOO_LARGE, BAD_ENTRY, TRUNCATED, IO as
 *   `createSnapshot`
 * @example
 * import { applySnapshot, openImage } from 'qcow2';
 *
 * const image = await openImage('disk.qcow2', { writable: true });
 * await applySnapshot(image, 'monday');
 * await image.close();
 */
export function applySnapshot(image: Image, wanted: string | SnapshotQuery): Promise<SnapshotInfo> {
  return image.withWritable(async (disk) => {
    const { writeBack, header, tables } = disk;
    const { storage } = writeBack.file;
    const { clusterSize } = header.metadata.geometry;
    const snapshot = pickSnapshot(await snapshotsOf(disk), wanted, storage);
    const size = await requireApplicable(disk, snapshot);
    await disk.settle();
    const old = activeL1(disk);
    const oldL1 = await readL1(storage, old);
    const l1 = withoutFlags(await readL1Of(disk, snapshot));
    const tree = new ClusterTree(disk, image.kernel);
    // It goes when the other one is there: nothing may be wrong with it.
    await tree.visit(oldL1, () => {});
    const entries = Math.max(l1Needed(size, header.metadata.geometry), snapshot.l1Size, 1);
    await writeBack.beforeChange();
    const offset = await orUndo(disk, async (undo) => {
      await tree.addReferences(l1);
      undo.push(() => tree.releaseReferences(l1));
      const clusters = Math.ceil((entries * 8) / clusterSize);
      const at = await disk.allocator.allocateTable(clusters, L1_TABLE, 'active L1 table');
      undo.push(() => remove(disk, 'active L1 table', at, entries * 8));
      await tables.put(at, l1, L1_TABLE);
      // The disk and the snapshot share all of it; flags in a snapshot's tables are of any time.
      await tree.updateCopiedFlags({ offset: at, entries });
      await writeBack.commitAll();
      await writeBack.barrier();
      return at;
    });
    await switchTo(disk, { l1TableOffset: offset, l1Size: entries, size });
    claimTables(disk, oldL1, l1);
    disk.tablesChanged();
    await tree.releaseReferences(oldL1);
    await remove(disk, 'active L1 table', old.offset, oldL1.length);
    await disk.settle();
    return snapshotInfo(snapshot);
  });
}

/**
 * Deletes a snapshot. Its clusters become free, and their space is given back, unless the disk or another
 * snapshot has them too.
 * @param image open for writing
 * @param wanted its id, or else its name
 * @returns what was deleted
 * @throws Qcow2Error NOT_FOUND; READ_ONLY, UNSUPPORTED, BAD_ENTRY, TRUNCATED, IO as `createSnapshot`
 * @example
 * import { deleteSnapshot, openImage } from 'qcow2';
 *
 * const image = await openImage('disk.qcow2', { writable: true });
 * await deleteSnapshot(image, { name: 'monday' });
 * await image.close();
 */
export function deleteSnapshot(
  image: Image,
  wanted: string | SnapshotQuery,
): Promise<SnapshotInfo> {
  return image.withWritable(async (disk) => {
    const { writeBack, header } = disk;
    const { storage } = writeBack.file;
    const known = await snapshotsOf(disk);
    const snapshot = pickSnapshot(known, wanted, storage);
    await disk.settle();
    const l1 = await readL1Of(disk, snapshot);
    const tree = new ClusterTree(disk, image.kernel);
    // Afterwards nothing leads to it any more: it must be possible to take it apart.
    await tree.visit(l1, () => {});
    const kept = known.filter((each) => each !== snapshot);
    const bytes = encodeSnapshotTable(kept.map((each) => completeSnapshot(each, header.metadata)));
    const snapshotsOffset = await orUndo(disk, async (undo) => {
      const at = await place(disk, 'snapshot table', bytes, undo);
      await writeBack.commitAll();
      await writeBack.barrier();
      return at;
    });
    const { snapshotsOffset: oldOffset, incompatibleFeatures, version } = header.header;
    const dirty = version === 2 ? 0n : INCOMPATIBLE_DIRTY;
    // While counters go down, copied flags are wrong that say "shared".
    await switchTo(disk, {
      snapshotsOffset,
      nbSnapshots: kept.length,
      incompatibleFeatures: incompatibleFeatures | dirty,
    });
    await writeBack.undivided(async () => {
      await tree.releaseReferences(l1);
      await remove(disk, 'snapshot L1 table', snapshot.l1TableOffset, l1.length);
      await remove(disk, 'snapshot table', oldOffset, encodeSnapshotTable(known).length);
      await tree.updateCopiedFlags(activeL1(disk));
      disk.tablesChanged();
      await writeBack.finish();
    });
    return snapshotInfo(snapshot);
  });
}

/** The snapshots of an image that may have some. */
async function snapshotsOf({ header, writeBack }: WritableQcow2): Promise<Snapshot[]> {
  const { storage } = writeBack.file;
  if (!header.metadata.hasDataFile) return readSnapshots(storage, header.metadata);
  const text = `'${storage.name}' keeps its data in an external file: such images cannot have internal snapshots`;
  throw new Qcow2Error('UNSUPPORTED', text, { structure: 'data file' });
}

function newSnapshot(
  name: string,
  date: Date,
  known: readonly Snapshot[],
  { header, virtualSize }: Metadata,
): Snapshot {
  const seconds = Math.floor(date.getTime() / 1000);
  if (!(seconds >= 0 && seconds < 2 ** 32)) {
    const text = `date of a snapshot is ${date}; must be of the years 1970 to 2106`;
    throw new Qcow2Error('INVALID_ARGUMENT', text, { value: seconds });
  }
  const snapshot = {
    l1TableOffset: 0,
    l1Size: header.l1Size,
    dateSec: seconds,
    dateNsec: (date.getTime() - seconds * 1000) * 1_000_000,
    vmClockNsec: 0n,
    vmStateSize32: 0,
    vmStateSize64: 0,
    diskSize: virtualSize,
    icount: 0n,
    unknownExtra: new Uint8Array(0),
    id: nameOf(nextId(known)),
    name: nameOf(name),
  };
  if (snapshot.name.raw.length <= MAX_NAME_BYTES && !name.includes('\0')) return snapshot;
  const text = `snapshot name of ${snapshot.name.raw.length} bytes: must have at most ${MAX_NAME_BYTES}, none of them zero`;
  throw new Qcow2Error('INVALID_ARGUMENT', text, { structure: 'snapshot name' });
}

/** One above the highest; an id counts by the digits it begins with. */
function nextId(known: readonly Snapshot[]): string {
  let highest = 0n;
  for (const { id } of known) {
    const value = BigInt(/^\d+/.exec(id.text)?.[0] ?? 0);
    if (value > highest) highest = value;
  }
  return String(highest + 1n);
}

/** Checks that an image can go back to a snapshot; the size of the disk then, in bytes. */
async function requireApplicable(
  { header, writeBack }: WritableQcow2,
  snapshot: Snapshot,
): Promise<number> {
  const { storage } = writeBack.file;
  const { geometry, virtualSize } = header.metadata;
  if ((await readBitmaps(storage, header.metadata)).length > 0) {
    const text = `'${storage.name}' has dirty bitmaps, which would not tell what applying a snapshot changes; remove them first`;
    throw new Qcow2Error('REFUSED', text, { structure: 'bitmap directory' });
  }
  const size = snapshot.diskSize ?? virtualSize;
  if (size !== virtualSize && header.header.version === 2) {
    const text = `snapshot '${snapshot.name.text}' has a disk of ${size} bytes, the image one of ${virtualSize}: version 2 images with snapshots cannot change their size; amend the image to compat=1.1`;
    throw new Qcow2Error('REFUSED', text, { structure: 'snapshot table entry', value: size });
  }
  if (size % SECTOR_SIZE === 0 && l1Needed(size, geometry) <= MAX_L1_ENTRIES) return size;
  const text = `snapshot table entry: disk_size is ${size}; must be a multiple of ${SECTOR_SIZE} that an L1 table can map`;
  throw new Qcow2Error('MALFORMED', text, { structure: 'snapshot table entry', value: size });
}

function activeL1({ header }: WritableQcow2): L1Table {
  return { offset: header.header.l1TableOffset, entries: header.header.l1Size };
}

/** The L1 table of a snapshot, once it is known to be one. */
async function readL1Of(
  { header, writeBack }: WritableQcow2,
  snapshot: Snapshot,
): Promise<Uint8Array> {
  const { storage } = writeBack.file;
  const { geometry } = header.metadata;
  validateSnapshotL1(snapshot, geometry, storage.size);
  const l1 = { offset: snapshot.l1TableOffset, entries: snapshot.l1Size };
  await requireUnsharedTables(storage, l1, geometry);
  return readL1(storage, l1);
}

/** A copy of an L1 table in which no entry owns its L2 table. */
function withoutFlags(l1: Uint8Array): Uint8Array {
  const copy = l1.slice();
  for (let at = 0; at < copy.length; at += 8) copy[at]! &= 0x7f;
  return copy;
}

/** Tells the overlap check which L2 tables are the active ones now. */
function claimTables({ header, writeBack }: WritableQcow2, old: Uint8Array, now: Uint8Array): void {
  const { clusterSize } = header.metadata.geometry;
  for (const [l1, isNow] of [
    [old, false],
    [now, true],
  ] as const) {
    const view = new DataView(l1.buffer, l1.byteOffset, l1.length);
    for (let index = 0; index < l1.length / 8; index++) {
      const offset = l2OffsetAt(view, index);
      if (offset === 0) continue;
      if (isNow) writeBack.overlap.claim('L2 table', offset, clusterSize);
      else writeBack.overlap.release('L2 table', offset, clusterSize);
    }
  }
}
