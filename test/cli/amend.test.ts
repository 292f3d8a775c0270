import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeContent } from '../support/data.ts';
import { run, runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { qcow2 } from './command.ts';

let dir: string;
const home = process.cwd();

/** How each image is made: a line for qemu-img or, after `io`, commands for qemu-io. */
const IMAGES: Readonly<Record<string, readonly string[]>> = {
  plain: ['convert -O qcow2 mixed.raw IMAGE'],
  small: ['convert -O qcow2 -o cluster_size=512 mixed.raw IMAGE'],
  old: ['convert -O qcow2 -o compat=0.10 mixed.raw IMAGE'],
  oldSnapshots: ['convert -O qcow2 -o compat=0.10 mixed.raw IMAGE', 'snapshot -c one IMAGE'],
  compressed: ['convert -c -O qcow2 -o cluster_size=4k mixed.raw IMAGE'],
  zstd: ['convert -c -O qcow2 -o compression_type=zstd mixed.raw IMAGE'],
  zstdUnused: ['convert -O qcow2 -o compression_type=zstd mixed.raw IMAGE'],
  zeros: ['convert -O qcow2 mixed.raw IMAGE', 'io write -z 0 300k', 'io write -zu 512k 200k'],
  overlay: [
    'create -q -f qcow2 -b mixed.raw -F raw IMAGE',
    'io write -z 0 300k',
    'io write -zu 512k 200k',
    'io write 128k 64k',
  ],
  overlaySnapshot: [
    'create -q -f qcow2 -b mixed.raw -F raw IMAGE',
    'io write 0 64k',
    'io write -zu 512k 200k',
    'snapshot -c one IMAGE',
    'io write -zu 256k 100k',
  ],
  snapshots: [
    'convert -O qcow2 mixed.raw IMAGE',
    'snapshot -c one IMAGE',
    'snapshot -c two IMAGE',
    'io write 0 128k',
  ],
  otherSize: ['create -q -f qcow2 IMAGE 1M', 'snapshot -c one IMAGE', 'resize -q IMAGE 2M'],
  extended: ['convert -O qcow2 -o extended_l2=on mixed.raw IMAGE'],
  bits8: ['convert -O qcow2 -o refcount_bits=8 mixed.raw IMAGE'],
  lazy: ['convert -O qcow2 -o lazy_refcounts=on mixed.raw IMAGE'],
  outside: ['create -q -f qcow2 -o data_file=outside.data IMAGE 1M'],
  outsideRaw: ['create -q -f qcow2 -o data_file=raw.data,data_file_raw=on IMAGE 1M'],
  bitmap: ['create -q -f qcow2 IMAGE 1M', 'bitmap --add IMAGE b0'],
};

beforeAll(async () => {
  dir = makeTempDir('cli-amend');
  process.chdir(dir);
  writeFileSync('mixed.raw', makeContent('mixed', 1 << 20, 61));
  for (const [name, steps] of Object.entries(IMAGES))
    for (const step of steps) {
      if (step.startsWith('io ')) await runOk('qemu-io', ['-c', step.slice(3), name], dir);
      else await runOk('qemu-img', step.replace('IMAGE', name).split(' '), dir);
    }
}, 60_000);
afterAll(() => {
  process.chdir(home);
  removeTempDir(dir);
});

/** What qemu-img says of an image, but for what a copy of a file differs in. */
async function facts(image: string): Promise<unknown> {
  const { stdout } = await runOk('qemu-img', ['info', '--output=json', image], dir);
  const info = JSON.parse(stdout) as Record<string, unknown>;
  for (const key of ['filename', 'actual-size', 'dirty-flag', 'children']) delete info[key];
  const { status } = await run('qemu-img', ['check', '-q', image], dir);
  return { info, status };
}

/** Both programs on copies of an image. */
async function both(image: string, words: readonly string[]) {
  for (const copy of ['ours', 'theirs']) copyFileSync(join(dir, image), join(dir, copy));
  const theirs = await run('qemu-img', ['amend', '-f', 'qcow2', ...words, 'theirs'], dir);
  const ours = await qcow2('amend', '-f', 'qcow2', ...words, 'ours');
  return { theirs, ours };
}

const DONE: readonly (readonly [image: string, options: string])[] = [
  ['plain', 'compat=0.10'],
  ['plain', 'compat=v3'],
  ['plain', 'lazy_refcounts=on'],
  ['plain', 'size=2M'],
  ['plain', 'size=512k'],
  ['plain', 'size=0'],
  ['plain', 'size=8M,size=3M'],
  ['plain', 'data_file_raw=off'],
  ...[1, 2, 4, 8, 16, 32, 64].map((bits) => ['small', `refcount_bits=${bits}`] as const),
  ['small', 'compat=0.10'],
  ['old', 'compat=1.1'],
  ['old', 'compat=1.1,lazy_refcounts,refcount_bits=1,size=2M'],
  ['old', 'refcount_bits=16'],
  ['oldSnapshots', 'compat=1.1'],
  ['oldSnapshots', 'compat=1.1,size=2M'],
  ['compressed', 'refcount_bits=64'],
  ['compressed', 'compat=v2'],
  ['zstdUnused', 'compat=v2'],
  ['zeros', 'compat=0.10'],
  ['overlay', 'compat=0.10'],
  ['overlay', 'backing_file=mixed.raw,backing_fmt=raw'],
  ['overlaySnapshot', 'compat=0.10'],
  ['snapshots', 'compat=0.10'],
  ['snapshots', 'refcount_bits=2'],
  ['snapshots', 'size=3M'],
  ['bits8', 'compat=0.10,refcount_bits=16'],
  ['lazy', 'compat=0.10'],
  ['lazy', 'lazy_refcounts=off'],
  ['outside', 'data_file=./outside.data'],
  ['outside', 'refcount_bits=64'],
  ['outsideRaw', 'data_file_raw=off'],
  ['outsideRaw', 'data_file_raw=on'],
  ['bitmap', 'refcount_bits=1'],
  ['bitmap', 'size=2M,lazy_refcounts=on'],
];

describe('amend as qemu-img does', () => {
  it.each(DONE)('%s: %s', async (image, options) => {
    const { ours, theirs } = await both(image, ['-o', options]);
    expect(ours).toEqual({ status: theirs.status, stdout: '', stderr: '' });
    expect(await facts('ours')).toEqual(await facts('theirs'));
    await runOk('qemu-img', ['compare', '-f', 'qcow2', 'ours', 'theirs'], dir);
    const { stdout } = await runOk('qemu-img', ['snapshot', '-l', 'ours'], dir);
    for (const [, id] of stdout.matchAll(/^(\d+) /gm)) {
      const names = ['ours', 'theirs'].map((copy) => `${copy}.raw`);
      for (const copy of ['ours', 'theirs'])
        await runOk('qemu-img', ['convert', '-l', id!, '-O', 'raw', copy, `${copy}.raw`], dir);
      await runOk('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', ...names], dir);
    }
  });
});

const REFUSED: readonly (readonly [image: string, options: string])[] = [
  ['plain', 'cluster_size=64k'],
  ['plain', 'preallocation=off'],
  ['plain', 'extended_l2=on'],
  ['plain', 'nonsense=1'],
  ['plain', 'refcount_bits=3'],
  ['plain', 'refcount_bits=128'],
  ['plain', 'refcount_bits=x'],
  ['plain', 'compat=2'],
  ['plain', 'data_file=foo'],
  ['plain', 'data_file_raw=on'],
  ['plain', 'size=5'],
  ['plain', 'size=-5'],
  ['plain', 'backing_file=mixed.raw'],
  ['plain', 'compat=0.10,lazy_refcounts=on'],
  ['plain', 'compat=0.10,refcount_bits=8'],
  ['overlay', 'backing_fmt=raw'],
  ['overlay', 'backing_file='],
  ['old', 'lazy_refcounts=on'],
  ['old', 'refcount_bits=8'],
  ['old', 'compat=1.1,refcount_bits=3'],
  ['oldSnapshots', 'size=2M'],
  ['zstd', 'compat=0.10'],
  ['extended', 'compat=0.10'],
  ['bits8', 'compat=0.10'],
  ['otherSize', 'compat=0.10'],
  ['snapshots', 'refcount_bits=1'],
  ['outside', 'compat=0.10'],
  ['outside', 'data_file_raw=on'],
];

describe('amend refuses what qemu-img refuses, and leaves the image', () => {
  it.each(REFUSED)('%s: %s', async (image, options) => {
    const { ours, theirs } = await both(image, ['-o', options]);
    expect(ours).toMatchObject({ status: theirs.status, stdout: '' });
    const [reason = ''] = theirs.stderr.replace(/^qemu-img: /, '').split('\n');
    // A counter that is too high is any of those.
    const said = reason.replace(/: Cluster at offset.*/, '');
    expect(ours.stderr).toMatch(/^qcow2: [^\n]*\n$/);
    expect(ours.stderr).toContain(said);
    expect(await facts('ours')).toEqual(await facts(image));
  });

  it('a line without options, a raw image, an unknown cache mode', async () => {
    const lines: readonly (readonly [string, RegExp])[] = [
      ['plain', /Must specify options \(-o\)/],
      ['-f raw -o compat=v3 mixed.raw', /Format driver 'raw' does not support option amendment/],
      ['-t foo -o compat=v3 plain', /-t must be/],
      ['-o compat=v3 nowhere', /No such file/i],
    ];
    for (const [line, reason] of lines) {
      const ours = await qcow2('amend', ...line.split(' '));
      expect(ours.status).toBe(1);
      expect(ours.stderr).toMatch(reason);
    }
  });

  it('bitmaps, which a downgrade would lose', async () => {
    const ours = await qcow2('amend', '-o', 'compat=0.10', 'bitmap');
    expect(ours.stderr).toContain('bitmaps, which would be lost');
  });
});

it('-p shows progress, -q does not, -o help lists the options', async () => {
  copyFileSync('plain', 'copy');
  const shown = await qcow2('amend', '-p', '-o', 'refcount_bits=64', 'copy');
  expect(shown.stdout).toMatch(/^ {4}\(0\.00\/100%\)\r.*\(100\.00\/100%\)\r\n$/s);
  expect(await qcow2('amend', '-pq', '-o', 'refcount_bits=16', 'copy')).toMatchObject({
    status: 0,
    stdout: '',
  });
  const help = await qcow2('amend', '-o', 'help', 'copy');
  expect(help.stdout).toMatch(/^Amend options for 'qcow2':\n {2}backing_file=<str>/);
});
