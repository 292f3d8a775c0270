import { Qcow2Error } from '../errors.ts';
import { AUTOCLEAR_RAW_DATA_FILE, COMPATIBLE_LAZY_REFCOUNTS } from '../format/feature-bits.ts';
import { nameOf } from '../format/fields.ts';
import { clustersFor } from '../format/geometry.ts';
import {
  COMPRESSION_DEFLATE,
  COMPRESSION_ZSTD,
  HEADER_V2_BYTES,
  HEADER_V3_BYTES,
  type Header,
} from '../format/header.ts';
import { dataFileNameExtension } from '../format/header-extensions.ts';
import { encodeSnapshotTable, validateSnapshotL1 } from '../format/snapshot-table.ts';
import { ClusterTree, readL1 } from '../image/cluster-tree.ts';
import { completeSnapshot } from '../image/complete-snapshot.ts';
import type { Image } from '../image/image.ts';
import { readSnapshots } from '../image/metadata.ts';
import type { Step } from '../image/preallocation.ts';
import type { L1Table } from '../image/qcow2-layer.ts';
import { RefcountRebuild } from '../image/refcount-width.ts';
import { requireUnsharedTables } from '../image/shared-tables.ts';
import type { WritableQcow2 } from '../image/writable-qcow2.ts';
import { ZeroExpander } from '../image/zero-expander.ts';

// The steps of `amend`. Each leaves a sound image that says what the one before left, or more.

/** Makes a version 2 image one of version 3, with every snapshot entry as that version demands it. */
export async function upgrade(image: Image): Promise<void> {
  const old = await image.reformat(async (disk) => {
    const { storage } = disk.writeBack.file;
    const { metadata, header } = disk.header;
    const known = await readSnapshots(storage, metadata);
    const changes: Partial<Header> = {
      version: 3,
      headerLength: HEADER_V3_BYTES,
      refcountOrder: 4,
      compressionType: COMPRESSION_DEFLATE,
    };
    if (known.every((each) => each.diskSize !== undefined)) {
      await disk.header.rewrite(changes);
      return undefined;
    }
    const table = encodeSnapshotTable(known.map((each) => completeSnapshot(each, metadata)));
    const snapshotsOffset = await store(disk, table);
    await disk.header.rewrite({ ...changes, snapshotsOffset });
    const clusters = clustersFor(encodeSnapshotTable(known).length, metadata.geometry);
    return { offset: header.snapshotsOffset, clusters };
  });
  if (old === undefined) return;
  await image.withWritable(async (disk) => {
    await disk.releaseClusters(old.offset, old.clusters);
    await disk.settle();
  });
}

/** Writes bytes to new clusters, durably and counted; returns their host offset. */
async function store(disk: WritableQcow2, bytes: Uint8Array): Promise<number> {
  const { allocator, writeBack, header } = disk;
  const clusters = clustersFor(bytes.length, header.metadata.geometry);
  const offset = await allocator.allocateClusters(clusters);
  await writeBack.file.write(offset, bytes);
  await writeBack.commitAll();
  await writeBack.barrier();
  return offset;
}

/**
 * Makes a version 3 image one of version 2: everything that version lacks is expressed without.
 * @throws Qcow2Error REFUSED: there is what cannot be
 */
export async function downgrade(image: Image, step: Step): Promise<void> {
  await image.withWritable(async (disk, chain) => {
    await disk.settle();
    const { header, writeBack } = disk;
    const expander = new ZeroExpander(disk, chain.layers.length > 1, image.kernel);
    const trees = await treesOf(disk);
    if (header.header.compressionType === COMPRESSION_ZSTD)
      for (const { l1 } of trees)
        if (await expander.hasCompressed(l1, step)) throw hasZstdClusters();
    // What a snapshot shares with the disk may come to belong to one of them alone.
    if (trees.length > 1) await writeBack.markDirty();
    for (const { l1, diskSize } of trees) {
      await expander.expand(l1, diskSize, step);
      await disk.settle();
    }
    const { l1TableOffset: offset, l1Size: entries } = header.header;
    if (trees.length > 1)
      await new ClusterTree(disk, image.kernel).updateCopiedFlags({ offset, entries });
    disk.tablesChanged();
    await disk.settle();
  });
  await image.reformat((disk) => {
    const fields: Partial<Header> = {
      version: 2,
      headerLength: HEADER_V2_BYTES,
      incompatibleFeatures: 0n,
      compatibleFeatures: 0n,
      autoclearFeatures: 0n,
      compressionType: COMPRESSION_DEFLATE,
      unknownFields: new Uint8Array(0),
    };
    // Bitmaps that are in sync were refused; nobody can use others.
    const { extensions } = disk.header.metadata;
    return disk.header.rewrite(
      fields,
      extensions.filter(({ kind }) => kind !== 'bitmaps'),
    );
  });
}

/** The L1 table of the disk, and those of all snapshots. */
async function treesOf(disk: WritableQcow2): Promise<{ l1: Uint8Array; diskSize: number }[]> {
  const { storage } = disk.writeBack.file;
  const { metadata, header } = disk.header;
  const { geometry, virtualSize } = metadata;
  const read = async (l1: L1Table, diskSize: number) => {
    await requireUnsharedTables(storage, l1, geometry);
    return { l1: await readL1(storage, l1), diskSize };
  };
  const trees = [await read({ offset: header.l1TableOffset, entries: header.l1Size }, virtualSize)];
  for (const snapshot of await readSnapshots(storage, metadata)) {
    validateSnapshotL1(snapshot, geometry, storage.size);
    const l1 = { offset: snapshot.l1TableOffset, entries: snapshot.l1Size };
    trees.push(await read(l1, snapshot.diskSize ?? virtualSize));
  }
  return trees;
}

function hasZstdClusters(): Qcow2Error {
  const text =
    'Cannot downgrade an image with zstd compression type and existing compressed clusters; convert it to a new image';
  return new Qcow2Error('REFUSED', text, { structure: 'header compression_type' });
}

/**
 * Gives the reference counters another width.
 * @throws Qcow2Error TOO_LARGE: a counter or the refcount table does not fit; nothing has changed then
 */
export async function changeRefcountWidth(image: Image, order: number, step: Step): Promise<void> {
  await image.withWritable(async (disk) => {
    await disk.settle();
    await new RefcountRebuild(disk, order, step).requireFit();
  });
  const old = await image.reformat(async (disk) => {
    const rebuild = new RefcountRebuild(disk, order, step);
    const { offset, clusters } = await rebuild.write();
    const present = await rebuild.present();
    await disk.header.update({
      refcountTableOffset: offset,
      refcountTableClusters: clusters,
      refcountOrder: order,
    });
    await disk.writeBack.barrier();
    return present;
  });
  await image.withWritable(async (disk) => {
    await disk.releaseClusters(old.table.offset, old.table.clusters);
    for (const block of old.blocks) await disk.releaseClusters(block, 1);
    await disk.settle();
  });
}

/** Changes of the header alone. */
export interface HeaderChanges {
  lazyRefcounts?: boolean | undefined;
  dataFile?: string | undefined;
  dataFileRaw?: false | undefined;
}

/** Changes what only the header says. */
export async function changeHeader(image: Image, changes: HeaderChanges): Promise<void> {
  const { dataFile, dataFileRaw, lazyRefcounts } = changes;
  await image.reformat(async (disk) => {
    const { compatibleFeatures, autoclearFeatures } = disk.header.header;
    const fields: { -readonly [K in keyof Header]?: Header[K] } = {};
    if (lazyRefcounts === true)
      fields.compatibleFeatures = compatibleFeatures | COMPATIBLE_LAZY_REFCOUNTS;
    if (lazyRefcounts === false)
      fields.compatibleFeatures = compatibleFeatures & ~COMPATIBLE_LAZY_REFCOUNTS;
    if (dataFileRaw === false)
      fields.autoclearFeatures = autoclearFeatures & ~AUTOCLEAR_RAW_DATA_FILE;
    if (dataFile !== undefined) {
      const { extensions } = disk.header.metadata;
      const kept = extensions.filter(({ kind }) => kind !== 'data-file-name');
      const named = dataFileNameExtension(nameOf(dataFile).raw);
      await disk.header.rewrite(fields, [...kept, named]);
    } else {
      await disk.header.update(fields);
      await disk.writeBack.barrier();
    }
  });
}
