import { execFile } from 'node:child_process';
import { cpSync, mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { qemuImg, qemuIo } from '../oracle/tools.ts';
import { Workshop } from '../oracle/workshop.ts';

const TIME = { timeout: 120_000 };
const SCRIPTS = resolve('examples/scripts');
const OURS = `${process.execPath} ${resolve('dist/cli/main.js')}`;

const workshop = new Workshop('scripts');
beforeAll(() => workshop.open());
afterAll(() => workshop.close());

/** Runs a script in a copy of the folder with one tool, and returns what it printed. */
async function output(tool: string, script: string, args: string[], dir: string): Promise<string> {
  const place = join(dir, 'work');
  mkdirSync(place);
  cpSync(join(dir, 'start'), place, { recursive: true, preserveTimestamps: true });
  const env = { ...process.env, QEMU_IMG: tool, LC_ALL: 'C' };
  const run = promisify(execFile);
  const { stdout, stderr } = await run(join(SCRIPTS, script), args, { cwd: place, env });
  const { stdout: files } = await run('sh', ['-c', 'find . -type f | sort'], { cwd: place });
  await run('mv', [place, join(dir, `done-${tool === OURS ? 'ours' : 'theirs'}`)]);
  return `${stdout}${stderr}${files}`;
}

/** The same words with either tool, and the same files made. */
async function expectSame(script: string, args: string[], dir: string): Promise<string> {
  const theirs = await output('qemu-img', script, args, dir);
  expect(await output(OURS, script, args, dir)).toBe(theirs);
  return theirs;
}

describe('scripts written for qemu-img', () => {
  test('a backup of a chain, with checks', TIME, () =>
    workshop.inFolder(async (dir) => {
      const start = join(dir, 'start');
      mkdirSync(start);
      await qemuImg('create -q -f qcow2 base.qcow2 16M'.split(' '), start);
      await qemuIo('base.qcow2', ['write -P 1 0 3M', 'write -P 2 9M 1M'], start);
      await qemuImg('create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2'.split(' '), start);
      await qemuIo('top.qcow2', ['write -P 3 1M 64k', 'write -z 9M 512k'], start);
      const text = await expectSame('backup.sh', ['top.qcow2', 'kept'], dir);
      expect(text).toContain('backup: kept/full.qcow2 is identical');
      expect(text).toContain('Images are identical.');
    }),
  );

  test('the build of release images', TIME, () =>
    workshop.inFolder(async (dir) => {
      const start = join(dir, 'start');
      mkdirSync(start);
      await qemuImg('create -q -f raw disk.raw 24M'.split(' '), start);
      await qemuIo('disk.raw', ['write -P 5 0 2M', 'write -P 6 20M 3M'], start, 'raw');
      const text = await expectSame('build-image.sh', ['disk.raw', 'out'], dir);
      expect(text).toContain("Formatting 'vm.qcow2', fmt=qcow2");
    }),
  );

  test('a capacity report', TIME, () =>
    workshop.inFolder(async (dir) => {
      const start = join(dir, 'start');
      mkdirSync(start);
      await qemuImg('create -q -f qcow2 a.qcow2 64M'.split(' '), start);
      await qemuIo('a.qcow2', ['write -P 1 5M 1M', 'write -z 7M 1M'], start);
      await qemuImg('create -q -f qcow2 -o cluster_size=4k b.qcow2 1G'.split(' '), start);
      await qemuIo('b.qcow2', ['write -P 1 500M 100k'], start);
      await qemuImg('create -q -f raw c.raw 8M'.split(' '), start);
      const text = await expectSame('capacity-report.sh', ['.'], dir);
      expect(text).toContain('all as qcow2:');
    }),
  );
});
