import { mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fullBackingFilename } from '../../src/operations/info.ts';
import { run, runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { qcow2 } from './command.ts';

let dir: string;
const home = process.cwd();
const qemuImg = async (...args: string[]) => (await runOk('qemu-img', args, dir)).stdout;
const create = (...args: string[]) => qemuImg('create', '-q', '-f', 'qcow2', ...args);

/** On a busy machine qemu-img sometimes cannot measure how fast its key derivation is. */
async function createLuks(...args: string[]): Promise<void> {
  for (let attempt = 0; attempt < 20; attempt++) {
    const { status } = await run('qemu-img', ['create', '-q', '-f', 'qcow2', ...args], dir);
    if (status === 0) return;
  }
  throw new Error('qemu-img does not create a LUKS image');
}

/** Writes a copy of an image with bytes changed. */
function patched(from: string, to: string, change: (bytes: Buffer) => void): void {
  const bytes = readFileSync(join(dir, from));
  change(bytes);
  writeFileSync(join(dir, to), bytes);
}

beforeAll(async () => {
  dir = makeTempDir('info');
  process.chdir(dir);
  mkdirSync(join(dir, 'sub'));
  const secret = ['--object', 'secret,id=s,data=x'];
  const luks = 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10';
  const essiv = 'encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv,encrypt.ivgen-hash-alg=sha256';
  await create('plain', '1G');
  await create('empty', '0');
  await create('odd', '1000001');
  await create('-o', 'compat=0.10,cluster_size=4k', 'old', '192k');
  await create('-o', 'extended_l2=on,compression_type=zstd,refcount_bits=1', 'new', '10M');
  await create('-o', 'lazy_refcounts=on,cluster_size=512,refcount_bits=64', 'small', '1M');
  await create('-b', 'plain', '-F', 'qcow2', 'overlay');
  await create('-b', '../overlay', '-F', 'qcow2', 'sub/upper');
  await create('-b', join(dir, 'plain'), '-F', 'qcow2', 'sub/absolute');
  for (const [name, backing] of [
    ['nbd', 'nbd://host/export'],
    ['json', 'json:{"driver":"file","filename":"x"}'],
    ['colon', 'a:b.raw'],
    ['late-colon', './a:b.raw'],
    ['unicode', 'h\u00e9llo\u20ac.raw'],
  ] as const)
    await create('-u', '-b', backing, '-F', 'raw', `sub/${name}`, '1M');
  await createLuks(...secret, '-o', luks, 'luks', '1M');
  const aes128 = `${luks},${essiv},encrypt.cipher-alg=aes-128,encrypt.hash-alg=sha512`;
  await createLuks(...secret, '-o', aes128, '-b', 'plain', '-F', 'qcow2', 'essiv');
  await create(...secret, '-o', 'encryption=on,encrypt.key-secret=s', 'aes', '1M');
  await create('snapshots', '1M');
  for (const name of ['first', 'a name that is longer than its column', 'h\u00e9llo\u20ac'])
    await qemuImg('snapshot', '-c', name, 'snapshots');
  await create('bitmaps', '1M');
  await qemuImg('bitmap', '--add', '-g', '128k', '--disable', 'bitmaps', 'one');
  await qemuImg('bitmap', '--add', 'bitmaps', 'two words');
  await qemuImg('create', '-q', '-f', 'raw', 'raw', '1500000');
  writeFileSync(join(dir, 'written'), Buffer.alloc(100_000, 1));
  patched('plain', 'dirty', (bytes) => bytes.writeUInt8(1, 79));
  patched('plain', 'corrupt', (bytes) => bytes.writeUInt8(2, 79));
  patched('overlay', 'no-format', (bytes) => bytes.writeUInt32BE(0x12345678, 112));
  patchSnapshots();
}, 60_000);
afterAll(() => {
  process.chdir(home);
  removeTempDir(dir);
});

interface Row {
  id: string;
  name: string;
  vmState: bigint;
  date: number;
  clock: bigint;
  icount: bigint | null;
}

/** One snapshot table entry with the extra data of its time (format section 12). */
function snapshotEntry(l1: bigint, row: Row): Buffer {
  const extra = Buffer.alloc(row.icount === null ? 16 : 24);
  extra.writeBigUInt64BE(row.vmState, 0);
  extra.writeBigUInt64BE(1n << 20n, 8);
  if (row.icount !== null) extra.writeBigUInt64BE(BigInt.asUintN(64, row.icount), 16);
  const head = Buffer.alloc(40);
  const [id, name] = [Buffer.from(row.id), Buffer.from(row.name)];
  head.writeBigUInt64BE(l1, 0);
  head.writeUInt32BE(1, 8);
  head.writeUInt16BE(id.length, 12);
  head.writeUInt16BE(name.length, 14);
  head.writeUInt32BE(row.date, 16);
  head.writeUInt32BE(123_456_789, 20);
  head.writeBigUInt64BE(row.clock, 24);
  head.writeUInt32BE(extra.length, 36);
  const entry = Buffer.concat([head, extra, id, name]);
  return Buffer.concat([entry, Buffer.alloc(-entry.length & 7)]);
}

/** An image whose snapshot table holds the values that are hard to print. */
function patchSnapshots(): void {
  const second = 1_000_000_000n;
  const rows: Row[] = [
    { id: '1', name: 'plain', vmState: 5n << 20n, date: 1e9, clock: 3723004567890n, icount: null },
    { id: '12345678901', name: 'long id', vmState: 123456789n, date: 0, clock: 0n, icount: -1n },
    { id: 'abc', name: 'counted', vmState: 1023976n, date: 4294967295, clock: 999999n, icount: 7n },
    { id: '', name: '', vmState: 1000n, date: 1720000000, clock: second * 359999n, icount: 0n },
    { id: '5', name: 'h', vmState: 999n, date: 1700000000, clock: second * 360000n, icount: -2n },
    { id: '6', name: 'i', vmState: 1n << 52n, date: 5, clock: (1n << 64n) - 1n, icount: 1n << 62n },
  ];
  const bytes = Buffer.concat([readFileSync(join(dir, 'snapshots')), Buffer.alloc(65536)]);
  const table = Number(bytes.readBigUInt64BE(64));
  const l1 = bytes.readBigUInt64BE(table);
  Buffer.concat(rows.map((row) => snapshotEntry(l1, row))).copy(bytes, table);
  bytes.writeUInt32BE(rows.length, 60);
  writeFileSync(join(dir, 'hostile'), bytes);
}

const IMAGES =
  `plain empty odd old new small overlay ./overlay sub/upper sub/absolute sub/nbd sub/json
  sub/colon sub/late-colon sub/unicode luks essiv aes snapshots hostile bitmaps raw written dirty
  corrupt no-format`.split(/\s+/);

describe('info', () => {
  it.each(IMAGES)('of %s is what qemu-img prints', async (name) => {
    for (const style of ['human', 'json']) {
      const expected = await qemuImg('info', `--output=${style}`, name);
      expect(await qcow2('info', `--output=${style}`, name)).toEqual({
        status: 0,
        stdout: expected,
        stderr: '',
      });
    }
  });

  it.each(['overlay', 'sub/upper', 'plain', 'raw'])('of the chain of %s', async (name) => {
    for (const style of ['human', 'json']) {
      const args = ['info', '--backing-chain', `--output=${style}`, name];
      const stdout = await qemuImg(...args);
      expect(await qcow2(...args, '--allow-external', dir)).toEqual({
        status: 0,
        stdout,
        stderr: '',
      });
    }
  });

  it('takes the format that -f says', async () => {
    const stdout = await qemuImg('info', '-fraw', 'plain');
    expect(await qcow2('info', '-fraw', 'plain')).toEqual({ status: 0, stdout, stderr: '' });
  });

  it('names a data file and opens none', async () => {
    await create('-o', 'data_file=data,data_file_raw=on', 'external', '1M');
    const [json, text] = [
      await qemuImg('info', '--output=json', 'external'),
      await qemuImg('info', 'external'),
    ];
    // qemu-img adds the space of the data file, which is not looked at here.
    const withoutSize = (t: string) => t.replace(/"actual-size": \d+|disk size: .*/, '');
    renameSync(join(dir, 'data'), join(dir, 'data-away'));
    const [ourJson, ourText] = [
      await qcow2('info', '--output=json', 'external'),
      await qcow2('info', 'external'),
    ];
    expect(withoutSize(ourJson.stdout)).toBe(withoutSize(json));
    expect(withoutSize(ourText.stdout)).toBe(withoutSize(text));
  });

  it('escapes what could drive a terminal, in human output only', async () => {
    await create('-u', '-b', 'evil\u001b[31m\nname\u007f\u0085\u202ex', '-F', 'raw', 'evil', '1M');
    const json = await qemuImg('info', '--output=json', 'evil');
    expect((await qcow2('info', '--output=json', 'evil')).stdout).toBe(json);
    expect((await qcow2('info', 'evil')).stdout).toContain(
      '\nbacking file: evil\\x1b[31m\\x0aname\\x7f\\x85\\u202ex\nbacking file format: raw\n',
    );
  });
});

describe('info refuses', () => {
  it('a chain that leaves the folder of the image', async () => {
    const { status, stdout, stderr } = await qcow2('info', '--backing-chain', 'sub/upper');
    expect([status, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/^qcow2: [^\n]*'\.\.\/overlay'[^\n]*\n$/);
    expect(
      (await qcow2('info', '--backing-chain', '--allow-external=any', 'sub/upper')).status,
    ).toBe(0);
  });

  it('a chain that leads back to itself', async () => {
    await create('-u', '-b', 'loop-b', '-F', 'qcow2', 'loop-a', '1M');
    await create('-u', '-b', 'loop-a', '-F', 'qcow2', 'loop-b', '1M');
    const { status, stderr } = await qcow2('info', '--backing-chain', 'loop-a');
    expect(status).toBe(1);
    expect(stderr).toMatch(/^qcow2: [^\n]*appears twice[^\n]*\n$/);
  });

  it('a chain whose format would have to be guessed', async () => {
    patched('sub/absolute', 'middle', () => {});
    patched('overlay', 'guess', (bytes) => bytes.writeUInt32BE(0x12345678, 112));
    symlinkSync('middle', join(dir, 'link'));
    const at = readFileSync(join(dir, 'guess')).indexOf('plain');
    patched('guess', 'guess', (bytes) => bytes.write('link\0', at));
    patched('guess', 'guess', (bytes) => bytes.writeUInt32BE(4, 16));
    const { status, stderr } = await qcow2('info', '--backing-chain', 'guess');
    expect(status).toBe(1);
    expect(stderr).toMatch(/^qcow2: [^\n]*format is not recorded[^\n]*\n$/);
  });

  it.each([['nothere'], ['.'], ['-f', 'qcow2', 'raw'], ['-f', 'vdi', 'plain'], ['a\u0000b']])(
    '%j, on one line and with the status of qemu-img',
    async (...args) => {
      const { status, stdout, stderr } = await qcow2('info', ...args);
      expect([status, stdout]).toEqual([1, '']);
      expect(stderr).toMatch(/^qcow2: Could not open '[^\n]+\n$|unknown format/);
      if (args.some((arg) => arg.includes('\u0000'))) return;
      expect((await run('qemu-img', ['info', ...args], dir)).status).toBe(1);
    },
  );
});

describe('full names of backing files', () => {
  it.each([
    ['a', 'b', 'b'],
    ['./a', 'b', './b'],
    ['d/a', '../b', 'd/../b'],
    ['/d/a', 'b', '/d/b'],
    ['d/a', '/b', '/b'],
    ['d/a', 'x:b', 'x:b'],
    ['d/a', './x:b', 'd/./x:b'],
  ])('%s names %s: %s', (image, backing, full) => {
    expect(fullBackingFilename(image, backing)).toBe(full);
  });
});
