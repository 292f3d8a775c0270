import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeContent } from '../support/data.ts';
import { firstDifference } from '../support/digest.ts';
import { RangeServer } from '../support/http-server.ts';
import { pipe } from '../support/pipe.ts';
import { runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const MIB = 2 ** 20;
const folder = makeTempDir('pipes');
const at = (name: string): string => join(folder, name);
const sh = (line: string) => pipe(line, folder);
const server = new RangeServer({});
/** More chunks than threads take at once, and no whole number of sectors. */
const disk = makeContent('mixed', 40 * MIB + 777, 3);

beforeAll(async () => {
  writeFileSync(at('disk.raw'), disk);
  const img = (...args: string[]) => runOk('qemu-img', args, folder);
  await img('convert', '-f', 'raw', '-O', 'raw', 'disk.raw', 'padded.raw');
  await img('convert', '-f', 'raw', '-O', 'qcow2', 'disk.raw', 'disk.qcow2');
  writeFileSync(at('disk.raw.gz'), gzipSync(disk, { level: 1 }));
  writeFileSync(at('disk.qcow2.gz'), gzipSync(readFileSync(at('disk.qcow2')), { level: 1 }));
  await server.open();
});

afterAll(async () => {
  await server.close();
  removeTempDir(folder);
});

function leftovers(): string[] {
  return readdirSync(folder).filter((name) => /^none|partial|spill/.test(name));
}

/** What a command line that must fail says, on one line and without leaving a target. */
async function failure(line: string): Promise<string> {
  const { status, stdout, stderr } = await sh(line);
  expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
  expect(stderr).toMatch(/^qcow2: [^\n]+\n$/);
  expect(leftovers()).toEqual([]);
  return stderr;
}

async function succeed(line: string): Promise<string> {
  const { status, stderr } = await sh(line);
  expect({ line, status }).toEqual({ line, status: 0 });
  return stderr;
}

describe('compressing on several threads', () => {
  it.each(['-m 1', '-m 3', '-m 3 -o compression_type=zstd'])(
    'a pipe becomes the same file as a file does: %s',
    async (options) => {
      const create = `-c -O qcow2 ${options}`;
      await succeed(`cat disk.raw | qcow2 convert -f raw ${create} - a.out`);
      await succeed(`qcow2 convert -f raw ${create} disk.raw b.out`);
      expect(firstDifference(at('a.out'), at('b.out'))).toBe(-1);
    },
  );

  it.each(['', '-o compression_type=zstd,extended_l2=on', '-S 0', '-B disk.raw -F raw'])(
    'the same image goes out, whatever their number: %s',
    async (options) => {
      const create = `convert -c -O qcow2 ${options} disk.qcow2 -`;
      await succeed(`qcow2 ${create} -m 1 > a.out; qcow2 ${create} -m 3 | cat > b.out`);
      expect(firstDifference(at('a.out'), at('b.out'))).toBe(-1);
      await runOk('qemu-img', ['check', '-q', 'b.out'], folder);
      await runOk('qemu-img', ['compare', '-q', 'b.out', 'disk.qcow2'], folder);
    },
  );

  it.each(['-c', ''])(
    'ends when the target can take no more, though the pipe stays open: %s',
    async (options) => {
      const limit = "trap '' XFSZ; ulimit -f 8192";
      const line = `${limit}; exec '${process.execPath}' '${MAIN}' convert -f raw ${options} -O qcow2 - none`;
      const child = spawn('bash', ['-c', line], { cwd: folder });
      child.stdin.on('error', () => {}).write(disk);
      child.stderr.setEncoding('utf8');
      let told = '';
      child.stderr.on('data', (text) => {
        told += text;
      });
      const [status] = await once(child, 'close');
      expect(status).toBe(1);
      expect(told).toMatch(/^qcow2: Could not write 'none' at offset \d+: File too large\n$/);
      expect(leftovers()).toEqual([]);
    },
  );
});

describe('from standard input to standard output', () => {
  it.each(['disk.raw', 'disk.qcow2'])('%s', async (name) => {
    await succeed(`cat ${name} | qcow2 convert -O raw - - | cat > a.out`);
    expect(firstDifference(at('a.out'), at('padded.raw'))).toBe(-1);
    await succeed(`cat ${name} | qcow2 convert -c -O qcow2 - - > a.out`);
    await runOk('qemu-img', ['compare', '-q', 'a.out', 'disk.qcow2'], folder);
  });

  it.each(['disk.raw.gz', 'disk.qcow2.gz'])('or unpacked: %s', async (name) => {
    await succeed(`qcow2 convert -O raw ${name} - > a.out`);
    expect(firstDifference(at('a.out'), at('padded.raw'))).toBe(-1);
  });

  it('nothing is no disk', async () => {
    expect(await failure('true | qcow2 convert -f raw -O raw - -')).toContain('without a byte');
  });
});

describe('an image that ends too early is an error', () => {
  it.each([
    ['head -c 30M disk.qcow2', /past the end of the file.*truncated/],
    ['head -c 30000001 disk.qcow2', /past the end of the file/],
    ['head -c 200000 disk.qcow2', /truncated/],
    ['head -c 50 disk.qcow2', /header: needs 72 bytes, only 50/],
  ])('%s', async (start, told) => {
    expect(await failure(`${start} | qcow2 convert -O raw - none`)).toMatch(told);
  });

  it('packed', async () => {
    for (const less of [1, 8, 9, 1000])
      for (const name of ['disk.raw.gz', 'disk.qcow2.gz']) {
        await sh(`head -c -${less} ${name} > cut.${name}`);
        const told = await failure(`qcow2 convert -c -O qcow2 cut.${name} none`);
        expect(told).toContain('ends early');
      }
  });

  it('with a folder to spill to that is none', async () => {
    const told = await failure(
      'cat disk.qcow2 disk.qcow2 | qcow2 convert -O raw --spill disk.raw - none',
    );
    expect(told).toMatch(/in a file in 'disk.raw'/);
  });
});

describe('progress', () => {
  it('of a pipe tells what has come', async () => {
    const line = '(head -c 9M disk.raw; sleep 0.8; tail -c +9437185 disk.raw)';
    const { stdout } = await sh(`${line} | qcow2 convert -p -f raw -O qcow2 - a.out`);
    const lines = stdout.split('\r');
    expect(lines[0]).toBe('    (0.00/100%)');
    expect(lines[1]).toMatch(/^ {4}\(\d+\.\d MiB read\)$/);
    expect(lines[2]).toMatch(/^ {4}\(\d+\.\d MiB read, \d+\.\d MiB\/s\)$/);
    expect(stdout).toMatch(/ {4}\(100\.00\/100%\) *\r\n$/);
  });

  it('of a packed disk is a percentage', async () => {
    const { stdout } = await sh('qcow2 convert -p -O qcow2 disk.raw.gz a.out');
    const shown = [...stdout.matchAll(/\((\d+\.\d\d)\/100%\)/g)].map(([, value]) => Number(value));
    expect(shown.filter((value) => value > 0 && value < 100).length).toBeGreaterThan(5);
    expect(stdout).not.toContain('MiB');
  });

  it('of a batch moves while the length is not known', async () => {
    await sh('mkdir -p batch');
    const { stdout } = await sh('qcow2 batch --log=json -O qcow2 -d batch disk.qcow2.gz');
    const events = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
      .filter(({ event }) => event === 'job-progress');
    expect(events[0]).toMatchObject({ total: null, eta: null });
    expect(events[0].done).toBeGreaterThan(0);
  });
});

describe('other verbs', () => {
  it.each([
    'info',
    'check',
    'map',
    'measure -O qcow2',
    'compare disk.raw',
    'bench -c 1',
    'resize --shrink',
  ])('refuse what is packed, and standard input: %s', async (verb) => {
    const size = verb.startsWith('resize') ? '1M' : '';
    const before = readFileSync(at('disk.raw.gz'));
    const packed = await sh(`qcow2 ${verb} disk.raw.gz ${size}`);
    expect(packed.status).toBeGreaterThan(0);
    expect(packed.stderr).toMatch(/^qcow2: [^\n]*packed with gzip.*-f raw[^\n]*\n$/);
    expect(readFileSync(at('disk.raw.gz')).equals(before)).toBe(true);
    const input = await sh(`cat disk.raw | qcow2 ${verb} - ${size}`);
    expect(input.status).toBeGreaterThan(0);
    expect(input.stderr).toMatch(/^qcow2: [^\n]*convert alone reads standard input[^\n]*\n$/);
  });

  it('refuse it on a server, too', async () => {
    server.files['disk.raw.gz'] = readFileSync(at('disk.raw.gz'));
    const { status, stderr } = await sh(`qcow2 info '${server.url('disk.raw.gz')}?token=1'`);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^qcow2: [^\n]*packed with gzip[^\n]*\n$/);
    expect(stderr).not.toContain('token');
  });

  it('take the bytes as they are when told so, or when only the name says that they are packed', async () => {
    await succeed('qcow2 info -f raw disk.raw.gz');
    await succeed('cp disk.qcow2 plain.gz && qcow2 check plain.gz');
  });
});

describe('signals', () => {
  const running = (...args: string[]): ChildProcess =>
    spawn(process.execPath, [MAIN, 'convert', ...args], { cwd: folder });

  it.each([[[]], [['-c']]])('end it while it waits for its input: %j', async (options) => {
    const child = running('-f', 'raw', ...options, '-O', 'qcow2', '-', 'none.qcow2');
    child.stdin!.on('error', () => {}).write(disk);
    while (leftovers().length === 0) await sleep(20);
    await sleep(200);
    child.kill('SIGTERM');
    const [, signal] = await once(child, 'exit');
    expect(signal).toBe('SIGTERM');
    expect(leftovers()).toEqual([]);
  });

  it.each([[[]], [['-c']]])('end it while nobody reads its output: %j', async (options) => {
    const child = running(...options, '-O', 'qcow2', 'disk.raw', '-');
    await once(child.stdout!, 'readable');
    await sleep(200);
    child.kill('SIGINT');
    const [, signal] = await once(child, 'exit');
    expect(signal).toBe('SIGINT');
  });
});
