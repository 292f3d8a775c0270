import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeContent } from '../support/data.ts';
import { run, runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { qcow2 } from './command.ts';

let dir: string;
const home = process.cwd();

beforeAll(async () => {
  dir = makeTempDir('dd');
  process.chdir(dir);
  writeFileSync('odd.raw', makeContent('random', 3_000));
  writeFileSync('big.raw', makeContent('mixed', 16 << 20));
  await runOk('qemu-img', ['convert', '-c', '-O', 'qcow2', 'big.raw', 'packed'], dir);
  await runOk('qemu-img', ['create', '-q', '-f', 'qcow2', 'base', '3M'], dir);
  await runOk('qemu-io', ['-c', 'write -P 1 0 1M', '-c', 'write -P 2 2M 100k', 'base'], dir);
  await runOk('qemu-img', 'create -q -f qcow2 -b base -F qcow2 top'.split(' '), dir);
  await runOk('qemu-io', ['-c', 'write -P 3 70000 64k', 'top'], dir);
}, 30_000);
afterAll(() => {
  process.chdir(home);
  removeTempDir(dir);
});

/** Both programs with the same line; what they made is in `theirs` and `ours`. */
async function both(line: string) {
  for (const name of ['theirs', 'ours']) rmSync(join(dir, name), { force: true });
  const args = line.split(' ').map((word) => word.replaceAll('_', ' '));
  const theirs = await run('qemu-img', ['dd', ...args, 'of=theirs'], dir);
  const ours = await qcow2('dd', ...args, 'of=ours');
  return { theirs, ours };
}

/** What qemu-img says, as one line of ours. */
const asOurs = (text: string) =>
  text && `${text.replaceAll('\nqemu-img:', '').replace('qemu-img', 'qcow2').trimEnd()}\n`;

describe('dd to raw makes what qemu-img makes', () => {
  it.each([
    'if=top',
    'bs=1M count=2 if=top',
    'bs=1000 count=3 if=top',
    'bs=1000 skip=2 if=top',
    'bs=1000 skip=131 count=700 if=top',
    'bs=1k count=1.5k if=top',
    'bs=0x200 count=0x10 if=top',
    'bs=_512 skip=0 if=top',
    'bs=512 bs=64k count=2 if=top',
    'bs=1M skip=3 if=top',
    'bs=1M skip=2 count=2 if=top',
    'count=0 if=top',
    'count=9223372036854775807 if=top',
    'bs=2147483647 if=top',
    '-f qcow2 bs=1M skip=1 if=top',
    '-f raw -O raw bs=100 skip=3 if=top',
    '-f raw if=odd.raw',
    '-f raw bs=1000 count=2 if=odd.raw',
    '-f raw bs=1000 skip=3 if=odd.raw',
    '-U if=top',
    '--image-opts if=driver=qcow2,file.filename=top bs=1M skip=1',
    'bs=777 skip=5000 count=25000 if=packed',
  ])('%s', async (line) => {
    const { theirs, ours } = await both(line);
    expect([theirs.status, theirs.stderr]).toEqual([0, '']);
    expect(ours).toEqual({ status: 0, stdout: '', stderr: '' });
    expect(readFileSync('ours').equals(readFileSync('theirs'))).toBe(true);
    expect(statSync('ours').blocks).toBe(statSync('theirs').blocks);
  });

  it.each(['bs=1M skip=4 if=top', 'skip=7E if=top', 'bs=1M skip=2 count=1 if=top'])(
    '%s, with a warning',
    async (line) => {
      const { theirs, ours } = await both(line);
      expect(ours).toEqual({ status: 0, stdout: '', stderr: asOurs(theirs.stderr) });
      expect(ours.stderr).toContain('cannot skip to specified offset');
      expect([statSync('ours').size, statSync('theirs').size]).toEqual([0, 0]);
    },
  );
});

describe('dd to qcow2', () => {
  it.each(['if=top', 'bs=1000 count=3 if=top', 'bs=3000 skip=33 if=top', 'bs=1M skip=1 if=packed'])(
    '-O qcow2 %s',
    async (line) => {
      const { theirs, ours } = await both(`-O qcow2 ${line}`);
      expect([theirs.status, theirs.stderr]).toEqual([0, '']);
      expect(ours).toEqual({ status: 0, stdout: '', stderr: '' });
      await runOk('qemu-img', ['check', 'ours'], dir);
      await runOk('qemu-img', ['compare', '-s', 'ours', 'theirs'], dir);
    },
  );
});

describe('dd refuses', () => {
  it.each([
    'if=top foo=b',
    'if=top foo',
    'if=top =foo',
    'if=top isize=3',
    'if=top bs=0',
    'if=top bs=-1',
    'if=top bs=4G',
    'if=top bs=2G',
    'if=top bs=3x',
    'if=top bs=',
    'if=top bs=1.5',
    'if=top bs=.5k',
    'if=top count=x',
    'if=top count=8E',
    'if=top skip=-1',
    'if=top skip=400000000T',
    'bs=1M',
  ])('%s in the words of qemu-img', async (line) => {
    const { theirs, ours } = await both(line);
    expect(theirs.status).toBe(1);
    expect(ours).toEqual({ status: 1, stdout: '', stderr: asOurs(theirs.stderr) });
    expect(existsSync('ours')).toBe(false);
  });

  it.each([
    [['dd'], /^qcow2: Must specify both input and output files\n$/],
    [['dd', 'if=top'], /^qcow2: Must specify both input and output files\n$/],
    [['dd', 'if=nothere', 'of=new'], /^qcow2: Could not open 'nothere': [^\n]+\n$/],
    [['dd', 'if=top', 'of=nodir/new'], /^qcow2: Could not create 'nodir\/new': [^\n]+\n$/],
    [['dd', 'if=top', 'of=top'], /^qcow2: 'top' is both input and target\n$/],
    [['dd', '-O', 'vmdk', 'if=top', 'of=new'], /^qcow2: unknown format 'vmdk'/],
    [['dd', '--image-opts', '-f', 'raw', 'if=top', 'of=new'], /exclude each other\n$/],
    [['dd', '-q', 'if=top', 'of=new'], /^qcow2: unrecognized option '-q'/],
  ])('%j', async (argv, message) => {
    const { status, stdout, stderr } = await qcow2(...argv);
    expect([status, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(message);
    expect(existsSync('new')).toBe(false);
  });
});
