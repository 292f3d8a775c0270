import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { qcow2 } from '../cli/command.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import {
  at,
  COPIED,
  checkImage,
  counters,
  makeDisk,
  oracle,
  patchWords,
  scriptLines,
  statusFor,
} from './check-support.ts';

let root: string;
beforeAll(() => {
  root = makeTempDir('check');
});
afterAll(() => removeTempDir(root));

const make = (name: string, ...lines: string[]) => makeDisk(root, name, lines);

const WRITES = "io 'write 0 192k' 'write 1M 64k' 'write -z 2M 64k' 'write 64k 4k'";
const TWO_SNAPSHOTS = [
  'qemu-img snapshot -c one disk',
  "io 'write 0 64k' 'discard 64k 64k'",
  'qemu-img snapshot -c two disk',
  "io 'write 3M 64k'",
];

/** Sound images: name, and the lines that make them. */
const SOUND: [string, string[]][] = [
  ...[512, 4096, 16384, 2097152].map((size): [string, string[]] => [
    `clusters of ${size}`,
    [`create -o cluster_size=${size} disk 8M`, WRITES],
  ]),
  ...[1, 2, 4, 8, 32, 64].map((bits): [string, string[]] => [
    `counters of ${bits} bits`,
    [`create -o refcount_bits=${bits} disk 8M`, WRITES, "io 'write -c -P 3 5M 64k'"],
  ]),
  ['version 2', ['create -o compat=0.10 disk 8M', WRITES, ...TWO_SNAPSHOTS]],
  ['snapshots', ['create disk 8M', WRITES, ...TWO_SNAPSHOTS]],
  [
    'a deleted and an applied snapshot',
    [
      'create disk 8M',
      WRITES,
      ...TWO_SNAPSHOTS,
      'qemu-img snapshot -a one disk',
      'qemu-img snapshot -d one disk',
    ],
  ],
  [
    'subclusters',
    [
      'create -o extended_l2=on disk 8M',
      WRITES,
      "io 'write 5M 2k' 'write -c -P 7 6M 64k'",
      ...TWO_SNAPSHOTS,
    ],
  ],
  ['a data file', ['create -o data_file=data disk 8M', WRITES]],
  ['a raw data file', ['create -o data_file=data,data_file_raw=on disk 8M', WRITES]],
  ['a data file, subclusters', ['create -o data_file=data,extended_l2=on disk 8M', WRITES]],
  [
    'bitmaps',
    [
      'create -o cluster_size=4096 disk 64M',
      'qemu-img bitmap --add -g 512 disk b0',
      'qemu-img bitmap --add --disable disk b1',
      WRITES,
    ],
  ],
  [
    'compressed clusters',
    [
      'create disk 8M',
      "io 'write -c -P 1 0 64k' 'write -c -P 2 64k 64k' 'write 128k 64k'",
      ...TWO_SNAPSHOTS,
    ],
  ],
  [
    'zstd',
    ['create -o compression_type=zstd disk 8M', "io 'write -c -P 1 0 64k' 'write -c -P 2 64k 64k'"],
  ],
  ['preallocation', ['create -o preallocation=full disk 8M']],
  [
    'a backing file',
    ['create base 4M', 'create -b base -F qcow2 disk 8M', "io 'write 100k 4k' 'write -z 1M 64k'"],
  ],
];

describe('a sound image', () => {
  it.concurrent.each(SOUND)('with %s', async (name, lines) => {
    const dir = await make(`sound ${name}`, ...lines);
    const ours = await checkImage(at(dir, 'disk'));
    const theirs = await oracle('disk', dir);
    expect(counters(ours)).toEqual(theirs.counters);
    expect([ours.corruptions, ours.leaks, ours.checkErrors, ours.refusals]).toEqual([0, 0, 0, 0]);
    expect(ours.findings).toEqual([]);
  });

  it('with LUKS needs no key', async () => {
    const secret = 'secret,id=s,data=abc';
    const options = 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10';
    // Creating measures its own processor time and fails now and then on a busy machine.
    const dir = await make(
      'luks',
      `for i in 1 2 3 4 5 6 7 8; do create --object ${secret} -o ${options} disk 8M && break; done`,
    );
    const image = 'driver=qcow2,file.filename=disk,encrypt.key-secret=s';
    const theirs = await oracle('disk', dir, ['--object', secret, '--image-opts', image]);
    expect(counters(await checkImage(at(dir, 'disk')))).toEqual(theirs.counters);
  });

  it('is judged the same by every kernel', async () => {
    const dir = await make('kernels', 'create disk 8M', WRITES, ...TWO_SNAPSHOTS);
    const whole = await checkImage(at(dir, 'disk'));
    for (const backend of ['wasm', 'js'] as const) {
      expect(await checkImage(at(dir, 'disk'), { backend })).toEqual(whole);
    }
  });
});

// In a plain image: refcount table 0x10000, block 0x20000, L1 0x30000, L2 0x40000, data from 0x50000.
const TABLE = 0x10000;
const L1 = 0x30000;
const L2 = 0x40000;
const PLAIN = ['create disk 10M', "io 'write -P 1 0 192k'"];
const EXTENDED = ['create -o extended_l2=on disk 10M', "io 'write -P 1 0 192k'"];
const DATA_FILE = ['create -o data_file=data disk 10M', "io 'write -P 1 0 192k'"];

/** Damaged images: how they are made, and the words overwritten. */
const DAMAGED: [string, string[], [number, bigint][]][] = [
  ['reserved bits in an L1 entry', PLAIN, [[L1, COPIED | 0x1000000000040001n]]],
  ['an L1 entry of nothing but bit 63', PLAIN, [[L1, COPIED]]],
  ['an unaligned L2 table', PLAIN, [[L1, COPIED | 0x40200n]]],
  ['an L2 table past the end', PLAIN, [[L1, COPIED | 0x80000n]]],
  ['an L2 table far past the end', PLAIN, [[L1, COPIED | 0xfffffffff00000n]]],
  ['reserved bits in an L2 entry', PLAIN, [[L2, COPIED | (1n << 58n) | 0x50006n]]],
  ['an unaligned cluster', PLAIN, [[L2, COPIED | 0x50200n]]],
  ['an unaligned zero cluster', PLAIN, [[L2, COPIED | 0x50201n]]],
  ['an unaligned last cluster', PLAIN, [[L2, COPIED | 0x70200n]]],
  ['a cluster past the end', PLAIN, [[L2, COPIED | 0x80000n]]],
  ['a cluster far past the end', PLAIN, [[L2, COPIED | 0xfffffffff00200n]]],
  ['bit 63 on a compressed cluster', PLAIN, [[L2, COPIED | (1n << 62n) | 0x50000n]]],
  ['a stream past the end', PLAIN, [[L2, (1n << 62n) | 0x30000000050000n]]],
  ['a cluster used twice', PLAIN, [[L2, COPIED | 0x60000n]]],
  [
    'bit 63 missing',
    PLAIN,
    [
      [L1, 0x40000n],
      [L2 + 8, 0x60000n],
    ],
  ],
  [
    'a full 1-bit counter',
    ['create -o refcount_bits=1 disk 10M', "io 'write 0 192k'"],
    [[L2, COPIED | 0x60000n]],
  ],
  ['subclusters allocated and zero', EXTENDED, [[L2 + 8, 0x0000000100000001n]]],
  ['subclusters without a cluster', EXTENDED, [[L2, 0n]]],
  ['subclusters of a compressed cluster', EXTENDED, [[L2, (1n << 62n) | COPIED | 0x50000n]]],
  ['an unaligned cluster of subclusters', EXTENDED, [[L2, COPIED | 0x50201n]]],
  ['reserved bits and subclusters', EXTENDED, [[L2, 2n]]],
  ['compression with a data file', DATA_FILE, [[L2, COPIED | (1n << 62n) | 0x50000n]]],
  ['no bit 63 with a data file', DATA_FILE, [[L2 + 8, 0x10000n]]],
  ['reserved bits in the refcount table', PLAIN, [[TABLE, 0x20001n]]],
  ['an unaligned refcount block', PLAIN, [[TABLE, 0x20200n]]],
  ['a refcount block past the end', PLAIN, [[TABLE, 0x80000n]]],
  ['an unreadable refcount block', PLAIN, [[TABLE, 0xfff0000000000000n]]],
  ['a refcount block used twice', PLAIN, [[TABLE + 8, 0x20000n]]],
  ['no refcount block', PLAIN, [[TABLE, 0n]]],
  ['the L1 table as refcount block', PLAIN, [[TABLE, 0x30000n]]],
  ['a refcount table of no length', PLAIN, [[56, 0n]]],
  ['a refcount table past the end', PLAIN, [[48, 0x80000n]]],
  ['data as refcount table', PLAIN, [[48, 0x70000n]]],
  ['the header as refcount table', PLAIN, [[48, 0n]]],
  ['an L1 table past the end', PLAIN, [[40, 0x80000n]]],
  ['an L1 table far past the end', PLAIN, [[40, 0x800000n]]],
];

/** Snapshot tables damaged by a word at a byte of the table or, below 72, of the header. */
const DAMAGED_SNAPSHOTS: [string, number, bigint][] = [
  ['an unaligned L1 table', 0, 0x200n],
  ['an L1 table past the end', 0, 0x800000n],
  ['an L1 table that cannot be read', 0, COPIED],
  ['an L1 table that is too large', 8, 0xff00000000010003n],
  ['too little extra data', 32, 8n],
  ['too much extra data', 32, 1025n],
];

describe('a damaged image', () => {
  async function compare(dir: string): Promise<void> {
    const theirs = await oracle('disk', dir);
    if (theirs.counters === undefined) {
      await expect(checkImage(at(dir, 'disk'))).rejects.toThrow(/cannot be|at most|must be/);
      return;
    }
    const ours = await checkImage(at(dir, 'disk'), { maxFindings: 20000 });
    expect(counters(ours)).toEqual(theirs.counters);
    expect(statusFor(ours)).toBe(theirs.status);
    const lines = ours.findings.map(({ message }) => message).join('\n');
    expect(scriptLines(lines)).toEqual(scriptLines(theirs.stderr));
    expect(ours.findings.reduce((sum, { count }) => sum + count, 0)).toBe(
      ours.corruptions + ours.leaks + ours.checkErrors + ours.refusals,
    );
  }

  it.concurrent.each(DAMAGED)('with %s', async (name, lines, words) => {
    const dir = await make(`damaged ${name}`, ...lines);
    patchWords(at(dir, 'disk'), ...words);
    await compare(dir);
  });

  it.concurrent.each(DAMAGED_SNAPSHOTS)('with a snapshot with %s', async (name, byte, word) => {
    const dir = await make(`snapshot ${name}`, ...PLAIN, ...TWO_SNAPSHOTS);
    const table = Number(readFileSync(at(dir, 'disk')).readBigUInt64BE(64));
    patchWords(at(dir, 'disk'), [table + byte, word]);
    await compare(dir);
  });

  it('with a snapshot table past the end', async () => {
    const dir = await make('lost snapshots', ...PLAIN, ...TWO_SNAPSHOTS);
    patchWords(at(dir, 'disk'), [64, 0x8000000n]);
    await compare(dir);
  });

  it.each([1, 100, 513, 4096])('cut short by %i bytes', async (bytes) => {
    const dir = await make(`cut ${bytes}`, 'create -o cluster_size=4096 disk 8M', WRITES);
    const whole = readFileSync(at(dir, 'disk'));
    writeFileSync(at(dir, 'disk'), whole.subarray(0, whole.length - bytes));
    await compare(dir);
  });
});

describe('what reading refuses though the counters agree', () => {
  it.each<[string, string[], [number, bigint][], number]>([
    ['data-file offsets in the wrong place', DATA_FILE, [[L2 + 16, COPIED | 0x90000n]], 1],
    [
      'an L2 table in two places of a data file',
      ['create -o data_file=data disk 1G', "io 'write 0 192k'"],
      [[L1 + 8, COPIED | 0x40000n]],
      1,
    ],
    [
      'the zero flag in version 2',
      ['create -o compat=0.10 disk 10M', "io 'write 0 192k'"],
      [[L2, COPIED | 0x50001n]],
      1,
    ],
  ])('%s', async (name, lines, words, refusals) => {
    const dir = await make(`refused ${name}`, ...lines);
    patchWords(at(dir, 'disk'), ...words);
    const theirs = await oracle('disk', dir);
    const ours = await checkImage(at(dir, 'disk'));
    expect(counters(ours)).toEqual(theirs.counters);
    expect(ours.refusals).toBe(refusals);
    const found = ours.findings.filter((finding) => finding.class === 'refusal');
    expect(found.length).toBe(refusals);
  });

  it('is status 2, in both outputs', async () => {
    const dir = await make('refused status', ...DATA_FILE);
    const path = at(dir, 'disk');
    patchWords(path, [L2 + 16, COPIED | 0x90000n]);
    const human = await qcow2('check', path);
    expect(human.status).toBe(2);
    expect(human.stdout).toMatch(/^\n1 unreadable entries were found on the image\.\n/);
    expect(human.stderr).toMatch(/^UNREADABLE L2 entry at 0x40010: [^\n]*\n$/);
    const json = await qcow2('check', '--output=json', path);
    expect([json.status, JSON.parse(json.stdout).refusals]).toEqual([2, 1]);
  });
});
