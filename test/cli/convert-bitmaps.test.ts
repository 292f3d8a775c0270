import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { leaveInUse } from '../support/bitmaps.ts';
import { run, runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { qcow2 } from './command.ts';

let dir: string;
const home = process.cwd();
const SILENT = { status: 0, stdout: '', stderr: '' };
const qemuImg = async (...args: string[]) => (await runOk('qemu-img', args, dir)).stdout;
const write = (image: string, ...commands: string[]) =>
  runOk('qemu-io', [...commands.flatMap((command) => ['-c', command]), image], dir);

beforeAll(async () => {
  dir = makeTempDir('bitmaps');
  process.chdir(dir);
  await qemuImg(...'create -q -f qcow2 disk 10M'.split(' '));
  await qemuImg('bitmap', '--add', 'disk', 'first');
  await qemuImg(...'bitmap --add -g 512 disk fine'.split(' '));
  await qemuImg(...'bitmap --add -g 2M disk coarse'.split(' '));
  await write('disk', 'write -P 3 1M 64k', 'write -P 4 9M 1k', 'write -P 5 10485248 512');
  await qemuImg('bitmap', '--add', 'disk', 'clean');
  await qemuImg(...'bitmap --add --disable -g 4k disk off'.split(' '));
  await qemuImg(...'bitmap --merge fine disk off'.split(' '));
  // A bitmap of many small clusters, and one that is all ones.
  await qemuImg(...'create -q -f qcow2 -o cluster_size=512,refcount_bits=64 small 10M'.split(' '));
  await qemuImg(...'bitmap --add -g 512 small fine'.split(' '));
  await qemuImg('bitmap', '--add', 'small', 'all');
  await write('small', 'write -z 0 10M');
  await qemuImg(...'bitmap --clear small fine'.split(' '));
  await write('small', 'write -P 1 0 512', 'write -P 1 5M 1M', 'write -P 1 10485248 512');
  copyFileSync('disk', 'broken');
  await leaveInUse('broken', dir);
  await qemuImg('bitmap', '--add', 'broken', 'sound');
  await write('broken', 'write -P 9 3M 64k');
  copyFileSync('disk', 'all-broken');
  await leaveInUse('all-broken', dir);
  await qemuImg(...'create -q -f qcow2 -o compat=0.10 old 10M'.split(' '));
  writeFileSync('disk.raw', new Uint8Array(1 << 20));
}, 60_000);
afterAll(() => {
  process.chdir(home);
  removeTempDir(dir);
});

interface Bitmap {
  name: string;
  granularity: number;
  flags: string[];
}

async function bitmapsOf(image: string): Promise<Bitmap[]> {
  const info = JSON.parse(await qemuImg('info', '--output=json', image));
  return info['format-specific'].data.bitmaps ?? [];
}

/** The dirty ranges as QEMU serves them. */
async function dirtyRanges(image: string, bitmap: string): Promise<unknown> {
  const [socket, pidFile] = [join(dir, 'nbd'), join(dir, 'nbd.pid')];
  const options = ['--pid-file', pidFile, '-r', '-t', '-f', 'qcow2', '-B', bitmap, '-k', socket];
  const server = spawn('qemu-nbd', [...options, image], { cwd: dir, stdio: 'inherit' });
  // Written when it listens.
  while (!existsSync(pidFile)) await new Promise((resolve) => setTimeout(resolve, 5));
  const where = `driver=nbd,server.type=unix,server.path=${socket},x-dirty-bitmap=qemu:dirty-bitmap:${bitmap}`;
  const map: { start: number; length: number; data: boolean }[] = JSON.parse(
    await qemuImg('map', '--output=json', '--image-opts', where),
  );
  server.kill();
  await once(server, 'exit');
  rmSync(pidFile, { force: true });
  return map.filter(({ data }) => !data).map(({ start, length }) => [start, length]);
}

async function expectSameBitmaps(ours: string, theirs: string): Promise<void> {
  const bitmaps = await bitmapsOf(theirs);
  expect(await bitmapsOf(ours)).toEqual(bitmaps);
  for (const { name } of bitmaps)
    expect([name, await dirtyRanges(ours, name)]).toEqual([name, await dirtyRanges(theirs, name)]);
}

describe('convert --bitmaps makes the bitmaps qemu-img makes', () => {
  it.each([
    'disk',
    '-c disk',
    '-o cluster_size=512 disk',
    '-o cluster_size=512,refcount_bits=1 small',
    '-o cluster_size=512,refcount_bits=64 small',
    '-o cluster_size=2M,extended_l2=on small',
    '-o preallocation=metadata disk',
    '-o data_file=out.data disk',
    'small',
    'old-overlay',
  ])(
    '%s',
    async (line) => {
      if (line === 'old-overlay') {
        await qemuImg(...'create -q -f qcow2 -b disk -F qcow2 old-overlay'.split(' '));
        await qemuImg('bitmap', '--add', 'old-overlay', 'own');
        await write('old-overlay', 'write -P 6 4M 100k');
      }
      const args = ['convert', '--bitmaps', '-O', 'qcow2', ...line.split(' ')];
      await qemuImg(...args.map((arg) => arg.replace('out.data', 'theirs.data')), 'theirs');
      expect(await qcow2(...args, 'ours')).toEqual(SILENT);
      await qemuImg('check', 'ours');
      expect((await qcow2('check', '-q', 'ours')).status).toBe(0);
      await qemuImg('compare', 'ours', 'theirs');
      await expectSameBitmaps('ours', 'theirs');
      // QEMU goes on with them.
      await write('ours', 'write -P 8 2M 64k');
      await write('theirs', 'write -P 8 2M 64k');
      await qemuImg('check', 'ours');
      await expectSameBitmaps('ours', 'theirs');
    },
    30_000,
  );

  it('leaves bitmaps behind without the option', async () => {
    await qcow2('convert', '-O', 'qcow2', 'disk', 'ours');
    expect(await bitmapsOf('ours')).toEqual([]);
  });

  it('reads entries that stand for ones, and clears bits behind the end', async () => {
    await qemuImg(...'convert --bitmaps -O qcow2 small ones'.split(' '));
    await qemuImg('bitmap', '--remove', 'ones', 'all');
    const bytes = readFileSync('ones');
    const directory = Number(bytes.readBigUint64BE(bytes.indexOf('23852875', 'hex') + 24));
    const table = Number(bytes.readBigUint64BE(directory));
    bytes.writeBigUint64BE(1n, table);
    writeFileSync('ones', bytes);
    expect(await qcow2('convert', '--bitmaps', '-O', 'qcow2', 'ones', 'ours')).toEqual(SILENT);
    await qemuImg('check', 'ours');
    expect(await dirtyRanges('ours', 'fine')).toEqual([[0, 10 << 20]]);
  });

  it('skips broken bitmaps when asked, in the words of qemu-img', async () => {
    for (const name of ['broken', 'all-broken']) {
      const args = ['convert', '--bitmaps', '--skip-broken-bitmaps', '-O', 'qcow2', name];
      const theirs = await run('qemu-img', [...args, 'theirs'], dir);
      const ours = await qcow2(...args, 'ours');
      const stderr = theirs.stderr.replaceAll('qemu-img', 'qcow2');
      expect(ours).toEqual({ status: 0, stdout: '', stderr });
      expect(stderr).toContain("warning: Skipping inconsistent bitmap 'first'");
      await qemuImg('check', 'ours');
      await expectSameBitmaps('ours', 'theirs');
    }
  });

  it('writes them into an existing image with -n', async () => {
    await qemuImg(...'create -q -f qcow2 ours 10M'.split(' '));
    expect(await qcow2('convert', '-n', '--bitmaps', '-O', 'qcow2', 'disk', 'ours')).toEqual(
      SILENT,
    );
    await qemuImg('compare', 'disk', 'ours');
    await expectSameBitmaps('ours', 'disk');
  });
});

describe('convert --bitmaps refuses, as qemu-img', () => {
  it.each([
    ['--bitmaps -O raw disk new', "Format driver 'raw' does not support bitmaps"],
    ['--bitmaps disk new', "Format driver 'raw' does not support bitmaps"],
    ['--bitmaps -O qcow2 -f raw disk.raw new', 'Source lacks bitmap support'],
    ['--bitmaps -O qcow2 old new', 'Source lacks bitmap support'],
    [
      '--bitmaps -O qcow2 -o compat=0.10 disk new',
      "Format driver 'qcow2' does not support bitmaps",
    ],
    ['--bitmaps -O qcow2 disk disk new', 'Copying bitmaps only possible with single source'],
    ['--skip-broken-bitmaps -O qcow2 disk new', 'Use of --skip-broken-bitmaps requires --bitmaps'],
    ['--bitmaps -O qcow2 broken new', "Cannot copy inconsistent bitmap 'off'"],
  ])('%s', async (line, message) => {
    const args = line.split(' ');
    const theirs = await run('qemu-img', ['convert', ...args], dir);
    rmSync('new', { force: true });
    expect(theirs.status).toBe(1);
    expect(theirs.stderr).toContain(message);
    const before = readdirSync(dir);
    const ours = await qcow2('convert', ...args);
    expect([ours.status, ours.stdout]).toEqual([1, '']);
    expect(ours.stderr.startsWith(`qcow2: ${message}`)).toBe(true);
    expect(ours.stderr.split('\n').length).toBe(2);
    expect(readdirSync(dir)).toEqual(before);
  });

  it('a target of another size', async () => {
    await qemuImg(...'create -q -f qcow2 larger 12M'.split(' '));
    const { status, stderr } = await qcow2(
      ...'convert -n --bitmaps -O qcow2 disk larger'.split(' '),
    );
    expect(status).toBe(1);
    expect(stderr).toMatch(/^qcow2: bitmaps of a disk of 10485760 bytes [^\n]+\n$/);
  });

  it('tables that share clusters, from which a small file would make a large one', async () => {
    await qemuImg(...'create -q -f qcow2 shared 1T'.split(' '));
    await qemuImg(...'bitmap --add -g 4k shared fine'.split(' '));
    const bytes = readFileSync('shared');
    const directory = Number(bytes.readBigUint64BE(bytes.indexOf('23852875', 'hex') + 24));
    const table = Number(bytes.readBigUint64BE(directory));
    for (let entry = 0; entry < bytes.readUint32BE(directory + 8); entry++)
      bytes.writeBigUint64BE(BigInt(table), table + entry * 8);
    writeFileSync('shared', bytes);
    const { status, stderr } = await qcow2(...'convert --bitmaps -O qcow2 shared new'.split(' '));
    expect(status).toBe(1);
    expect(stderr).toMatch(/^qcow2: bitmaps of 'shared' take more clusters than [^\n]+\n$/);
  });
});
