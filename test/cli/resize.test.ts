import * as fs from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openImage } from '../../src/node/open-image.ts';
import { resize } from '../../src/operations/resize.ts';
import { dirtyGranules } from '../crash/bitmaps.ts';
import { run, runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { qcow2 } from './command.ts';

const MIB = 1 << 20;
let root: string;
let count = 0;
let [ours, theirs] = ['', ''];
const home = process.cwd();

beforeAll(() => {
  root = makeTempDir('resize');
});
beforeEach(() => {
  const dir = join(root, `${++count}`);
  [ours, theirs] = [join(dir, 'ours'), join(dir, 'theirs')];
  for (const folder of [ours, theirs]) fs.mkdirSync(folder, { recursive: true });
  process.chdir(ours);
});
afterAll(() => {
  process.chdir(home);
  removeTempDir(root);
});

const words = (line: string) => (line === '' ? [] : line.split(' '));
const img = (line: string, cwd: string) => runOk('qemu-img', words(line), cwd);
const io = (commands: readonly string[], file: string, cwd: string) =>
  runOk('qemu-io', [...commands.flatMap((each) => ['-c', each]), file], cwd);

/** The same files in both folders. */
async function prepare(make: (cwd: string) => Promise<unknown>): Promise<void> {
  await make(ours);
  await make(theirs);
}

/** One command line by both; ours as theirs prints it. Returns the status. */
async function both(line: string): Promise<number> {
  const expected = await run('qemu-img', ['resize', ...words(line)], theirs);
  const found = await qcow2('resize', ...words(line));
  expect([found.status, found.stdout]).toEqual([expected.status, expected.stdout]);
  expect(found.stderr).toBe(expected.stderr.replaceAll('qemu-img: ', 'qcow2: '));
  return found.status;
}

async function bytesOf(file: string, format: 'qcow2' | 'raw', cwd: string): Promise<Buffer> {
  await img(`convert -f ${format} -O raw ${file} ${file}.disk`, cwd);
  return fs.readFileSync(join(cwd, `${file}.disk`));
}

/** Ours is sound by both checks, and reads as theirs does; by both programs. */
async function same(file: string, format: 'qcow2' | 'raw' = 'qcow2'): Promise<void> {
  const [found, expected] = [
    await bytesOf(file, format, ours),
    await bytesOf(file, format, theirs),
  ];
  expect(found.length).toBe(expected.length);
  expect(found.equals(expected)).toBe(true);
  const image = await openImage(file, { format });
  const bytes = Buffer.alloc(image.virtualSize);
  await image.read(0, bytes);
  await image.close();
  expect(bytes.equals(expected)).toBe(true);
  if (format === 'raw') return;
  await img(`check -f qcow2 ${file}`, ours);
  expect(await qcow2('check', '-q', file)).toEqual({ status: 0, stdout: '', stderr: '' });
}

/** Indexes of the dirty granules of each bitmap of `a`. */
async function dirtyBits(cwd: string): Promise<Record<string, number[]>> {
  const image = await openImage(join(cwd, 'a'));
  const found: Record<string, number[]> = {};
  for (const entry of await image.bitmaps())
    found[entry.name.text] = [...(await dirtyGranules(image, entry))];
  await image.close();
  return found;
}

const DATA = ['write -P 1 0 300k', 'write -P 2 5M 1M', 'write -P 3 8M 2M'];

describe('resize does what qemu-img does', () => {
  it.each([
    ['plain', '-f qcow2 a 10M', ['a 20M', 'a +5M', '--shrink a -20M', 'a +0', 'a 40M']],
    [
      'L1 table that grows',
      '-f qcow2 -o cluster_size=512 a 10M',
      ['a 60M', '--shrink a 3M', 'a 20M'],
    ],
    [
      '64-bit counters',
      '-f qcow2 -o cluster_size=512,refcount_bits=64 a 10M',
      ['a 30M', '--shrink a 3M', 'a 12M'],
    ],
    [
      '2 MiB clusters',
      '-f qcow2 -o cluster_size=2M a 10M',
      ['a 33M', '--shrink a 7M', 'a 90M', '--shrink a 9M'],
    ],
    [
      'version 2',
      '-f qcow2 -o compat=0.10 a 10M',
      ['a 30M', '--shrink a 7M', 'a 100M', '--shrink a 20M'],
    ],
    [
      'subclusters',
      '-f qcow2 -o extended_l2=on,cluster_size=16k a 10M',
      ['a 60M', '--shrink a 5M', 'a 80M'],
    ],
    ['lazy refcounts', '-f qcow2 -o lazy_refcounts=on a 10M', ['a 60M', '--shrink a 5M', 'a 80M']],
    [
      'metadata',
      '-f qcow2 a 10M',
      ['--preallocation=metadata a 30M', '--shrink a 12M', '--preallocation metadata a +3M'],
    ],
    ['falloc', '-f qcow2 a 10M', ['--preallocation=falloc a 12M', '--preallocation=full a 13M']],
    [
      'preallocated before',
      '-f qcow2 -o preallocation=full a 10M',
      ['a 30M', '--shrink a 5M', '--preallocation=metadata a 20M'],
    ],
    [
      'data file',
      '-f qcow2 -o data_file=d a 10M',
      [
        'a 30M',
        '--shrink a 7M',
        '--preallocation=metadata a 12M',
        '--preallocation=falloc a 14M',
        '--preallocation=full a 15M',
      ],
    ],
    [
      'raw data file',
      '-f qcow2 -o data_file=d,data_file_raw=on a 10M',
      ['a 30M', '--shrink a 7M', '--preallocation=metadata a 12M', '--preallocation=full a 15M'],
    ],
  ])('%s', async (_, create, lines) => {
    await prepare(async (cwd) => {
      await img(`create -q ${create}`, cwd);
      await io(DATA, 'a', cwd);
    });
    for (const line of lines) {
      expect(await both(line)).toBe(0);
      await same('a');
      if (fs.existsSync('d'))
        expect(fs.statSync('d').size).toBe(fs.statSync(join(theirs, 'd')).size);
      // Both can go on with it, in the new part too.
      const size = (await bytesOf('a', 'qcow2', theirs)).length;
      await prepare((cwd) => io([`write -P ${size % 251} ${size - 70000} 70000`], 'a', cwd));
      await same('a');
    }
  });

  it.each([
    ['-f raw r 20M', '-f raw --shrink r 3M', '-f raw r +1000', '-q -f raw r +1000'],
    ['-f raw --preallocation=falloc r 12M', '-f raw --preallocation=full r +1M', '-f raw r 15M'],
    ['--image-opts driver=raw,file.filename=r +1M'],
  ])('raw: %s', async (...lines) => {
    await prepare((cwd) =>
      runOk('qemu-img', ['create', '-q', '-f', 'raw', 'r', '10M'], cwd).then(() =>
        runOk('qemu-io', ['-f', 'raw', ...DATA.flatMap((each) => ['-c', each]), 'r'], cwd),
      ),
    );
    for (const line of lines) {
      expect(await both(line)).toBe(0);
      await same('r', 'raw');
      expect(fs.statSync('r').size).toBe(fs.statSync(join(theirs, 'r')).size);
    }
  });

  it('keeps internal snapshots, and what they share', async () => {
    await prepare(async (cwd) => {
      await img('create -q -f qcow2 -o cluster_size=4k a 10M', cwd);
      await io(DATA, 'a', cwd);
      await img('snapshot -c s a', cwd);
    });
    for (const line of ['a 20M', '--shrink a 3M', 'a 7M', '--shrink a 6000128', 'a 30M']) {
      expect(await both(line)).toBe(0);
      await same('a');
    }
    await prepare((cwd) => img('snapshot -a s a', cwd));
    await same('a');
    await prepare((cwd) => img('snapshot -d s a', cwd));
    await same('a');
    expect(await both('a 20M')).toBe(0);
    await same('a');
  });

  it.each(['', '-o extended_l2=on ', '-o cluster_size=4k '])(
    'hides a backing file that is longer: %s',
    async (options) => {
      await prepare(async (cwd) => {
        await img('create -q -f raw base 20M', cwd);
        await runOk('qemu-io', ['-f', 'raw', '-c', 'write -P 7 0 20M', 'base'], cwd);
        await img(`create -q -f qcow2 -b base -F raw ${options}a 5000192`, cwd);
      });
      for (const line of [
        'a 9M',
        '--shrink a 3000320',
        'a 8000000',
        '--preallocation=metadata a 12M',
        'a 30M',
      ]) {
        expect(await both(line)).toBe(0);
        await same('a');
      }
    },
  );

  it('keeps persistent bitmaps', async () => {
    await prepare(async (cwd) => {
      await img('create -q -f qcow2 -o cluster_size=512 a 10M', cwd);
      await img('bitmap --add -g 512 a on', cwd);
      await img('bitmap --add -g 64k a coarse', cwd);
      await img('bitmap --add -g 512 a off', cwd);
      await io(['write 0 1k', 'write 5M 64k', 'write 9M 1M'], 'a', cwd);
      await img('bitmap --disable a off', cwd);
    });
    for (const line of ['a 30M', '--shrink a 5100032', 'a 12M', '--shrink a 1M']) {
      expect(await both(line)).toBe(0);
      await same('a');
      const details = async (cwd: string) =>
        JSON.parse((await img('info --output=json a', cwd)).stdout)['format-specific'];
      expect(await details(ours)).toEqual(await details(theirs));
      expect(await dirtyBits(ours)).toEqual(await dirtyBits(theirs));
    }
  });

  it('leaves nothing of what a shorter disk had', async () => {
    await img('create -q -f qcow2 a 10M', ours);
    await io(['write -P 1 0 10M'], 'a', ours);
    expect((await qcow2('resize', '--shrink', 'a', '5000192')).status).toBe(0);
    expect(fs.statSync('a').size).toBeLessThan(6 * MIB);
    expect((await qcow2('resize', 'a', '10M')).status).toBe(0);
    const bytes = await bytesOf('a', 'qcow2', ours);
    expect(bytes.subarray(0, 5000192).every((byte) => byte === 1)).toBe(true);
    expect(bytes.subarray(5000192).every((byte) => byte === 0)).toBe(true);
    await img('check a', ours);
  });

  it('stores zeros where version 2 has no other way to hide a backing file', async () => {
    await img('create -q -f raw base 6M', ours);
    await runOk('qemu-io', ['-f', 'raw', '-c', 'write -P 7 0 6M', 'base'], ours);
    await img('create -q -f qcow2 -o compat=0.10 -b base -F raw a 3000320', ours);
    expect((await qcow2('resize', 'a', '20M')).status).toBe(0);
    const bytes = await bytesOf('a', 'qcow2', ours);
    expect(bytes.subarray(0, 3000320).every((byte) => byte === 7)).toBe(true);
    expect(bytes.subarray(3000320).every((byte) => byte === 0)).toBe(true);
    await img('check a', ours);
  });
});

describe('resize refuses what qemu-img refuses', () => {
  it.each([
    'a 5M',
    'a -5M',
    '--shrink a -10M',
    '--shrink a -20M',
    'a 0',
    'a 9000P',
    'a 9E',
    'a 7E',
    'a +1000',
    '--shrink a -1000',
    'a +20E',
    '--preallocation=foo a 20M',
    '--preallocation=full a 10M',
    '--preallocation=full --shrink a 5M',
    '--preallocation=full a 5M',
    '-f raw --preallocation=metadata r 20M',
    '-f raw r 5M',
    'v2 20M',
    'v2 10M',
    '--shrink v2 5M',
    '--shrink a --preallocation=off -11M',
  ])('%s', async (line) => {
    await prepare(async (cwd) => {
      await img('create -q -f qcow2 a 10M', cwd);
      await img('create -q -f raw r 10M', cwd);
      await img('create -q -f qcow2 -o compat=0.10 v2 10M', cwd);
      await img('snapshot -c s v2', cwd);
    });
    const names = ['a', 'r', 'v2'];
    const before = names.map((name) => fs.readFileSync(name));
    expect(await both(line)).toBe(1);
    for (const [i, name] of names.entries())
      expect(fs.readFileSync(name).equals(before[i]!)).toBe(true);
  });

  it.each([
    [['a', 'x'], /^qcow2: Parameter 'size' expects a non-negative number below 2\^64; [^\n]*\n$/],
    [['a', '+'], /^qcow2: Parameter 'size' expects [^\n]*\n$/],
    [['a'], /^qcow2: missing operand, expected: FILE \[\+\|-\]SIZE/],
    [['nothere', '+1M'], /^qcow2: Could not open 'nothere': No such file or directory\n$/],
    [['--image-opts', '-f', 'raw', 'file.filename=a', '1M'], /-f exclude each other\n$/],
  ])('%j', async (argv, message) => {
    await img('create -q -f qcow2 a 10M', ours);
    const { status, stdout, stderr } = await qcow2('resize', ...argv);
    expect([status, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(message);
  });

  it('a bitmap that is inconsistent', async () => {
    await img('create -q -f qcow2 a 10M', ours);
    await img('bitmap --add a b0', ours);
    const bytes = fs.readFileSync('a');
    const at = Number(bytes.readBigUInt64BE(bytes.indexOf(Buffer.from('23852875', 'hex')) + 24));
    bytes[at + 15]! |= 1;
    fs.writeFileSync('a', bytes);
    const { status, stderr } = await qcow2('resize', 'a', '20M');
    expect(status).toBe(1);
    expect(stderr).toMatch(/^qcow2: Bitmap 'b0' is inconsistent and cannot be used; [^\n]*\n$/);
  });
});

describe('resize in the library', () => {
  it('is followed by the open image, which can be written on', async () => {
    await img('create -q -f qcow2 -o cluster_size=512 a 1M', ours);
    const image = await openImage('a', { writable: true });
    const data = new Uint8Array(100_000).fill(5);
    await image.write(MIB - data.length, data);
    await resize(image, 50 * MIB);
    expect([image.virtualSize, image.metadata?.virtualSize]).toEqual([50 * MIB, 50 * MIB]);
    await image.write(50 * MIB - data.length, data);
    await resize(image, 40 * MIB, { shrink: true });
    await expect(image.write(40 * MIB, data)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await expect(resize(image, MIB)).rejects.toMatchObject({ code: 'REFUSED' });
    await image.write(20 * MIB, data);
    await resize(image, 50 * MIB, { preallocation: 'metadata' });
    const end = new Uint8Array(data.length);
    await image.read(50 * MIB - data.length, end);
    expect(end.every((byte) => byte === 0)).toBe(true);
    await image.read(20 * MIB, end);
    expect(Buffer.compare(end, data)).toBe(0);
    await image.close();
    await img('check a', ours);
  });

  it('is taken back when it is aborted', async () => {
    await img('create -q -f qcow2 -o cluster_size=4k a 1M', ours);
    const image = await openImage('a', { writable: true });
    const signal = AbortSignal.abort();
    await expect(
      resize(image, 500 * MIB, { preallocation: 'metadata', signal }),
    ).rejects.toMatchObject({ code: 'ABORTED' });
    expect(image.virtualSize).toBe(MIB);
    await image.write(0, new Uint8Array(5000).fill(1));
    await image.close();
    await img('check a', ours);
  });

  it('needs an image that is open for writing', async () => {
    await img('create -q -f qcow2 a 1M', ours);
    const image = await openImage('a');
    await expect(resize(image, 2 * MIB)).rejects.toMatchObject({ code: 'READ_ONLY' });
    await image.close();
  });
});
