import { crc32 } from 'node:zlib';

/** A partition to be made, in sectors of 512 bytes; GPT takes a GUID for the type, MBR a byte. */
export interface PartSpec {
  name?: string;
  type: string | number;
  first: number;
  sectors: number;
}

const SECTOR = 512;
export const LINUX_GUID = '0FC63DAF-8483-4772-8E79-3D69D8477DE4';
export const EFI_GUID = 'C12A7328-F81F-11D2-BA4B-00A0C93EC93B';

/** A boot record with up to four entries. */
export function bootRecord(parts: readonly PartSpec[]): Buffer {
  const record = Buffer.alloc(SECTOR);
  parts.forEach(({ type, first, sectors }, i) => {
    record[446 + i * 16 + 4] = Number(type);
    record.writeUInt32LE(first, 446 + i * 16 + 8);
    record.writeUInt32LE(sectors, 446 + i * 16 + 12);
  });
  record.writeUInt16BE(0x55aa, 510);
  return record;
}

function guidBytes(guid: string): Buffer {
  const bytes = Buffer.from(guid.replaceAll('-', ''), 'hex');
  bytes.subarray(0, 4).reverse();
  bytes.subarray(4, 6).reverse();
  bytes.subarray(6, 8).reverse();
  return bytes;
}

/** The first 34 blocks of a GPT disk, and the last 33. */
export function gptDisk(
  diskSize: number,
  parts: readonly PartSpec[],
  block = SECTOR,
): { start: Buffer; end: Buffer } {
  const blocks = diskSize / block;
  const entries = Buffer.alloc(Math.ceil((128 * 128) / block) * block);
  parts.forEach(({ type, name = '', first, sectors }, i) => {
    guidBytes(String(type)).copy(entries, i * 128);
    entries.fill(i + 1, i * 128 + 16, i * 128 + 32);
    entries.writeBigUInt64LE(BigInt(first), i * 128 + 32);
    entries.writeBigUInt64LE(BigInt(first + sectors - 1), i * 128 + 40);
    entries.write(name, i * 128 + 56, 72, 'utf16le');
  });
  const used = entries.subarray(0, 128 * 128);
  const header = (own: number, other: number, entriesAt: number): Buffer => {
    const bytes = Buffer.alloc(block);
    bytes.write('EFI PART');
    bytes.writeUInt32LE(0x10000, 8);
    bytes.writeUInt32LE(92, 12);
    bytes.writeBigUInt64LE(BigInt(own), 24);
    bytes.writeBigUInt64LE(BigInt(other), 32);
    bytes.writeBigUInt64LE(BigInt(entriesAt), 72);
    bytes.writeUInt32LE(128, 80);
    bytes.writeUInt32LE(128, 84);
    bytes.writeUInt32LE(crc32(used), 88);
    bytes.writeUInt32LE(crc32(bytes.subarray(0, 92)), 16);
    return bytes;
  };
  const table = entries.length / block;
  const protective = bootRecord([{ type: 0xee, first: 1, sectors: blocks - 1 }]);
  const first = Buffer.concat([protective, Buffer.alloc(block - SECTOR)]);
  return {
    start: Buffer.concat([first, header(1, blocks - 1, 2), entries]),
    end: Buffer.concat([entries, header(blocks - 1, 1, blocks - 1 - table)]),
  };
}

/** A disk of zeros with some bytes in it, as the parsers read it. */
export function sparseDisk(size: number, pieces: ReadonlyMap<number, Uint8Array>) {
  return async (offset: number, length: number): Promise<Uint8Array> => {
    const bytes = new Uint8Array(Math.max(0, Math.min(length, size - offset)));
    for (const [at, piece] of pieces)
      for (let i = 0; i < piece.length; i++)
        if (at + i >= offset && at + i < offset + bytes.length) bytes[at + i - offset] = piece[i]!;
    return bytes;
  };
}
