import { spawn } from 'node:child_process';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeContent } from '../support/data.ts';
import { describeRun, type RunResult, run, runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { qcow2 } from './command.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const main = join(root, 'dist/cli/main.js');
const MIB = 2 ** 20;
let dir: string;

beforeAll(async () => {
  dir = makeTempDir('stdout');
  const disk = new Uint8Array(24 * MIB + 512);
  disk.set(makeContent('mixed', 9 * MIB, 1), 2 * MIB);
  disk.set(makeContent('random', 3 * MIB, 2), 20 * MIB + 100);
  writeFileSync(join(dir, 'disk.raw'), disk);
  const overlay = ['create', '-q', '-f', 'qcow2', '-b', 'disk.raw', '-F', 'raw', 'over.qcow2'];
  await runOk('qemu-img', overlay, dir);
  await runOk('qemu-io', ['-c', 'write -P 7 1M 300k', '-c', 'write -z 3M 1M', 'over.qcow2'], dir);
});
afterAll(() => removeTempDir(dir));

/** Runs a line of a shell in which `qcow2` is the built command. */
function shell(line: string): Promise<RunResult> {
  const command = `qcow2() { '${process.execPath}' '${main}' "$@"; }; ${line}`;
  return run('bash', ['-c', `set -o pipefail; ${command}`], dir);
}

async function succeed(line: string): Promise<RunResult> {
  const result = await shell(line);
  expect(result.status, describeRun(result)).toBe(0);
  return result;
}

describe('an image on standard output', () => {
  it.each([
    ['-O raw', 'raw'],
    ['-O qcow2', 'qcow2'],
    ['-S 4k -O qcow2 -o cluster_size=4k', 'qcow2'],
    ['-S 0 -O qcow2', 'qcow2'],
    ['-c -O qcow2', 'qcow2'],
    ['-c -O qcow2 -o compression_type=zstd,extended_l2=on', 'qcow2'],
  ])('convert %s ... - is whole when it has gone through a pipe', async (options, format) => {
    const { stderr } = await succeed(`qcow2 convert ${options} disk.raw - | cat > piped`);
    expect(stderr).toBe('');
    if (format === 'qcow2') await runOk('qemu-img', ['check', '-q', 'piped'], dir);
    await runOk('qemu-img', ['compare', '-q', '-f', format, '-F', 'raw', 'piped', 'disk.raw'], dir);
  });

  it('can be an overlay, and read an overlay', async () => {
    const over = 'convert -c -O qcow2 -B disk.raw -F raw';
    await succeed(`qcow2 ${over} over.qcow2 - > again.qcow2`);
    expect(statSync(join(dir, 'again.qcow2')).size).toBeLessThan(MIB);
    await runOk('qemu-img', ['check', '-q', 'again.qcow2'], dir);
    await runOk('qemu-img', ['compare', '-q', 'again.qcow2', 'over.qcow2'], dir);
    await succeed('qcow2 convert -O raw over.qcow2 - | cat > flat');
    await runOk('qemu-img', ['compare', '-q', '-f', 'raw', 'flat', 'over.qcow2'], dir);
  });

  it('shows progress on standard error', async () => {
    const { stderr } = await succeed('qcow2 convert -p -O raw disk.raw - > shown');
    expect(stderr).toMatch(/^ {4}\(0\.00\/100%\)\r.* {4}\(100\.00\/100%\)\r\n$/s);
    expect(readFileSync(join(dir, 'shown')).equals(readFileSync(join(dir, 'disk.raw')))).toBe(true);
  });

  it('is refused where it makes no sense', async () => {
    for (const [options, why] of [
      ['-n -O raw', '-n needs a target'],
      ['--bitmaps -O qcow2', '--bitmaps needs a target'],
      ['-O qcow2 -o data_file=x', 'external data file'],
      ['-O qcow2 -o preallocation=metadata', 'preallocated'],
    ] as const) {
      const { status, stdout, stderr } = await qcow2(
        'convert',
        ...options.split(' '),
        join(dir, 'disk.raw'),
        '-',
      );
      expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
      expect(stderr).toMatch(/^qcow2: [^\n]+\n$/);
      expect(stderr).toContain(why);
    }
  });

  it('is refused by a terminal', async () => {
    const line = `'${process.execPath}' '${main}' convert -O raw disk.raw -`;
    const { stdout } = await run('script', ['-qec', line, '/dev/null'], dir);
    expect(stdout.trim()).toBe(
      'qcow2: standard output is a terminal: send the image into a file or a pipe',
    );
  });

  it('ends with one line and status 1 when its reader goes away', async () => {
    const child = spawn(process.execPath, [main, 'convert', '-O', 'raw', 'disk.raw', '-'], {
      cwd: dir,
    });
    let stderr = '';
    child.stderr.on('data', (text) => {
      stderr += text;
    });
    child.stdout.once('data', () => child.stdout.destroy());
    const status = await new Promise((resolve) => child.on('close', resolve));
    expect(status).toBe(1);
    expect(stderr).toBe('qcow2: Could not write to standard output: its reader is gone (EPIPE)\n');
    const full = await shell('qcow2 convert -O raw disk.raw - > /dev/full');
    expect(full.status).toBe(1);
    expect(full.stderr).toBe(
      'qcow2: Could not write to standard output: No space left on device\n',
    );
  });

  it('ends with status 1 when the source turns out to be damaged', async () => {
    await runOk('qemu-img', ['convert', '-c', '-O', 'qcow2', 'disk.raw', 'bad.qcow2'], dir);
    const bytes = readFileSync(join(dir, 'bad.qcow2'));
    bytes.fill(0xff, bytes.length - 4 * MIB, bytes.length - 4 * MIB + 65536);
    writeFileSync(join(dir, 'bad.qcow2'), bytes);
    for (const options of ['-O raw', '-O qcow2', '-c -O qcow2']) {
      const { status, stderr } = await shell(`qcow2 convert ${options} bad.qcow2 - > part`);
      expect(status, options).toBe(1);
      expect(stderr).toMatch(/^qcow2: [^\n]+\n$/);
    }
  });
});

it('streams in memory that does not follow the disk', async () => {
  const script = fileURLToPath(new URL('../operations/stream-memory.mjs', import.meta.url));
  const { stdout } = await runOk(process.execPath, [script, join(root, 'dist/index.js')], dir);
  const { peak, seen } = JSON.parse(stdout);
  expect(seen.raw).toBe(384 * MIB);
  expect(seen.found).toBeLessThan(260 * MIB);
  expect(seen.compressed).toBeLessThan(150 * MIB);
  expect(peak).toBeLessThan(160);
});
