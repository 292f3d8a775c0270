import { copyFileSync, readFileSync, rmSync } from 'node:fs';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openImage } from '../../src/node/open-image.ts';
import { dirtyGranules } from '../crash/bitmaps.ts';
import { leaveInUse } from '../support/bitmaps.ts';
import { run, runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { qcow2 } from './command.ts';

let dir: string;
const home = process.cwd();
const qemuImg = (...args: string[]) => runOk('qemu-img', args, dir);
const qemuIo = (image: string, ...commands: string[]) =>
  runOk('qemu-io', [...commands.flatMap((each) => ['-c', each]), image], dir);

/** A word of command lines that stands for a name of 1023 bytes. */
const LONG = 'n'.repeat(1023);
const WRITES = ['write -P 3 1M 70k', 'write -P 4 9M 1k', 'write -P 5 10485248 512'];

const IMAGES: Readonly<Record<string, readonly string[]>> = {
  plain: ['create -q -f qcow2 IMAGE 10M'],
  some: [
    'create -q -f qcow2 IMAGE 10M',
    'bitmap --add IMAGE a',
    'bitmap --add -g 512 IMAGE fine',
    'bitmap --add -g 2M IMAGE coarse',
    'bitmap --add --disable -g 4k IMAGE off',
  ],
  small: [
    'create -q -f qcow2 -o cluster_size=512,refcount_bits=64 IMAGE 10M',
    'bitmap --add IMAGE a',
    'bitmap --add -g 512 IMAGE fine',
    'bitmap --add -g 64k IMAGE coarse',
  ],
  overlay: ['create -q -f qcow2 -b plain -F qcow2 IMAGE', 'bitmap --add -g 8k IMAGE a'],
  large: ['create -q -f qcow2 -o cluster_size=2M,extended_l2=on IMAGE 10M'],
  outside: ['create -q -f qcow2 -o data_file=outside.data IMAGE 10M', 'bitmap --add IMAGE a'],
  lazy: ['create -q -f qcow2 -o lazy_refcounts=on IMAGE 10M', 'bitmap --add IMAGE a'],
  shorter: ['create -q -f qcow2 IMAGE 8M', 'bitmap --add IMAGE a'],
  huge: ['create -q -f qcow2 IMAGE 257T'],
  old: ['create -q -f qcow2 -o compat=0.10 IMAGE 10M'],
  raw: ['create -q -f raw IMAGE 10M'],
};

beforeAll(async () => {
  dir = makeTempDir('cli-bitmap');
  process.chdir(dir);
  for (const [name, steps] of Object.entries(IMAGES)) {
    for (const step of steps) await qemuImg(...step.replace('IMAGE', name).split(' '));
    if (['some', 'small', 'overlay', 'outside', 'lazy'].includes(name))
      await qemuIo(name, ...WRITES);
  }
  copyFileSync('some', 'broken');
  await leaveInUse('broken', dir);
  await qemuImg('bitmap', '--add', 'broken', 'sound');
}, 60_000);
afterAll(() => {
  process.chdir(home);
  removeTempDir(dir);
});

/** What qemu-img lists of the bitmaps of an image, and the bits of each as we decode them. */
async function bitmapsOf(path: string): Promise<unknown[]> {
  const { stdout } = await qemuImg('info', '-U', '--output=json', path);
  const listed = JSON.parse(stdout)['format-specific']?.data?.bitmaps ?? [];
  const image = await openImage(path);
  const bits: number[][] = [];
  for (const entry of await image.bitmaps())
    bits.push([...(await dirtyGranules(image, entry))].sort((a, b) => a - b));
  await image.close();
  return [listed, bits];
}

interface Result {
  status: number;
  stdout: string;
  stderr: string;
}

/** Runs command lines with both programs, each on a copy of an image that has the same name. */
async function both(image: string, lines: readonly string[]) {
  const done = async (work: (args: string[]) => Promise<Result>) => {
    copyFileSync(image, 'copy');
    const results: Result[] = [];
    for (const line of lines) {
      const { status, stdout, stderr } = await work(
        line
          .split(' ')
          .map((word) => word.replace('IMAGE', 'copy').replace('LONG', LONG).replace("''", '')),
      );
      results.push({ status, stdout, stderr });
    }
    return { results, bitmaps: image === 'raw' ? [] : await bitmapsOf('copy') };
  };
  const theirs = await done((args) => run('qemu-img', ['bitmap', ...args], dir));
  const ours = await done((args) => qcow2('bitmap', ...args));
  if (image !== 'raw') {
    await qemuImg('check', '-q', 'copy');
    expect((await qcow2('check', '-q', 'copy')).status).toBe(0);
    if (image !== 'huge') await qemuImg('compare', '-q', image, 'copy');
  }
  return { theirs, ours };
}

describe('bitmap does what qemu-img does', () => {
  it.each<[image: string, ...lines: string[]]>([
    ['plain', '--add IMAGE x'],
    ['plain', '--add -g 512 IMAGE x', '--add -g 2G IMAGE y', '-g 0 --add IMAGE z'],
    ['plain', '--add --disable IMAGE x', '--enable IMAGE x', '--disable IMAGE x'],
    ['plain', '--add IMAGE LONG', '--add IMAGE ünï', '--remove IMAGE LONG'],
    ['plain', '--add --remove IMAGE x'],
    ['plain', '--add IMAGE x', '--remove --add -g 4k IMAGE x', '--remove IMAGE x'],
    ['plain', '-f qcow2 --add IMAGE -- x'],
    ['plain', '--image-opts --add driver=qcow2,file.filename=copy x'],
    ['large', '--add IMAGE x', '--add IMAGE y', '--remove IMAGE x'],
    ['some', '--remove IMAGE a', '--add IMAGE a'],
    ['some', '--clear IMAGE a', '--clear IMAGE fine', '--clear IMAGE off'],
    ['some', '--merge fine IMAGE a', '--merge a IMAGE fine', '--merge fine IMAGE coarse'],
    ['some', '--merge fine IMAGE off', '--merge coarse IMAGE fine', '--merge off IMAGE off'],
    ['some', '--add -g 512 --disable --merge fine IMAGE copy', '--clear IMAGE fine'],
    ['some', '--clear --merge coarse --disable --merge fine IMAGE a'],
    ['some', '-b small --merge fine IMAGE off', '-F qcow2 -b small --merge a IMAGE off'],
    ['some', '--remove IMAGE a', '--remove IMAGE fine', '--remove IMAGE coarse'],
    ['small', '--merge fine IMAGE coarse', '--merge coarse IMAGE fine', '--add -g 1k IMAGE n'],
    ['small', '-b some --merge coarse IMAGE a', '-b some --merge fine IMAGE fine'],
    ['small', '--remove IMAGE a', '--remove IMAGE fine', '--remove IMAGE coarse', '--add IMAGE b'],
    ['overlay', '--add IMAGE x', '--merge a IMAGE x', '--clear IMAGE a'],
    ['outside', '--add IMAGE x', '--merge a IMAGE x', '--disable IMAGE a'],
    ['lazy', '--add IMAGE x', '--merge a IMAGE x', '--disable IMAGE a', '--remove IMAGE a'],
    ['broken', '--remove IMAGE a', '--remove IMAGE fine', '--clear IMAGE sound'],
    ['broken', '--remove --add IMAGE off', '--add IMAGE more'],
  ])('%s: %s', async (image, ...lines) => {
    const { theirs, ours } = await both(image, lines.filter(Boolean));
    for (const result of [...theirs.results, ...ours.results])
      expect(result).toEqual({ status: 0, stdout: '', stderr: '' });
    expect(ours.bitmaps).toEqual(theirs.bitmaps);
  });

  it.each<[image: string, line: string]>([
    ['plain', 'IMAGE x'],
    ['plain', '-g 4k --clear IMAGE x'],
    ['plain', '-g abc --add IMAGE x'],
    ['plain', '-g -1 --add IMAGE x'],
    ['plain', '-g 500 --add IMAGE x'],
    ['plain', '-g 256 --add IMAGE x'],
    ['plain', '-g 3k --add IMAGE x'],
    ['plain', "--add IMAGE ''"],
    ['plain', '--add IMAGE LONGx'],
    ['plain', '--remove IMAGE x'],
    ['plain', '--clear IMAGE x'],
    ['plain', '--merge x IMAGE y'],
    ['plain', '-F qcow2 --merge x IMAGE y'],
    ['plain', '-b some --add IMAGE y'],
    ['some', '--add IMAGE a'],
    ['some', '-g 500 --add IMAGE a'],
    ['some', '--merge nothing IMAGE a'],
    ['some', '--clear --merge fine --add IMAGE a'],
    ['some', '--remove --clear IMAGE a'],
    ['some', '-b plain --merge a IMAGE a'],
    ['some', '-b raw -F raw --merge a IMAGE a'],
    ['some', '-b old --merge a IMAGE a'],
    ['some', '-b shorter --merge a IMAGE a'],
    ['some', '-b broken --merge off IMAGE a'],
    ['broken', '--clear IMAGE a'],
    ['broken', '--enable IMAGE a'],
    ['broken', '--disable IMAGE off'],
    ['broken', '--merge sound IMAGE a'],
    ['broken', '--merge a IMAGE sound'],
    ['broken', '--add IMAGE a'],
    ['huge', '--add IMAGE x'],
    ['old', '--add IMAGE x'],
    ['old', '--remove IMAGE x'],
    ['raw', '-f raw --add IMAGE x'],
    ['raw', '-f raw --remove IMAGE x'],
    ['raw', '-f raw --merge x IMAGE y'],
  ])('%s: %s: an error', async (image, line) => {
    const { theirs, ours } = await both(image, [line]);
    const [their, our] = [theirs.results[0]!, ours.results[0]!];
    expect([our.status, our.stdout]).toEqual([1, '']);
    expect([their.status, their.stdout]).toEqual([1, '']);
    const [words = ''] = their.stderr.replaceAll('qemu-img: ', 'qcow2: ').split('\n');
    expect(our.stderr.split('\n')).toHaveLength(2);
    expect(our.stderr.startsWith(words.replace(/'?#block\d+'?/, "'copy'")), our.stderr).toBe(true);
    expect(ours.bitmaps).toEqual(theirs.bitmaps);
  });

  it('refuses operands that are missing or too many, and other wrong lines', async () => {
    for (const line of [
      '',
      '--add',
      '--add plain',
      '--add plain x y',
      '-q --add plain x',
      '-b nofile --merge x plain y',
      '--image-opts -f qcow2 --add driver=qcow2,file.filename=plain x',
    ]) {
      const words = ['bitmap', ...line.split(' ').filter(Boolean)];
      expect((await run('qemu-img', words, dir)).status).toBe(1);
      expect((await qcow2(...words)).status, line).toBe(1);
    }
  });

  it('the image itself cannot be the other image', async () => {
    const { status, stderr } = await qcow2(...'bitmap -b some --merge a some fine'.split(' '));
    expect([status, stderr.split('\n').length]).toEqual([1, 2]);
  });
});

/** What is done to an image between two looks at its bitmaps. */
type Step =
  | { do: 'bitmap'; action: string; name: string; other: string; granularity: number }
  | { do: 'write'; at: number; length: number };

const NAMES = ['a', 'b', 'c'];
const stepArbitrary: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    do: fc.constant('bitmap' as const),
    action: fc.constantFrom('add', 'add', 'remove', 'clear', 'enable', 'disable', 'merge', 'merge'),
    name: fc.constantFrom(...NAMES),
    other: fc.constantFrom(...NAMES),
    granularity: fc.integer({ min: 9, max: 22 }).map((bits) => 2 ** bits),
  }),
  fc
    .record({ sector: fc.nat(20_000), count: fc.integer({ min: 1, max: 900 }) })
    .map(({ sector, count }) => ({ do: 'write' as const, at: sector * 512, length: count * 512 })),
);

describe('sequences of actions and writes', () => {
  it.each(['cluster_size=512,refcount_bits=64', 'cluster_size=4k', 'cluster_size=64k'])(
    '%s: both programs leave the same bitmaps, whoever goes on',
    async (options) => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(stepArbitrary, { minLength: 4, maxLength: 12 }),
          async (steps) => {
            for (const name of ['theirs', 'ours']) {
              rmSync(name, { force: true });
              await qemuImg(...`create -q -f qcow2 -o ${options} ${name} 11111k`.split(' '));
            }
            for (const [index, step] of steps.entries()) {
              if (step.do === 'bitmap') {
                const { action, name, other, granularity } = step;
                const words = ['bitmap', `--${action}`];
                if (action === 'merge') words.push(other);
                if (action === 'add') words.push('-g', `${granularity}`);
                const their = await run('qemu-img', [...words, 'theirs', name], dir);
                // Ours goes on with what the other left, and it with ours.
                const our = await qcow2(...words, 'ours', name);
                expect(our.status, our.stderr).toBe(their.status);
              } else {
                const command = `write -q -P 7 ${step.at} ${step.length}`;
                await qemuIo('theirs', command);
                if (index % 3 === 0) await qemuIo('ours', command);
                else {
                  const image = await openImage('ours', { writable: true });
                  await image.write(step.at, new Uint8Array(step.length).fill(7));
                  await image.close();
                }
              }
            }
            expect(await bitmapsOf('ours')).toEqual(await bitmapsOf('theirs'));
            await qemuImg('check', '-q', 'ours');
            expect((await qcow2('check', '-q', 'ours')).status).toBe(0);
            await qemuImg('compare', '-q', 'ours', 'theirs');
          },
        ),
        { numRuns: 8, seed: 7 },
      );
    },
  );
});

it('a header with a long backing name keeps it', async () => {
  const name = `${'b'.repeat(250)}`;
  await qemuImg('create', '-q', '-f', 'raw', name, '1M');
  const names = ['1k', '4k', '64k'].map((size) => [size, `over-${size}`] as const);
  for (const [size, file] of names) {
    const create = ['create', '-q', '-f', 'qcow2', '-o', `cluster_size=${size}`];
    await qemuImg(...create, '-b', `./${'./'.repeat(50)}${name}`, '-F', 'raw', file);
    expect(await qcow2('bitmap', '--add', file, 'x')).toMatchObject({ status: 0, stderr: '' });
    const { stdout } = await qemuImg('info', '--output=json', file);
    const info = JSON.parse(stdout);
    expect(info['backing-filename']).toBe(`./${'./'.repeat(50)}${name}`);
    expect(info['format-specific'].data.bitmaps).toHaveLength(1);
    expect(readFileSync(file).readUint32BE(100)).toBe(112);
    await qemuImg('check', '-q', file);
  }
});
