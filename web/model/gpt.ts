import { viewOf } from '../../src/format/fields.ts';
import { crc32 } from './crc32.ts';

/** The header of a GUID partition table. Offsets are in blocks (sectors of the disk). */
export interface GptHeader {
  /** Whether its own checksum is right; what it says is used all the same. */
  readonly isSound: boolean;
  readonly entriesBlock: number;
  readonly entryCount: number;
  readonly entryBytes: number;
  readonly entriesCrc: number;
}

/** One entry in use. */
export interface GptEntry {
  /** From 1 on, by place in the table. */
  readonly number: number;
  readonly type: string;
  readonly name: string;
  readonly firstBlock: number;
  /** The last one belongs to it, too. */
  readonly lastBlock: number;
}

/** More entries than any table has; a hostile one must not cost more. */
const MAX_ENTRIES = 1024;
const MAX_ENTRY_BYTES = 4096;
const SIGNATURE = 0x4546492050415254n;

const TYPES: Readonly<Record<string, string>> = {
  'C12A7328-F81F-11D2-BA4B-00A0C93EC93B': 'EFI system',
  '21686148-6449-6E6F-744E-656564454649': 'BIOS boot',
  '0FC63DAF-8483-4772-8E79-3D69D8477DE4': 'Linux',
  '4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709': 'Linux root (x86-64)',
  'B921B045-1DF0-41C3-AF44-4C6F280D3FAE': 'Linux root (ARM64)',
  'BC13C2FF-59E6-4262-A352-B275FD6F7172': 'Linux boot',
  '933AC7E1-2EB4-4F13-B844-0E14E2AEF915': 'Linux home',
  '0657FD6D-A4AB-43C4-84E5-0933C84B4F4F': 'Linux swap',
  'E6D6D379-F507-44C2-A23C-238F2A3DF928': 'Linux LVM',
  'A19D880F-05FC-4D3B-A006-743F0F84911E': 'Linux RAID',
  'EBD0A0A2-B9E5-4433-87C0-68B6B72699C7': 'Microsoft data',
  'E3C9E316-0B5C-4DB8-817D-F92DF00215AE': 'Microsoft reserved',
  'DE94BBA4-06D1-4D40-A16A-BFD50179D6AC': 'Windows recovery',
  '48465300-0000-11AA-AA11-00306543ECAC': 'Apple HFS+',
  '7C3457EF-0000-11AA-AA11-00306543ECAC': 'Apple APFS',
  '516E7CB4-6ECF-11D6-8FF8-00022D09712B': 'FreeBSD data',
  '516E7CB6-6ECF-11D6-8FF8-00022D09712B': 'FreeBSD UFS',
  '516E7CBA-6ECF-11D6-8FF8-00022D09712B': 'FreeBSD ZFS',
};

/** Reads a header at the start of a block; undefined if it is none, or none that can be followed. */
export function parseGptHeader(block: Uint8Array): GptHeader | undefined {
  if (block.length < 92) return undefined;
  const view = viewOf(block);
  if (view.getBigUint64(0) !== SIGNATURE) return undefined;
  const headerBytes = view.getUint32(12, true);
  const entryCount = view.getUint32(80, true);
  const entryBytes = view.getUint32(84, true);
  const entriesBlock = Number(view.getBigUint64(72, true));
  const fits = entryBytes >= 128 && entryBytes <= MAX_ENTRY_BYTES && entryBytes % 8 === 0;
  if (!fits || !Number.isSafeInteger(entriesBlock)) return undefined;
  const isSound =
    headerBytes >= 92 && headerBytes <= block.length && hasChecksum(block, headerBytes);
  return {
    isSound,
    entriesBlock,
    entryCount: Math.min(entryCount, MAX_ENTRIES),
    entryBytes,
    entriesCrc: view.getUint32(88, true),
  };
}

function hasChecksum(block: Uint8Array, headerBytes: number): boolean {
  const header = block.slice(0, headerBytes);
  header.fill(0, 16, 20);
  return crc32(header) === viewOf(block).getUint32(16, true);
}

/** The entries in use of a table, and whether its checksum is right. */
export function parseGptEntries(
  bytes: Uint8Array,
  header: GptHeader,
): { entries: GptEntry[]; isSound: boolean } {
  const view = viewOf(bytes);
  const entries: GptEntry[] = [];
  for (let i = 0; i < header.entryCount; i++) {
    const at = i * header.entryBytes;
    if (at + 128 > bytes.length) break;
    const type = guidText(bytes, at);
    if (/^[0-]+$/.test(type)) continue;
    const firstBlock = Number(view.getBigUint64(at + 32, true));
    const lastBlock = Number(view.getBigUint64(at + 40, true));
    if (!Number.isSafeInteger(lastBlock) || firstBlock > lastBlock) continue;
    const name = nameText(bytes.subarray(at + 56, at + 128));
    entries.push({ number: i + 1, type: TYPES[type] ?? type, name, firstBlock, lastBlock });
  }
  return { entries, isSound: crc32(bytes) === header.entriesCrc };
}

/** The first three groups of a GUID are stored with their lowest byte first. */
function guidText(bytes: Uint8Array, at: number): string {
  const order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
  const digits = order.map((i) => bytes[at + i]!.toString(16).padStart(2, '0')).join('');
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-').toUpperCase();
}

function nameText(bytes: Uint8Array): string {
  const text = new TextDecoder('utf-16le').decode(bytes);
  const end = text.indexOf('\0');
  return end < 0 ? text : text.slice(0, end);
}
