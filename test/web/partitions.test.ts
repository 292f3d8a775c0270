import { describe, expect, test } from 'vitest';
import { type Partition, readPartitions } from '../../web/model/partitions.ts';
import { bootRecord, EFI_GUID, gptDisk, LINUX_GUID, sparseDisk } from './disks.ts';

const MIB = 2 ** 20;
const SIZE = 64 * MIB;
const PARTS = [
  { name: 'EFI system', type: EFI_GUID, first: 2048, sectors: 4096 },
  { name: 'Wurzel ü', type: LINUX_GUID, first: 8192, sectors: 1024 },
];

function brief(partitions: readonly Partition[]) {
  return partitions.map(({ number, name, type, start, length }) =>
    [number, name, type, start / 512, length / 512].join(' '),
  );
}

describe('GPT', () => {
  const { start, end } = gptDisk(SIZE, PARTS);
  const found = ['1 EFI system EFI system 2048 4096', '2 Wurzel ü Linux 8192 1024'];
  const read = (pieces: [number, Uint8Array][]) =>
    readPartitions(sparseDisk(SIZE, new Map(pieces)), SIZE);

  test('names, types and places', async () => {
    const { kind, partitions, notes } = await read([[0, start]]);
    expect({ kind, notes, partitions: brief(partitions) }).toEqual({
      kind: 'GPT',
      notes: [],
      partitions: found,
    });
  });

  test('a wrong checksum of the entries is told, and tolerated', async () => {
    const damaged = Buffer.from(start);
    damaged[1024 + 126 * 128 + 60] = 1;
    const { partitions, notes } = await read([[0, damaged]]);
    expect(brief(partitions)).toEqual(found);
    expect(notes).toEqual(['The checksum of the partition entries is wrong.']);
  });

  test('without its first header, the copy at the end is taken', async () => {
    const damaged = Buffer.from(start).fill(0, 512, 1024);
    const { partitions, notes } = await read([
      [0, damaged],
      [SIZE - end.length, end],
    ]);
    expect(brief(partitions)).toEqual(found);
    expect(notes).toEqual([
      'The table at the start of the disk is damaged; this is the copy at its end.',
    ]);
  });

  test('a header with a wrong checksum is used if there is no better one', async () => {
    const damaged = Buffer.from(start);
    damaged[512 + 56] = 99;
    const { partitions, notes } = await read([[0, damaged]]);
    expect(brief(partitions)).toEqual(found);
    expect(notes).toEqual(['The checksum of the table header is wrong.']);
  });

  test('blocks of 4096 bytes', async () => {
    const wide = gptDisk(SIZE, PARTS, 4096);
    const { partitions } = await readPartitions(sparseDisk(SIZE, new Map([[0, wide.start]])), SIZE);
    expect(partitions[0]).toMatchObject({ start: 2048 * 4096, length: 4096 * 4096 });
  });

  test('entries of absurd sizes and places cost nothing', async () => {
    const damaged = Buffer.from(start);
    damaged.writeUInt32LE(0xffffffff, 512 + 80);
    damaged.writeBigUInt64LE(2n ** 50n, 512 + 72);
    const { kind, partitions } = await read([[0, damaged]]);
    expect({ kind, partitions }).toEqual({ kind: 'GPT', partitions: [] });
    damaged.writeUInt32LE(0, 512 + 84);
    expect((await read([[0, damaged]])).kind).toBe('MBR');
  });
});

describe('MBR', () => {
  test('primary, extended and logical partitions', async () => {
    const pieces = new Map<number, Uint8Array>([
      [
        0,
        bootRecord([
          { type: 0x83, first: 2048, sectors: 2048 },
          { type: 0x05, first: 8192, sectors: 16384 },
        ]),
      ],
      [
        8192 * 512,
        bootRecord([
          { type: 0x82, first: 63, sectors: 100 },
          { type: 0x05, first: 4096, sectors: 4096 },
        ]),
      ],
      [(8192 + 4096) * 512, bootRecord([{ type: 7, first: 63, sectors: 200 }])],
    ]);
    const { kind, partitions, notes } = await readPartitions(sparseDisk(SIZE, pieces), SIZE);
    expect({ kind, notes }).toEqual({ kind: 'MBR', notes: [] });
    expect(brief(partitions)).toEqual([
      '1  Linux 2048 2048',
      '2  extended 8192 16384',
      '5  Linux swap 8255 100',
      '6  NTFS or exFAT 12351 200',
    ]);
    expect(partitions.map(({ isContainer }) => isContainer)).toEqual([false, true, false, false]);
  });

  test('a chain that bites its tail ends', async () => {
    const record = bootRecord([
      { type: 0x83, first: 1, sectors: 1 },
      { type: 0x05, first: 0, sectors: 9 },
    ]);
    const pieces = new Map<number, Uint8Array>([
      [0, bootRecord([{ type: 0x05, first: 100, sectors: 9 }])],
      [100 * 512, record],
    ]);
    const { partitions, notes } = await readPartitions(sparseDisk(SIZE, pieces), SIZE);
    expect(partitions.map(({ number }) => number)).toEqual([1, 5]);
    expect(notes).toEqual(['The chain of extended boot records does not end.']);
  });

  test('what lies past the end of the disk is told', async () => {
    const record = bootRecord([{ type: 0x83, first: 2048, sectors: 0xffffffff }]);
    const { notes } = await readPartitions(sparseDisk(SIZE, new Map([[0, record]])), SIZE);
    expect(notes).toEqual(['Partition 1 reaches past the end of the disk.']);
  });

  test.each([
    ['an empty disk', new Uint8Array(0)],
    ['the boot sector of a file system', bootRecord([]).fill(0x41, 440, 510)],
    ['noise', Buffer.alloc(2048, 0xff)],
  ])('%s has none', async (_, bytes) => {
    const disk = sparseDisk(bytes.length, new Map([[0, bytes]]));
    expect((await readPartitions(disk, bytes.length)).kind).toBe('none');
  });
});
