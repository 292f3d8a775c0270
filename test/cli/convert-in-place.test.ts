import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeContent } from '../support/data.ts';
import { run, runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { qcow2 } from './command.ts';

let dir: string;
const home = process.cwd();
const MIB = 1 << 20;

/** How each target is made: a line for qemu-img or, after `io`, a command for qemu-io. */
const TARGETS: Readonly<Record<string, readonly string[]>> = {
  empty: ['create -q -f qcow2 IMAGE 2M'],
  larger: ['create -q -f qcow2 IMAGE 5M', 'io write -P 7 0 5M'],
  small: ['create -q -f qcow2 -o cluster_size=512,refcount_bits=4 IMAGE 2M', 'io write 1M 64k'],
  large: ['create -q -f qcow2 -o cluster_size=2M IMAGE 3M', 'io write -P 7 0 3M'],
  old: ['create -q -f qcow2 -o compat=0.10 IMAGE 2M', 'io write -P 7 64k 1M'],
  extended: ['create -q -f qcow2 -o extended_l2=on IMAGE 2M', 'io write -P 7 1k 1M'],
  lazy: ['create -q -f qcow2 -o lazy_refcounts=on IMAGE 2M', 'io write -P 7 0 1M'],
  snapshots: [
    'create -q -f qcow2 IMAGE 3M',
    'io write -P 7 0 3M',
    'snapshot -c one IMAGE',
    'io write -P 8 1M 1M',
    'snapshot -c two IMAGE',
  ],
  bitmap: ['create -q -f qcow2 IMAGE 2M', 'bitmap --add IMAGE b0', 'io write 0 64k'],
  compressed: ['convert -c -O qcow2 other.raw IMAGE'],
  overlay: ['create -q -f qcow2 -b base.raw -F raw IMAGE', 'io write -P 7 64k 200k'],
  oldOverlay: ['create -q -f qcow2 -o compat=0.10 -b base.raw -F raw IMAGE', 'io write 0 64k'],
};

async function make(name: string, steps: readonly string[]): Promise<void> {
  for (const step of steps) {
    if (step.startsWith('io ')) await runOk('qemu-io', ['-c', step.slice(3), name], dir);
    else await runOk('qemu-img', step.replace('IMAGE', name).split(' '), dir);
  }
}

beforeAll(async () => {
  dir = makeTempDir('cli-in-place');
  process.chdir(dir);
  const source = makeContent('mixed', 2 * MIB, 71);
  source.fill(0, 700_000, 1_100_000);
  writeFileSync('source.raw', source);
  writeFileSync('short.raw', source.subarray(0, MIB + 1536));
  writeFileSync('other.raw', makeContent('text', 2 * MIB, 72));
  writeFileSync('base.raw', makeContent('random', 2 * MIB, 73));
  for (const [name, steps] of Object.entries(TARGETS)) await make(name, steps);
  const own = ['create -q -f qcow2 -b base.raw -F raw IMAGE', 'io write -P 9 1M 100k'];
  await make('above', own);
}, 60_000);
afterAll(() => {
  process.chdir(home);
  removeTempDir(dir);
});

async function facts(image: string): Promise<unknown> {
  const { stdout } = await runOk('qemu-img', ['info', '--output=json', image], dir);
  const info = JSON.parse(stdout) as Record<string, unknown>;
  for (const key of ['filename', 'actual-size', 'dirty-flag', 'children']) delete info[key];
  await runOk('qemu-img', ['check', '-q', image], dir);
  return info;
}

async function expectSameDisk(...snapshot: string[]): Promise<void> {
  for (const copy of ['ours', 'theirs'])
    await runOk('qemu-img', ['convert', ...snapshot, '-O', 'raw', copy, `${copy}.raw`], dir);
  await runOk('qemu-img', 'compare -f raw -F raw ours.raw theirs.raw'.split(' '), dir);
}

describe('convert -n leaves what qemu-img leaves', () => {
  const names = Object.keys(TARGETS);
  const lines = names.flatMap((target) => [
    [target, '-f raw source.raw'] as const,
    [target, '-f raw short.raw'] as const,
  ]);
  it.each([
    ...lines,
    ['empty', '-f raw --target-is-zero source.raw'],
    ['empty', '-f raw -S 0 source.raw'],
    ['empty', '-f raw -S 64k source.raw'],
    ['empty', '-f raw -c source.raw'],
    ['small', '-f qcow2 compressed'],
    ['overlay', '-f qcow2 above'],
    ['oldOverlay', '-f qcow2 above'],
    ['larger', '-f raw source.raw short.raw'],
  ] as const)('%s: %s', async (target, line) => {
    for (const copy of ['ours', 'theirs']) copyFileSync(join(dir, target), join(dir, copy));
    const args = ['convert', '-n', '-O', 'qcow2', ...line.split(' ')];
    await runOk('qemu-img', [...args, 'theirs'], dir);
    expect(await qcow2(...args, 'ours')).toEqual({ status: 0, stdout: '', stderr: '' });
    expect(await facts('ours')).toEqual(await facts('theirs'));
    await expectSameDisk();
    if (target === 'snapshots') for (const id of ['1', '2']) await expectSameDisk('-l', id);
  });
});

describe('convert -n does what qemu-img does not', () => {
  it.each(Object.keys(TARGETS))('compresses over what %s holds', async (target) => {
    for (const copy of ['ours', 'theirs']) copyFileSync(join(dir, target), join(dir, copy));
    // The same contents, not compressed: qemu-img fails where a cluster is taken.
    await runOk('qemu-img', 'convert -n -f raw -O qcow2 other.raw theirs'.split(' '), dir);
    for (const source of ['source.raw', 'other.raw'])
      expect(await qcow2(...`convert -n -c -f raw -O qcow2 ${source} ours`.split(' '))).toEqual({
        status: 0,
        stdout: '',
        stderr: '',
      });
    expect(await facts('ours')).toEqual(await facts('theirs'));
    await expectSameDisk();
    const { stdout } = await runOk('qemu-img', ['check', '--output=json', 'ours'], dir);
    const { 'compressed-clusters': compressed = 0 } = JSON.parse(stdout);
    expect(compressed).toBeGreaterThan(0);
    if (target === 'snapshots') for (const id of ['1', '2']) await expectSameDisk('-l', id);
  });

  it('writes with -B what the target has over its backing file', async () => {
    for (const [target, source] of [
      ['overlay', 'above'],
      ['oldOverlay', 'above'],
    ] as const) {
      copyFileSync(join(dir, target), join(dir, 'ours'));
      const args = `convert -n -B base.raw -F raw -O qcow2 ${source} ours`.split(' ');
      expect(await qcow2(...args)).toMatchObject({ status: 0, stderr: '' });
      await runOk('qemu-img', ['compare', source, 'ours'], dir);
      await runOk('qemu-img', ['check', '-q', 'ours'], dir);
      const { stdout } = await runOk('qemu-img', ['map', '--output=json', 'ours'], dir);
      const below = JSON.parse(stdout).some(({ depth }: { depth: number }) => depth === 1);
      expect(below).toBe(true);
    }
  });
});

describe('convert -n refuses', () => {
  it.each([
    ['empty', '-f raw -O qcow2 long.raw', /is smaller than the source/],
    ['empty', '-f raw -O qcow2 empty', /is both input and target/],
    ['base.raw', '-f raw -O qcow2 source.raw', /qcow2 magic|not in qcow2 format/],
    ['nowhere', '-f raw -O qcow2 source.raw', /Could not open 'nowhere'/],
  ] as const)('%s: %s', async (target, line, reason) => {
    writeFileSync('long.raw', new Uint8Array(3 * MIB).fill(1));
    const args = ['convert', '-n', ...line.split(' '), target];
    expect((await run('qemu-img', args, dir)).status).toBe(1);
    const ours = await qcow2(...args);
    expect(ours).toMatchObject({ status: 1, stdout: '' });
    expect(ours.stderr).toMatch(reason);
  });

  it('a source that reads from the target, and bitmaps it has already', async () => {
    await make('inside', ['create -q -f qcow2 -b empty -F qcow2 IMAGE']);
    const inside = await qcow2(...'convert -n -O qcow2 inside empty'.split(' '));
    expect(inside).toMatchObject({ status: 1 });
    expect(inside.stderr).toContain('is both input and target');
    copyFileSync(join(dir, 'bitmap'), join(dir, 'ours'));
    const line = 'convert -n --bitmaps -O qcow2 bitmap ours';
    const again = await qcow2(...line.split(' '));
    const theirs = await run('qemu-img', line.split(' '), dir);
    expect([again.status, theirs.status]).toEqual([1, 1]);
    expect(again.stderr).toBe(theirs.stderr.replace('qemu-img', 'qcow2'));
  });
});
