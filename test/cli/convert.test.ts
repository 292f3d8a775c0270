import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { qcow2 } from './command.ts';

let dir: string;
const home = process.cwd();
const qemuImg = async (...args: string[]) => (await runOk('qemu-img', args, dir)).stdout;
const write = (image: string, ...commands: string[]) =>
  runOk('qemu-io', [...commands.flatMap((command) => ['-c', command]), image], dir);

beforeAll(async () => {
  dir = makeTempDir('convert');
  process.chdir(dir);
  const create = (...args: string[]) => qemuImg('create', '-q', '-f', 'qcow2', ...args);
  await create('base', '4M');
  await write('base', 'write -P 1 0 1M', 'write -P 2 3M 64k');
  await create('-b', 'base', '-F', 'qcow2', 'top');
  await write('top', 'write -P 3 64k 64k');
  await create('kept', '1M');
  await write('kept', 'write -P 4 0 64k');
  await qemuImg('snapshot', '-c', 'before', 'kept');
  await write('kept', 'write -P 5 0 64k');
}, 30_000);
afterAll(() => {
  process.chdir(home);
  removeTempDir(dir);
});

const bytesOf = (name: string) => readFileSync(join(dir, name));
const SILENT = { status: 0, stdout: '', stderr: '' };

describe('convert', () => {
  it.each(
    [
      '-O raw top out',
      'top out',
      '-f qcow2 -O raw -S 0 -W -m 2 -t none -T none -r 1G -U top out',
      'base top out',
      '-l before kept out',
      '-l 1 kept out',
      '-l snapshot.id=1,snapshot.name=before kept out',
      '-O qcow2 -c top out',
      '-O qcow2 -o cluster_size=4k,compression_type=zstd -c top out',
      '-O qcow2 -o size=1M top out',
      '-O qcow2 -B base -F qcow2 top out',
    ].map((line) => line.split(' ')),
  )('%s %s %s %s %s %s', async (...args) => {
    const given = ['convert', ...args.filter((arg) => arg !== undefined)];
    await qemuImg(...given.slice(0, -1), 'expected');
    expect(await qcow2(...given)).toEqual(SILENT);
    const format =
      given.includes('qcow2') && given.includes('-O') && !given.includes('raw') ? 'qcow2' : 'raw';
    await qemuImg('compare', '-s', '-f', format, '-F', format, 'expected', 'out');
  });

  it('writes into an existing target with -n', async () => {
    for (const name of ['out', 'expected'])
      writeFileSync(join(dir, name), Buffer.alloc(6 << 20, 9));
    await qemuImg('convert', '-n', '-O', 'raw', 'base', 'expected');
    expect(await qcow2('convert', '-n', '-O', 'raw', 'base', 'out')).toEqual(SILENT);
    expect(bytesOf('out').equals(bytesOf('expected'))).toBe(true);
  });

  it('shows progress with -p, unless -q', async () => {
    const { status, stdout, stderr } = await qcow2('convert', '-p', '-O', 'raw', 'base', 'out');
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/^ {4}\(0\.00\/100%\)\r( {4}\(\d+\.\d\d\/100%\)\r)+\n$/);
    expect(stdout.endsWith('    (100.00/100%)\r    (100.00/100%)\r\n')).toBe(true);
    expect(await qcow2('convert', '-pq', '-O', 'raw', 'base', 'out')).toEqual(SILENT);
  });

  it.each(
    [
      'nothere new',
      'base base',
      'base nodir/new',
      'base .',
      '-l nothere kept new',
      '-l snapshot.id=2,snapshot.name=before kept new',
      '-n base new',
      '-O qcow2 -B base top new',
      '-O qcow2 -F qcow2 top new',
      '-O qcow2 -B nothere -F qcow2 top new',
      '-O qcow2 -o cluster_size=3000 top new',
      '-f raw -l before kept new',
      '-O raw -o preallocation=metadata base new',
    ].map((line) => line.split(' ')),
  )('refuses %s %s %s %s %s %s and leaves nothing behind', async (...args) => {
    const before = readdirSync(dir);
    const given = ['convert', ...args.filter((arg) => arg !== undefined)];
    const { status, stdout, stderr } = await qcow2(...given);
    expect([status, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/^qcow2: [^\n]+\n$/);
    expect(readdirSync(dir)).toEqual(before);
  });
});
