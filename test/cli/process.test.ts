import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, copyFileSync, openSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run, runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
let dir: string;
let main: string;

/** The command line as a process of its own, from a build made here. */
beforeAll(async () => {
  dir = makeTempDir('process');
  const built = join(dir, 'package');
  const tsc = join(ROOT, 'node_modules/.bin/tsc');
  await run(tsc, ['-p', '.', '--outDir', join(built, 'dist')], ROOT);
  copyFileSync(join(ROOT, 'package.json'), join(built, 'package.json'));
  main = join(built, 'dist/cli/main.js');
  await runOk(
    'qemu-img',
    ['create', '-q', '-f', 'qcow2', '-o', 'cluster_size=512', 'a', '4M'],
    dir,
  );
  // Every other cluster: a map of thousands of lines.
  const writes = Array.from({ length: 4096 }, (_, i) => ['-c', `write ${i * 1024} 512`]).flat();
  await runOk('qemu-io', [...writes, 'a'], dir);
}, 60_000);
afterAll(() => removeTempDir(dir));

interface Ended {
  status: number | null;
  signal: NodeJS.Signals | null;
  stderr: string;
}

function ended(child: ChildProcess): Promise<Ended> {
  let stderr = '';
  child.stderr?.on('data', (chunk) => {
    stderr += chunk;
  });
  return new Promise((resolve) => {
    child.on('close', (status, signal) => resolve({ status, signal, stderr }));
  });
}

function start(args: readonly string[], stdout: 'pipe' | number = 'pipe'): ChildProcess {
  return spawn(process.execPath, [main, ...args], { cwd: dir, stdio: ['ignore', stdout, 'pipe'] });
}

describe('the process', () => {
  it('prints what qemu-img prints', async () => {
    const args = ['map', '--output=json', 'a'];
    const ours = await runOk(process.execPath, [main, ...args], dir);
    expect(ours.stdout).toBe((await runOk('qemu-img', args, dir)).stdout);
  });

  it('reports errors by status and one line', async () => {
    const { status, stdout, stderr } = await run(process.execPath, [main, 'info', 'nothere'], dir);
    expect([status, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/^qcow2: Could not open 'nothere': No such file or directory\n$/);
  });

  it('is silent when the reader of its output goes away', async () => {
    const child = start(['map', '--output=json', 'a']);
    const end = ended(child);
    child.stdout?.once('data', () => child.stdout?.destroy());
    expect(await end).toEqual({ status: 141, signal: null, stderr: '' });
  });

  it('fails when its output cannot be written', async () => {
    const full = openSync('/dev/full', 'w');
    try {
      const { status, stderr } = await ended(start(['info', 'a'], full));
      expect(status).toBe(1);
      expect(stderr).toBe('qcow2: Could not write to standard output: No space left on device\n');
    } finally {
      closeSync(full);
    }
  });

  it('stops converting on a signal, and cleans up', async () => {
    await runOk('dd', ['if=/dev/urandom', 'of=random', 'bs=1M', 'count=96', 'status=none'], dir);
    const child = start(['convert', '-c', '-p', '-m', '2', '-O', 'qcow2', 'random', 'stopped']);
    const end = ended(child);
    child.stdout?.once('data', () => child.kill('SIGTERM'));
    const { status, signal } = await end;
    expect([status, signal]).toEqual([null, 'SIGTERM']);
    expect(readdirSync(dir).filter((name) => /stopped|partial/.test(name))).toEqual([]);
  });

  it('tells its progress on SIGUSR1', async () => {
    const child = start(['convert', '-c', '-m', '2', '-O', 'qcow2', 'random', 'told']);
    const end = ended(child);
    // The signal ends a process that does not listen yet: wait for the file it writes.
    while (!readdirSync(dir).some((name) => name.endsWith('.partial')) && child.exitCode === null)
      await new Promise((resolve) => setTimeout(resolve, 10));
    child.kill('SIGUSR1');
    const { status, stderr } = await end;
    expect(status).toBe(0);
    expect(stderr).toMatch(/^ {4}\(\d+\.\d\d\/100%\)\n$/);
  }, 30_000);
});
