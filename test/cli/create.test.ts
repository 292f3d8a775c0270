import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { run, runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { qcow2 } from './command.ts';

let dir: string;
const home = process.cwd();
const qemuImg = async (...args: string[]) => (await runOk('qemu-img', args, dir)).stdout;

beforeAll(async () => {
  dir = makeTempDir('create');
  process.chdir(dir);
  await qemuImg('create', '-q', '-f', 'qcow2', 'base', '10M');
});
beforeEach(async () => {
  await qemuImg('create', '-q', '-f', 'raw', 'raw', '3M');
});
afterAll(() => {
  process.chdir(home);
  removeTempDir(dir);
});

describe('create', () => {
  it.each(
    [
      '-f qcow2 new 1G',
      '-fqcow2 new 1.5M',
      '-f qcow2 new 100',
      '-f qcow2 -o size=5M new',
      '-f qcow2 -o cluster_size=4k,compat=0.10 new 192k',
      '-f qcow2 -o compat=v3 -o cluster_size=2M,refcount_bits=64,extended_l2=on,lazy_refcounts=yes new 1M',
      '-f qcow2 -o compression_type=zstd,refcount_bits=0x10 new 1M',
      '-f qcow2 -o lazy_refcounts,noextended_l2 new 1M',
      '-f qcow2 -o data_file=da,,ta,data_file_raw=on new 1M',
      '-f qcow2 -o encryption=off,preallocation=off new 1M',
      '-f qcow2 -b base -F qcow2 new',
      '-f qcow2 -b base -F qcow2 new 20M',
      '-f qcow2 -o backing_file=raw,backing_fmt=raw new',
      '-f qcow2 -u -b nothere -F raw new 1M',
      '-f raw new 10M',
      '-f raw -o preallocation=off,size=1M new',
      'new 1000',
      '-q new 1M',
    ].map((line) => line.split(' ')),
  )('%s %s %s %s %s %s prints what qemu-img prints', async (...args) => {
    const given = ['create', ...args.filter((arg) => arg !== undefined)];
    const stdout = await qemuImg(...given);
    const info = await qemuImg('info', '--output=json', 'new');
    expect(await qcow2(...given)).toEqual({ status: 0, stdout, stderr: '' });
    const drop = (text: string) => text.replace(/"actual-size": \d+/, '');
    expect(drop(await qemuImg('info', '--output=json', 'new'))).toBe(drop(info));
  });

  it('lists its options', async () => {
    const { status, stdout } = await qcow2('create', '-f', 'qcow2', '-o', 'help');
    expect(status).toBe(0);
    expect(stdout).toMatch(/^Supported qcow2 options:\n {2}backing_file=<str> {5}- /);
    expect(stdout).toContain('\n  cluster_size=<size>    - ');
    expect(stdout).toContain('\n  extended_l2=<bool (on/off)> - ');
  });
});

describe('create refuses, like qemu-img,', () => {
  it.each(
    [
      '-f qcow2 absent',
      '-f qcow2 -u -b nothere -F raw absent',
      '-f qcow2 -b nothere -F raw absent',
      '-f qcow2 -b base absent',
      '-f qcow2 -F qcow2 absent 1M',
      '-f qcow2 -b base -F bogus absent 1M',
      '-f qcow2 -b absent -F qcow2 absent 1M',
      '-f raw -b base -F qcow2 absent 1M',
      '-f qcow2 -o cluster_size=3000 absent 1M',
      '-f qcow2 -o compat=2 absent 1M',
      '-f qcow2 -o compat=0.10,refcount_bits=8 absent 1M',
      '-f qcow2 -o extended_l2=on,cluster_size=4k absent 1M',
      '-f qcow2 -o data_file_raw=on absent 1M',
      '-f qcow2 -o foo=bar absent 1M',
      '-f qcow2 -o size=5M absent 6M',
      '-f qcow2 nodir/absent 1M',
      '-f qcow2 absent 7E',
      '-f qcow2 absent 1M 2M',
    ].map((line) => line.split(' ')),
  )('%s %s %s %s %s %s %s', async (...args) => {
    const given = ['create', ...args.filter((arg) => arg !== undefined)];
    expect((await run('qemu-img', given, dir)).status).toBe(1);
    const { status, stdout, stderr } = await qcow2(...given);
    expect([status, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/^qcow2: [^\n]+\n$/);
    expect(existsSync(join(dir, 'absent'))).toBe(false);
  });
});
