import { type GptHeader, parseGptEntries, parseGptHeader } from './gpt.ts';
import { isExtended, MBR_GPT, type MbrEntry, mbrTypeName, parseMbr } from './mbr.ts';

/** A part of a disk that its partition table names. Offsets and lengths are in bytes. */
export interface Partition {
  readonly number: number;
  readonly name: string;
  readonly type: string;
  readonly start: number;
  readonly length: number;
  /** It holds the logical partitions that follow it in the list. */
  readonly isContainer: boolean;
}

/** How a disk is divided. */
export interface PartitionTable {
  readonly kind: 'MBR' | 'GPT' | 'none';
  readonly partitions: readonly Partition[];
  /** What is wrong with the table, one line each; it was read all the same. */
  readonly notes: readonly string[];
}

/** Reads bytes of the disk; fewer at its end. */
export type ReadDisk = (offset: number, length: number) => Promise<Uint8Array>;

const SECTOR = 512;
/** Sizes of blocks in which a table counts. */
const BLOCK_SIZES = [512, 4096];
/** More logical partitions than any disk has: a chain can be a loop. */
const MAX_LOGICAL = 128;

/**
 * Reads the partition table of a disk: GPT, or else MBR with logical partitions. Wrong checksums are told
 * and tolerated; if the first table of a GPT disk is gone, the one at the end is taken.
 */
export async function readPartitions(read: ReadDisk, diskSize: number): Promise<PartitionTable> {
  const notes: string[] = [];
  const master = parseMbr(await read(0, Math.min(SECTOR, diskSize)));
  const gpt = await readGpt(
    read,
    diskSize,
    master?.some(({ type }) => type === MBR_GPT),
    notes,
  );
  if (gpt !== undefined)
    return { kind: 'GPT', partitions: noteOutside(gpt, diskSize, notes), notes };
  if (master === undefined || master.length === 0) return { kind: 'none', partitions: [], notes };
  const entries = [...master];
  const extended = master.find(isExtended);
  if (extended !== undefined) entries.push(...(await readLogical(read, extended, notes)));
  const partitions = entries.map((entry) => ({
    number: entry.number,
    name: entry.active ? 'active' : '',
    type: mbrTypeName(entry.type),
    start: entry.firstSector * SECTOR,
    length: entry.sectors * SECTOR,
    isContainer: isExtended(entry),
  }));
  return { kind: 'MBR', partitions: noteOutside(partitions, diskSize, notes), notes };
}

function noteOutside(partitions: Partition[], diskSize: number, notes: string[]): Partition[] {
  for (const { number, start, length } of partitions)
    if (start + length > diskSize)
      notes.push(`Partition ${number} reaches past the end of the disk.`);
  return partitions;
}

/** Each extended boot record names one logical partition and the next record. */
async function readLogical(
  read: ReadDisk,
  extended: MbrEntry,
  notes: string[],
): Promise<MbrEntry[]> {
  const found: MbrEntry[] = [];
  const seen = new Set<number>();
  let at = extended.firstSector;
  while (!seen.has(at) && seen.size < MAX_LOGICAL) {
    seen.add(at);
    const record = parseMbr(await read(at * SECTOR, SECTOR));
    if (record === undefined) {
      notes.push(`The extended boot record at sector ${at} cannot be read.`);
      return found;
    }
    const logical = record.find((entry) => !isExtended(entry));
    if (logical !== undefined) {
      const firstSector = at + logical.firstSector;
      found.push({ ...logical, number: 5 + found.length, firstSector });
    }
    const next = record.find(isExtended);
    if (next === undefined) return found;
    at = extended.firstSector + next.firstSector;
  }
  notes.push('The chain of extended boot records does not end.');
  return found;
}

async function readGpt(
  read: ReadDisk,
  diskSize: number,
  isExpected: boolean | undefined,
  notes: string[],
): Promise<Partition[] | undefined> {
  for (const blockBytes of BLOCK_SIZES) {
    const first = parseGptHeader(await readBlock(read, blockBytes, blockBytes, diskSize));
    const lastAt = Math.floor(diskSize / blockBytes - 1) * blockBytes;
    if (first?.isSound) return readEntries(read, first, blockBytes, diskSize, notes);
    if (first === undefined && !isExpected) continue;
    const last = parseGptHeader(await readBlock(read, lastAt, blockBytes, diskSize));
    const header = last?.isSound ? last : first;
    if (header === undefined) continue;
    notes.push(
      header === last
        ? 'The table at the start of the disk is damaged; this is the copy at its end.'
        : 'The checksum of the table header is wrong.',
    );
    return readEntries(read, header, blockBytes, diskSize, notes);
  }
  return undefined;
}

async function readBlock(
  read: ReadDisk,
  at: number,
  length: number,
  diskSize: number,
): Promise<Uint8Array> {
  if (at < 0 || at + length > diskSize) return new Uint8Array(0);
  return read(at, length);
}

async function readEntries(
  read: ReadDisk,
  header: GptHeader,
  blockBytes: number,
  diskSize: number,
  notes: string[],
): Promise<Partition[]> {
  const at = header.entriesBlock * blockBytes;
  const length = Math.min(header.entryCount * header.entryBytes, Math.max(0, diskSize - at));
  const { entries, isSound } = parseGptEntries(await read(Math.min(at, diskSize), length), header);
  if (!isSound) notes.push('The checksum of the partition entries is wrong.');
  return entries.map(({ number, name, type, firstBlock, lastBlock }) => ({
    number,
    name,
    type,
    start: firstBlock * blockBytes,
    length: (lastBlock - firstBlock + 1) * blockBytes,
    isContainer: false,
  }));
}
