import { l2OffsetAt, readL1 } from '../image/cluster-tree.ts';
import type { Image } from '../image/image.ts';

/** A guest range in whole clusters, in bytes. */
export interface GuestRange {
  start: number;
  length: number;
}

const COPIED = 0x80000000;
const COMPRESSED = 0x40000000;

/**
 * Guest ranges of the disk whose clusters internal snapshots have, too: below an L1 entry, or in an L2
 * entry, whose copied flag (bit 63) is clear (format sections 6 and 7). What is compressed has no flag of
 * its own; it counts by the table it is in. An L2 table is in memory at a time.
 * @param step called between tables
 */
export async function* eachSharedRange(
  image: Image,
  step: () => void | Promise<void>,
): AsyncGenerator<GuestRange> {
  const { metadata, storage } = image;
  if (metadata === undefined || metadata.header.nbSnapshots === 0) return;
  const { header, geometry } = metadata;
  const { clusterSize } = geometry;
  const l1 = await readL1(storage, { offset: header.l1TableOffset, entries: header.l1Size });
  const entries = new DataView(l1.buffer);
  const table = new Uint8Array(clusterSize);
  const words = new DataView(table.buffer);
  const stride = geometry.l2EntrySize;
  const reach = (clusterSize / stride) * clusterSize;
  for (let index = 0; index < header.l1Size; index++) {
    const offset = l2OffsetAt(entries, index);
    // A table that is not there is for those who read it to complain of.
    if (offset === 0 || offset % clusterSize !== 0 || offset >= storage.size) continue;
    if (index * reach >= image.virtualSize) break;
    await step();
    const isTableShared = (entries.getUint32(index * 8) & COPIED) === 0;
    table.fill(0);
    await storage.read(offset, table);
    let start = -1;
    for (let at = 0; at <= clusterSize; at += stride) {
      const guest = index * reach + (at / stride) * clusterSize;
      // Entries behind the end of the disk stand for nothing.
      const isEntry = at < clusterSize && guest < image.virtualSize;
      const isShared = isEntry && isEntryShared(words, at, isTableShared);
      if (isShared && start < 0) start = guest;
      if (isShared || start < 0) continue;
      yield { start, length: guest - start };
      start = -1;
    }
  }
}

function isEntryShared(words: DataView, at: number, isTableShared: boolean): boolean {
  const high = words.getUint32(at);
  if ((high & COMPRESSED) !== 0) return isTableShared;
  const hasCluster = (high & 0x00ffffff) !== 0 || (words.getUint32(at + 4) & 0xfffffe00) !== 0;
  return hasCluster && (isTableShared || (high & COPIED) === 0);
}
