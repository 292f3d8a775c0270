import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openImage } from '../../src/node/open-image.ts';
import { makeContent } from '../support/data.ts';
import { runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { qcow2 } from './command.ts';

let dir: string;
const home = process.cwd();
const MIB = 1 << 20;
const qemuImg = async (...args: string[]) => (await runOk('qemu-img', args, dir)).stdout;

beforeAll(() => {
  dir = makeTempDir('adopt');
  process.chdir(dir);
});
afterAll(() => {
  process.chdir(home);
  removeTempDir(dir);
});
beforeEach(() => fs.mkdirSync('sub'));
afterEach(() => {
  for (const name of fs.readdirSync(dir)) fs.rmSync(join(dir, name), { recursive: true });
});

/** A sparse disk: data where `parts` says, holes elsewhere. */
function disk(name: string, size: number, parts: readonly [at: number, length: number][]): void {
  const file = fs.openSync(name, 'w');
  fs.ftruncateSync(file, size);
  for (const [at, length] of parts)
    fs.writeSync(file, makeContent('random', length, at), 0, length, at);
  fs.closeSync(file);
}

/** Everything about a file that adopting it must not change. */
function stateOf(name: string): unknown {
  const { ino, size, blocks, mtimeNs, ctimeNs, mode } = fs.statSync(name, { bigint: true });
  const hash = createHash('sha256').update(fs.readFileSync(name)).digest('hex');
  return { ino, size, blocks, mtimeNs, ctimeNs, mode, hash };
}

const SHAPES = [
  '',
  'cluster_size=512',
  'cluster_size=4k,refcount_bits=1',
  'cluster_size=2M,lazy_refcounts=on',
  'extended_l2=on',
  'extended_l2=on,cluster_size=16k',
  'extended_l2=on,cluster_size=2M,refcount_bits=64,compat=v3',
];

const DISKS: readonly [string, number, readonly [number, number][]][] = [
  [
    'with holes',
    9 * MIB,
    [
      [0, 4096],
      [MIB + 8192, 70_000],
      [5 * MIB, MIB],
    ],
  ],
  ['without data', 3 * MIB, []],
  ['full of data', MIB, [[0, MIB]]],
  [
    'that ends in a sector',
    200_000,
    [
      [4096, 5000],
      [196_608, 3392],
    ],
  ],
  ['that ends in a hole, in a sector', 300_001, [[0, 100]]],
  ['of one byte', 1, [[0, 1]]],
  ['of no byte', 0, []],
];

describe.each(DISKS)('adopt a disk %s', (_, size, parts) => {
  it.each(SHAPES)('-o %s', async (shape) => {
    disk('disk.raw', size, parts);
    const before = stateOf('disk.raw');
    const options = shape === '' ? [] : ['-o', shape];
    const { status, stderr } = await qcow2('adopt', '-q', ...options, 'disk.raw', 'image');
    expect([status, stderr]).toEqual([0, '']);
    expect(stateOf('disk.raw')).toEqual(before);
    await qemuImg('check', 'image');
    await qemuImg('compare', '-f', 'raw', '-F', 'qcow2', 'disk.raw', 'image');
    const found = JSON.parse(await qemuImg('info', '--output=json', 'image'));
    expect(found['virtual-size']).toBe(Math.ceil(size / 512) * 512);
    expect(found['format-specific'].data).toMatchObject({
      'data-file': 'disk.raw',
      'data-file-raw': true,
    });
    const image = await openImage('image');
    const bytes = new Uint8Array(image.virtualSize);
    await image.read(0, bytes);
    await image.close();
    const wanted = new Uint8Array(image.virtualSize);
    wanted.set(fs.readFileSync('disk.raw'));
    expect(Buffer.compare(bytes, wanted)).toBe(0);
    expect((await qcow2('check', '-q', 'image')).status).toBe(0);
    expect(stateOf('disk.raw')).toEqual(before);
  });
});

describe('adopt', () => {
  it('maps holes as zeros with a place, data to where it is', async () => {
    disk('disk.raw', 4 * 65536, [[65536, 65536]]);
    await qcow2('adopt', '-q', 'disk.raw', 'image');
    const map = JSON.parse(await qemuImg('map', '--output=json', 'image'));
    const common = { depth: 0, present: true };
    // QEMU knows no place at offset 0 for an entry with the zero flag.
    expect(map).toEqual([
      { ...common, start: 0, length: 65536, zero: true, data: false },
      { ...common, start: 65536, length: 65536, zero: false, data: true, offset: 65536 },
      { ...common, start: 131072, length: 131072, zero: true, data: false, offset: 131072 },
    ]);
  });

  it('leaves a disk that QEMU writes to through the image, and reads as the raw file alone', async () => {
    disk('disk.raw', 3 * MIB, [[0, 4096]]);
    for (const options of [[], ['-o', 'extended_l2=on']]) {
      fs.rmSync('image', { force: true });
      await qcow2('adopt', '-q', ...options, 'disk.raw', 'image');
      const writes = ['write -P 7 70000 100', 'write -P 8 2M 65536', 'write -z 0 4k'];
      await runOk('qemu-io', [...writes.flatMap((line) => ['-c', line]), 'image'], dir);
      await qemuImg('check', 'image');
      await qemuImg('compare', '-f', 'raw', '-F', 'qcow2', 'disk.raw', 'image');
      expect(
        fs
          .readFileSync('disk.raw')
          .subarray(70_000, 70_100)
          .every((b) => b === 7),
      ).toBe(true);
    }
  });

  it('says what it made', async () => {
    disk('disk.raw', MIB + 1, []);
    const { stdout, stderr } = await qcow2('adopt', '-o', 'cluster_size=4k', 'disk.raw', 'image');
    await qemuImg('create', '-q', '-f', 'raw', 'other.raw', '1M');
    const theirs = await qemuImg(
      ...'create -f qcow2 -o cluster_size=4k,data_file=disk.raw,data_file_raw=on image'.split(' '),
      String(MIB + 512),
    );
    expect([stdout, stderr]).toEqual([theirs, '']);
  });

  it.each([
    ['disk.raw', 'image', 'disk.raw', []],
    ['./disk.raw', 'image', 'disk.raw', []],
    ['sub/disk.raw', 'sub/image', 'disk.raw', ['working directory']],
    ['disk.raw', 'sub/image', '../disk.raw', ['working directory', '--allow-external']],
    ['sub/disk.raw', 'image', 'sub/disk.raw', []],
    ['a:b.raw', 'image', './a:b.raw', []],
    ['{dir}/sub/disk.raw', 'sub/image', '{dir}/sub/disk.raw', []],
    ['{dir}/disk.raw', 'sub/image', '{dir}/disk.raw', ['--allow-external']],
    ['disk.raw', 'link/image', '../disk.raw', ['working directory', '--allow-external']],
  ])('%s as %s records %s', async (given, file, recorded, warned) => {
    fs.symlinkSync('sub', 'link');
    const name = given.replace('{dir}', dir);
    disk(name, MIB, [[0, 512]]);
    const { status, stdout, stderr } = await qcow2('adopt', name, file);
    expect(status).toBe(0);
    expect(stdout).toContain(`data_file=${recorded.replace('{dir}', dir)} data_file_raw=on`);
    const lines = stderr.split('\n').slice(0, -1);
    expect(lines.length).toBe(warned.length);
    for (const [index, text] of warned.entries()) {
      expect(lines[index]).toMatch(/^qcow2: warning: /);
      expect(lines[index]).toContain(text);
    }
    const image = await openImage(file, { allowExternal: [dir] });
    await image.read(0, new Uint8Array(512));
    await image.close();
    // QEMU finds it from the folder of the image.
    const folder = join(dir, file.includes('/') ? 'sub' : '');
    await runOk('qemu-img', ['check', 'image'], folder);
  });

  it.each([
    [['nothere', 'new'], /^qcow2: Could not open 'nothere': No such file or directory\n$/],
    [['disk.raw', 'disk.raw'], /^qcow2: Could not create 'disk.raw': there is a file/],
    [['disk.raw', 'disk.qcow2'], /^qcow2: Could not create 'disk.qcow2': there is a file/],
    [['disk.qcow2', 'new'], /^qcow2: 'disk.qcow2' is a qcow2 image, not a raw disk/],
    [['sub', 'new'], /^qcow2: Could not open 'sub': it is a directory\n$/],
    [['/dev/null', 'new'], /^qcow2: Could not open '\/dev\/null': it is not a regular file\n$/],
    [['disk.raw', 'nodir/new'], /^qcow2: Could not open 'nodir': No such file or directory\n$/],
    [['-f', 'qcow2', 'disk.raw', 'new'], /^qcow2: -f qcow2: only a raw disk can be adopted/],
    [['-o', 'size=2M', 'disk.raw', 'new'], /^qcow2: option 'size' does not go with adopt\n$/],
    [['-o', 'data_file_raw=off', 'disk.raw', 'new'], /^qcow2: option 'data_file_raw' /],
    [['-o', 'compat=0.10', 'disk.raw', 'new'], /^qcow2: External data files are only supported/],
    [['-o', 'cluster_size=3000', 'disk.raw', 'new'], /^qcow2: Cluster size must be a power of two/],
  ])('refuses %j and leaves nothing behind', async (args, message) => {
    disk('disk.raw', MIB, []);
    await qemuImg('create', '-q', '-f', 'qcow2', 'disk.qcow2', '1M');
    const before = fs.readdirSync(dir);
    const { status, stdout, stderr } = await qcow2('adopt', ...args);
    expect([status, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(message);
    expect(stderr.split('\n').length).toBe(2);
    expect(fs.readdirSync(dir)).toEqual(before);
  });

  it('takes the bytes of an image for a disk with -f raw', async () => {
    await qemuImg('create', '-q', '-f', 'qcow2', 'inner', '1M');
    expect((await qcow2('adopt', '-f', 'raw', 'inner', 'image')).status).toBe(0);
    await qemuImg('compare', '-f', 'raw', '-F', 'qcow2', 'inner', 'image');
  });

  it('refuses a disk that another program writes to', async () => {
    disk('disk.raw', MIB, []);
    const writer = spawn('qemu-io', ['-f', 'raw', 'disk.raw'], { cwd: dir });
    // Its prompt comes when the disk is open.
    await once(writer.stdout, 'data');
    const { status, stderr } = await qcow2('adopt', 'disk.raw', 'image');
    writer.stdin.end('quit\n');
    await once(writer, 'exit');
    expect([status, fs.existsSync('image')]).toEqual([1, false]);
    expect(stderr).toContain('Is another process using the image');
  });
});
