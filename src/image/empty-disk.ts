import type { Kernel } from '../kernel/kernel.ts';
import { ClusterTree, l2OffsetAt, readL1 } from './cluster-tree.ts';
import { L1_TABLE } from './dirty-pages.ts';
import { trimEnd } from './file-end.ts';
import type { WritableQcow2 } from './writable-qcow2.ts';

/**
 * Gives up everything the disk of an image holds itself, durably: it shows its backing file from here on,
 * which must show the same already, since a cut may leave some of it. Snapshots keep what they share; the
 * file gets shorter where nothing is left at its end.
 * @throws Qcow2Error BAD_ENTRY, TRUNCATED: a table is damaged (nothing has changed then); IO
 */
export async function emptyDisk(disk: WritableQcow2, kernel: Kernel): Promise<void> {
  const { writeBack, header, tables, allocator } = disk;
  const { geometry, hasDataFile } = header.metadata;
  await disk.settle();
  const { l1TableOffset: offset, l1Size: entries } = header.header;
  const l1 = await readL1(writeBack.file.storage, { offset, entries });
  const tree = new ClusterTree(disk, kernel);
  // Afterwards nothing leads to it any more: it must be possible to take it apart.
  await tree.visit(l1, () => {});
  await writeBack.beforeChange();
  await writeBack.undivided(async () => {
    await tables.zero(offset, entries * 8, L1_TABLE);
    await writeBack.commitAll();
    await writeBack.barrier();
  });
  const view = new DataView(l1.buffer);
  for (let index = 0; index < entries; index++) {
    const l2Offset = l2OffsetAt(view, index);
    if (l2Offset !== 0) writeBack.overlap.release('L2 table', l2Offset, geometry.clusterSize);
  }
  disk.tablesChanged();
  await tree.releaseReferences(l1);
  await disk.settle();
  const { dataFile, file } = writeBack;
  if (hasDataFile && dataFile.size > 0) await dataFile.punchHole(0, dataFile.size);
  if (file.storage.truncate !== undefined) await trimEnd(allocator, writeBack, geometry);
  await writeBack.barrier();
}
