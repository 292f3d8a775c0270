import { hex, Qcow2Error } from '../errors.ts';
import { clustersFor } from '../format/geometry.ts';
import type { Header } from '../format/header.ts';
import { MAX_REFCOUNT_TABLE_BYTES } from '../format/limits.ts';
import { writeRefcountTableEntry } from '../format/refcount-entry.ts';
import { PIECE_BYTES } from './check-counts.ts';
import type { CheckPass } from './check-pass.ts';
import type { HeaderState } from './header-state.ts';
import type { SyncedFile } from './synced-file.ts';

/** Clusters of the file that may be kept one by one where nothing tells whether they are in use. */
const MAX_KEPT_CLUSTERS = 2 ** 27;

/** Where new structures go, in clusters: the blocks, the table, what else is new. */
interface Layout {
  readonly first: number;
  /** Indexes of the blocks, ascending. */
  readonly blocks: readonly number[];
  readonly tableClusters: number;
  readonly end: number;
}

/**
 * Makes the refcount structures anew (format section 18) behind everything in the file, and a snapshot
 * table with them if there is to be another one: when all of it is durable, one write in the first
 * sector of the header leads to it.
 * @param pass references without those to refcount structures and snapshot table; changed
 * @param keeps whether clusters nothing refers to stay in use, because references are lost
 * @param snapshotTable the new snapshot table, and how many snapshots it holds
 * @throws Qcow2Error REFUSED: the file cannot grow without hiding damage; TOO_LARGE: too many clusters
 */
export async function rebuildRefcounts(
  file: SyncedFile,
  header: HeaderState,
  pass: CheckPass,
  keeps: boolean,
  snapshotTable?: { bytes: Uint8Array; count: number },
): Promise<void> {
  const { geometry, references } = pass.file;
  const { clusterSize } = geometry;
  const { snapshotsOffset } = header.header;
  if (snapshotTable === undefined)
    pass.file.addRegion('snapshot table', snapshotsOffset, snapshotsOffset, pass.snapshots.bytes);
  if (keeps) await keepAll(pass);
  const extra = snapshotTable === undefined ? 0 : clustersFor(snapshotTable.bytes.length, geometry);
  const layout = layOut(pass, extra);
  references.add(layout.first, layout.end - layout.first, 1);
  await writeBlocks(file, pass, layout);
  const tableOffset = (layout.first + layout.blocks.length) * clusterSize;
  await writeTable(file, layout, tableOffset, clusterSize);
  const changes: Partial<Header> = {};
  if (snapshotTable !== undefined) {
    const at = tableOffset + layout.tableClusters * clusterSize;
    if (extra > 0) await file.write(at, snapshotTable.bytes);
    const nbSnapshots = snapshotTable.count;
    Object.assign(changes, { snapshotsOffset: extra > 0 ? at : 0, nbSnapshots });
  }
  await file.sync();
  await header.update({
    ...changes,
    refcountTableOffset: tableOffset,
    refcountTableClusters: layout.tableClusters,
  });
  await file.sync();
}

/**
 * Counts every cluster of the file that nothing refers to at least once, and those with a higher
 * counter as that says: what damaged entries lost must not be given to others.
 */
async function keepAll({ file, stored, comparison }: CheckPass): Promise<void> {
  if (comparison.highest > MAX_KEPT_CLUSTERS || file.clusters > MAX_KEPT_CLUSTERS) {
    const text = `the refcount structures cannot be rebuilt: entries are lost, and ${file.clusters} clusters are too many to keep one by one`;
    throw new Qcow2Error('TOO_LARGE', text, { value: file.clusters });
  }
  for (let cluster = 0; cluster < file.clusters; cluster++) {
    const known = file.references.get(cluster);
    const found = stored.counter(cluster);
    const counted = typeof found === 'number' ? found : await found;
    const wanted = Math.max(1, counted);
    if (wanted > known) file.references.add(cluster, 1, wanted - known);
  }
}

function layOut({ file }: CheckPass, extra: number): Layout {
  const { geometry, references, access } = file;
  const { clusterSize, refcountBlockEntries: perBlock } = geometry;
  const first = Math.max(file.clusters, references.highest + 1);
  const used = new Set<number>();
  for (const piece of references.pieces())
    used.add(Math.floor((piece * access.perPiece) / perBlock));
  let blocks = [...used];
  let tableClusters = 1;
  let end = first;
  for (let before = -1; before !== end; ) {
    before = end;
    const all = new Set(used);
    for (let at = first; at < end; at++) all.add(Math.floor(at / perBlock));
    blocks = [...all].sort((a, b) => a - b);
    tableClusters = Math.max(
      tableClusters,
      Math.ceil((((blocks.at(-1) ?? 0) + 1) * 8) / clusterSize),
    );
    end = Math.max(end, first + blocks.length + tableClusters + extra);
  }
  if (tableClusters * clusterSize > MAX_REFCOUNT_TABLE_BYTES) {
    const text = `the refcount structures cannot be rebuilt: ${end} clusters need more than ${MAX_REFCOUNT_TABLE_BYTES} bytes of refcount table`;
    throw new Qcow2Error('TOO_LARGE', text, { structure: 'refcount table', value: end });
  }
  if (file.lowestPastEnd < end * clusterSize) {
    const text = `the refcount structures cannot be rebuilt: an entry names offset ${hex(file.lowestPastEnd)}, past the end of the file, where they would go; get the whole file, or give those entries up`;
    throw new Qcow2Error('REFUSED', text, { offset: file.lowestPastEnd });
  }
  return { first, blocks, tableClusters, end };
}

async function writeBlocks(file: SyncedFile, pass: CheckPass, layout: Layout): Promise<void> {
  const { geometry, references, access, kernel } = pass.file;
  const { clusterSize } = geometry;
  const perBlock = geometry.refcountBlockEntries / access.perPiece;
  const block = new Uint8Array(clusterSize);
  for (const [i, index] of layout.blocks.entries()) {
    block.fill(0);
    for (let k = 0; k < perBlock; k++) {
      const pointer = references.pointer(index * perBlock + k);
      if (pointer === 0) continue;
      block.set(kernel.arena.u8.subarray(pointer, pointer + PIECE_BYTES), k * PIECE_BYTES);
    }
    await file.write((layout.first + i) * clusterSize, block);
  }
}

async function writeTable(
  file: SyncedFile,
  { first, blocks, tableClusters }: Layout,
  offset: number,
  clusterSize: number,
): Promise<void> {
  const bytes = new Uint8Array(tableClusters * clusterSize);
  const view = new DataView(bytes.buffer);
  for (const [i, index] of blocks.entries())
    writeRefcountTableEntry(view, index * 8, (first + i) * clusterSize);
  await file.write(offset, bytes);
}
