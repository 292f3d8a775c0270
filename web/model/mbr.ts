import { viewOf } from '../../src/format/fields.ts';

/** An entry of a master or extended boot record. Offsets are in sectors of 512 bytes. */
export interface MbrEntry {
  /** 1 to 4; of logical partitions 5 and up. */
  readonly number: number;
  readonly type: number;
  readonly active: boolean;
  readonly firstSector: number;
  readonly sectors: number;
}

/** Type of the entry that stands for a GUID partition table. */
export const MBR_GPT = 0xee;

const EXTENDED = new Set([0x05, 0x0f, 0x85]);
const TABLE_AT = 446;
const ENTRY_BYTES = 16;

/** Common type bytes. */
const TYPES: Readonly<Record<number, string>> = {
  1: 'FAT12',
  4: 'FAT16',
  5: 'extended',
  6: 'FAT16',
  7: 'NTFS or exFAT',
  11: 'FAT32',
  12: 'FAT32',
  14: 'FAT16',
  15: 'extended',
  39: 'Windows recovery',
  130: 'Linux swap',
  131: 'Linux',
  133: 'extended',
  142: 'Linux LVM',
  165: 'FreeBSD',
  166: 'OpenBSD',
  169: 'NetBSD',
  175: 'Apple HFS',
  191: 'Solaris',
  238: 'GPT protective',
  239: 'EFI system',
  253: 'Linux RAID',
};

/** What a type byte stands for. */
export function mbrTypeName(type: number): string {
  return TYPES[type] ?? `type 0x${type.toString(16).padStart(2, '0')}`;
}

/** Whether an entry holds a chain of logical partitions. */
export function isExtended(entry: MbrEntry): boolean {
  return EXTENDED.has(entry.type);
}

/**
 * The entries in use of a boot record of 512 bytes, or undefined if it is none: its signature is missing, or
 * the entries cannot be ones (a boot sector of a file system has the same signature).
 */
export function parseMbr(sector: Uint8Array): MbrEntry[] | undefined {
  if (sector.length < 512 || sector[510] !== 0x55 || sector[511] !== 0xaa) return undefined;
  const view = viewOf(sector);
  const entries: MbrEntry[] = [];
  for (let i = 0; i < 4; i++) {
    const at = TABLE_AT + i * ENTRY_BYTES;
    const status = view.getUint8(at);
    if ((status & 0x7f) !== 0) return undefined;
    const type = view.getUint8(at + 4);
    const firstSector = view.getUint32(at + 8, true);
    const sectors = view.getUint32(at + 12, true);
    if (type === 0 || sectors === 0) continue;
    entries.push({ number: i + 1, type, active: status === 0x80, firstSector, sectors });
  }
  return entries;
}
