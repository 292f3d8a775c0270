import { copyFileSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { BatchEvent, BatchSummary } from '../../src/batch/events.ts';
import type { runBatch as RunBatch } from '../../src/batch/local-runner.ts';
import { makeContent } from '../support/data.ts';
import { sha256File } from '../support/digest.ts';
import { runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { buildPackage, type Ended, ended, eventsOf, namesIn, startNode } from './support.ts';

const MIB = 1024 * 1024;
let dir: string;
let dist: string;
let main: string;
let runBatch: typeof RunBatch;
let count = 0;
/** A new folder for the targets of each test. */
let out: string;

const batch = (...args: string[]): Promise<Ended> =>
  ended(startNode([main, 'batch', ...args], dir));
const sha = (...parts: string[]) => sha256File(join(dir, ...parts));

beforeAll(async () => {
  dir = makeTempDir('batch');
  dist = await buildPackage(dir);
  main = join(dist, 'cli/main.js');
  ({ runBatch } = await import(/* @vite-ignore */ join(dist, 'batch/local-runner.js')));
  const qemu = (...args: string[]) => runOk('qemu-img', args, dir);
  for (const [seed, name] of ['a', 'b', 'c'].entries()) {
    writeFileSync(join(dir, 'content'), makeContent('mixed', 3 * MIB + 512, seed + 1));
    await qemu('convert', '-f', 'raw', '-O', 'qcow2', 'content', `${name}.qcow2`);
  }
  copyFileSync(join(dir, 'c.qcow2'), join(dir, 'cut.qcow2'));
  truncateSync(join(dir, 'cut.qcow2'), 1 * MIB);
  copyFileSync(join(dir, 'a.qcow2'), join(dir, 'deadly.qcow2'));
  await qemu('create', '-q', '-f', 'qcow2', '-b', 'a.qcow2', '-F', 'qcow2', 'top.qcow2');
  // Long enough to be stopped on the way: compressing takes seconds.
  writeFileSync(join(dir, 'long.img'), makeContent('text', 16 * MIB));
  const long = readFileSync(join(dir, 'long.img'));
  writeFileSync(join(dir, 'long.img'), Buffer.concat(new Array(10).fill(long)));
  copyFileSync(join(dir, 'long.img'), join(dir, 'other.img'));
}, 60_000);
afterAll(() => removeTempDir(dir));
beforeEach(() => {
  out = `out${count++}`;
});

describe('qcow2 batch', () => {
  it('converts what it can, reports what failed, and ends with status 1', async () => {
    const args = ['-d', out, 'a.qcow2', 'cut.qcow2', 'nothere.img', 'b.qcow2', 'top.qcow2'];
    const { status, stdout, stderr } = await batch(...args);
    expect(status).toBe(1);
    const failures = stderr.split('\n').sort();
    expect(failures.length).toBe(3);
    expect(failures[1]).toMatch(/^qcow2: cut\.qcow2: .*past the end/);
    expect(failures[2]).toBe(
      "qcow2: nothere.img: Could not open 'nothere.img': No such file or directory",
    );
    const lines = stdout.split('\n');
    expect(lines.slice(0, 3).sort()[0]).toMatch(
      new RegExp(`^a\\.qcow2 -> ${out}/a\\.raw: 3 MiB in \\d+\\.\\d\\d s(, \\d+ MiB/s)?$`),
    );
    expect(lines[3]).toMatch(/^3 images converted, 2 failed, \d+\.\d\d s$/);
    expect(namesIn(join(dir, out))).toEqual(['a.raw', 'b.raw', 'top.raw']);
    for (const name of ['a', 'b', 'top'])
      await runOk('qemu-img', ['compare', `${name}.qcow2`, `${out}/${name}.raw`], dir);
  });

  it.each([
    ['raw', ['-O', 'raw']],
    ['qcow2', ['-O', 'qcow2', '-c', '-o', 'cluster_size=4k']],
  ])('writes the same bytes as convert (%s)', async (format, options) => {
    const { status, stderr } = await batch('-q', ...options, '-d', out, 'a.qcow2', 'b.qcow2');
    expect([status, stderr]).toEqual([0, '']);
    for (const name of ['a', 'b']) {
      const single = startNode([main, 'convert', ...options, `${name}.qcow2`, 'single'], dir);
      expect((await ended(single)).status).toBe(0);
      expect(sha(out, `${name}.${format}`)).toBe(sha('single'));
    }
  });

  it('with --log=json prints an event a line, and nothing else', async () => {
    const given = ['a.qcow2', 'cut.qcow2', 'b.qcow2', 'c.qcow2'];
    const { status, stdout, stderr } = await batch('--log=json', '-j', '2', '-d', out, ...given);
    expect([status, stderr]).toEqual([1, '']);
    const events = eventsOf(stdout);
    expect(events[0]).toEqual({ event: 'batch-started', total: 4, concurrency: 2 });
    expect(events.at(-1)).toMatchObject({ event: 'batch-finished', succeeded: 3, failed: 1 });
    for (const [job, input] of given.entries()) {
      const own = events.filter((event) => 'job' in event && event.job === job);
      const files = { job, inputs: [input], target: `${out}/${input.replace('qcow2', 'raw')}` };
      expect(own[0]).toMatchObject({ event: 'job-started', ...files, threads: 1, attempt: 1 });
      for (const event of own.slice(1, -1)) {
        if (event.event === 'job-threads') continue;
        const convert = { phase: 'convert', step: 0, steps: 1, total: 3 * MIB + 512 };
        expect(event).toMatchObject({ event: 'job-progress', ...convert });
      }
      const end = own.at(-1);
      if (job === 1)
        expect(end).toMatchObject({ event: 'job-failed', ...files, code: 'TRUNCATED' });
      else {
        expect(end).toMatchObject({ event: 'job-finished', ...files, bytesVirtual: 3 * MIB + 512 });
        const { bytesWritten } = end as { bytesWritten: number };
        expect(bytesWritten).toBeGreaterThan(MIB);
        expect(bytesWritten).toBeLessThan(4 * MIB);
      }
    }
  });

  it('takes a job file', async () => {
    mkdirSync(join(dir, out));
    const jobs = [
      { input: '../top.qcow2', target: 'deep/top.qcow2', allowExternal: ['..'] },
      { input: ['../a.qcow2', '../b.qcow2'], target: 'both.raw', format: 'raw', create: {} },
      { input: '../top.qcow2', target: 'refused.qcow2', create: { clusterSize: 1000 } },
    ];
    const defaults = { inputFormat: 'qcow2', format: 'qcow2' };
    writeFileSync(join(dir, out, 'jobs.JSON'), JSON.stringify({ defaults, jobs }));
    const { status, stderr } = await batch(`${out}/jobs.JSON`);
    expect(stderr).toMatch(/^qcow2: top\.qcow2: Cluster size must be [^\n]*\n$/);
    expect(status).toBe(1);
    expect(namesIn(join(dir, out))).toEqual(['both.raw', 'deep', 'jobs.JSON']);
    await runOk('qemu-img', ['compare', 'top.qcow2', `${out}/deep/top.qcow2`], dir);
    await runOk('qemu-img', ['convert', '-O', 'raw', 'a.qcow2', 'b.qcow2', 'expected'], dir);
    expect(sha(out, 'both.raw')).toBe(sha('expected'));
  });

  it.each([
    [['a.qcow2'], '-d DIR is needed, the folder the targets go to'],
    [['-d', 'new', '-c', 'a.qcow2'], '-c needs -O qcow2: raw images cannot be compressed'],
    [['-d', 'new', '-O', 'vmdk', 'a.qcow2'], /^unknown format 'vmdk'/],
    [['-d', 'new', '-o', 'size=1M', 'a.qcow2'], /^-o size makes no sense here/],
    [['-d', 'new', '-j', '0', 'a.qcow2'], /^invalid number of images at a time '0': 1 to 256 /],
    [['-d', 'new', '-j', 'x', 'a.qcow2'], /^invalid number of images at a time 'x'/],
    [['-d', 'new', '-q', '--log=json', 'a.qcow2'], '-q and --log=json exclude each other'],
    [['-d', 'new', '--log=xml', 'a.qcow2'], "--log must be human or json, not 'xml'"],
    [['a.qcow2', 'jobs.json'], "'jobs.json' is a job file, which must be the only operand"],
    [
      ['-O', 'raw', 'jobs.json'],
      /^-f, -O, -d, -o, -c, -U and --allow-external go into the job file/,
    ],
    [['jobs.json'], "Could not open 'jobs.json': No such file or directory"],
    [
      ['-d', 'new', 'a.qcow2', 'sub/a.img'],
      "'a.qcow2' and 'sub/a.img' have the same target 'new/a.raw'",
    ],
    [['-d', '.', '-O', 'qcow2', 'a.qcow2'], "target 'a.qcow2' of 'a.qcow2' is also an input"],
  ] as [string[], string | RegExp][])('refuses %j before anything is done', async (args, text) => {
    const before = namesIn(dir);
    const { status, stdout, stderr } = await batch(...args);
    expect([status, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/^qcow2: [^\n]*\n$/);
    const message = stderr.slice('qcow2: '.length, -1);
    if (typeof text === 'string') expect(message).toBe(text);
    else expect(message).toMatch(text);
    expect(namesIn(dir)).toEqual(before);
  });

  it('on a signal stops, leaves no partial file, and reports every image', async () => {
    const slow = ['-c', '-O', 'qcow2', '-o', 'compression_level=best'];
    const args = ['--log=json', '-j', '1', ...slow, '-d', out, 'long.img', 'other.img'];
    const child = startNode([main, 'batch', ...args], dir);
    const end = ended(child);
    let isSent = false;
    child.stdout?.on('data', (text: string) => {
      // A second one would end it at once.
      if (!isSent && text.includes('job-progress')) isSent = child.kill('SIGTERM');
    });
    const { signal, stdout, stderr } = await end;
    expect([signal, stderr]).toEqual(['SIGTERM', '']);
    const events = eventsOf(stdout);
    const codes = events.map((event) => ('code' in event ? event.code : undefined));
    expect(codes.filter((code) => code === 'ABORTED').length).toBe(2);
    expect(events.at(-1)).toMatchObject({ event: 'batch-finished', succeeded: 0, failed: 2 });
    expect(namesIn(join(dir, out))).toEqual([]);
  });

  it('on a terminal draws bars, then a table, and gives the cursor back', async () => {
    const command = `${process.execPath} ${main} batch -c -O qcow2 -d ${out} long.img cut.qcow2`;
    const screen = await runOk(
      'script',
      ['-qec', `stty cols 80; ${command} || true`, '/dev/null'],
      dir,
    );
    const { stdout } = screen;
    expect(stdout).toContain('\u001b[?25l');
    expect(stdout).toMatch(/\[Jlong\.img +\[/);
    expect(stdout).toMatch(/\n1 of 2 images, 1 failed +\[/);
    const table = stdout.slice(stdout.lastIndexOf('\u001b[?25h'));
    expect(table).toMatch(/IMAGE +RESULT +SIZE +TIME +RATE\r\n/);
    expect(table).toMatch(/^long\.img +ok +160 MiB +\d+\.\d\d s +\d+ MiB\/s\r$/m);
    expect(table).toContain('\r\ncut.qcow2  \u001b[31mfailed\u001b[39m\r\n');
    expect(table).toMatch(/^1 image converted, 1 failed, /m);
  }, 30_000);
});

describe('runBatch', () => {
  const job = (input: string, target: string) => ({
    inputs: [{ path: join(dir, input) }],
    target: join(dir, out, target),
    targetFormat: 'raw' as const,
  });

  it('gives the results in the order of the jobs', async () => {
    const jobs = [job('nothere', 'x'), job('a.qcow2', 'a'), job('long.img', 'l')];
    const events: BatchEvent[] = [];
    const onEvent = (event: BatchEvent) => events.push(event);
    const summary: BatchSummary = await runBatch(jobs, { concurrency: 3, onEvent });
    expect(summary).toMatchObject({ succeeded: 2, failed: 1 });
    expect(summary.results.map(({ job, event }) => [job, event])).toEqual([
      [0, 'job-failed'],
      [1, 'job-finished'],
      [2, 'job-finished'],
    ]);
    expect(summary.results[0]).toMatchObject({ code: 'NOT_FOUND' });
    expect(sha(out, 'l')).toBe(sha('long.img'));
  });

  it('goes on with a new thread when one dies', async () => {
    const preload = fileURLToPath(new URL('./dying-thread.mjs', import.meta.url));
    const script = fileURLToPath(new URL('./peak-memory.mjs', import.meta.url));
    const modules = [join(dist, 'batch/local-runner.js'), join(dist, 'batch/jobs.js')];
    const inputs = ['a.qcow2', 'deadly.qcow2', 'b.qcow2', 'c.qcow2'];
    const args = ['--import', preload, script, ...modules, '{"concurrency":1}', out, ...inputs];
    const { status, stdout } = await ended(startNode(args, dir));
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      succeeded: 3,
      failed: 1,
      failures: [{ code: 'INTERNAL', message: 'the converting thread died' }],
    });
    expect(namesIn(join(dir, out))).toEqual(['a.raw', 'b.raw', 'c.raw']);
  });

  it('reports at most ten times a second how far a job is', async () => {
    const times: number[] = [];
    const compressed = { ...job('long.img', 'l'), targetFormat: 'qcow2' as const, compress: true };
    const began = performance.now();
    await runBatch([compressed], {
      onEvent: ({ event }) => event === 'job-progress' && times.push(performance.now()),
    });
    const seconds = (performance.now() - began) / 1000;
    expect(times.length).toBeGreaterThan(1);
    expect(times.length).toBeLessThanOrEqual(seconds * 10 + 1);
  }, 30_000);

  it('does nothing once aborted', async () => {
    const jobs = [job('a.qcow2', 'a'), job('b.qcow2', 'b')];
    const { failed, results } = await runBatch(jobs, { signal: AbortSignal.abort() });
    expect(failed).toBe(2);
    expect(results).toMatchObject([{ code: 'ABORTED' }, { code: 'ABORTED' }]);
  });

  it('stops when its listener fails', async () => {
    const compressed = { ...job('long.img', 'l'), targetFormat: 'qcow2' as const, compress: true };
    const onEvent = ({ event }: BatchEvent) => {
      if (event === 'job-progress') throw new Error('listener');
    };
    await expect(
      runBatch([compressed, job('a.qcow2', 'a')], { concurrency: 1, onEvent }),
    ).rejects.toThrow('listener');
    expect(namesIn(join(dir, out))).toEqual([]);
  });

  it.each([0, 1.5, 257, Number.NaN])('refuses a concurrency of %d', async (concurrency) => {
    await expect(runBatch([job('a.qcow2', 'a')], { concurrency })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
  });

  it('refuses a batch without jobs', async () => {
    await expect(runBatch([])).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });
});

describe('many images', () => {
  const names = Array.from({ length: 100 }, (_, i) => `many-${i}`);

  it('100 of them come back as they were', async () => {
    for (const [i, name] of names.entries())
      writeFileSync(join(dir, `${name}.img`), makeContent('mixed', (1 + (i % 5)) * 65536, i + 1));
    const images = names.map((name) => `${name}.img`);
    expect((await batch('-q', '-O', 'qcow2', '-d', out, ...images)).status).toBe(0);
    const back = names.map((name) => `${out}/${name}.qcow2`);
    expect((await batch('-q', '-O', 'raw', '-d', `${out}/back`, ...back)).status).toBe(0);
    for (const name of names) expect(sha(out, 'back', `${name}.raw`)).toBe(sha(`${name}.img`));
  }, 30_000);

  it('need as much memory as the threads, not the images', async () => {
    await runOk('qemu-img', ['create', '-q', '-f', 'qcow2', 'huge.qcow2', '1T'], dir);
    await runOk('qemu-io', ['-c', 'write -P 1 900G 64M', 'huge.qcow2'], dir);
    await runOk('qemu-img', ['create', '-q', '-f', 'qcow2', 'sparse.qcow2', '1G'], dir);
    await runOk('qemu-io', ['-c', 'write -P 2 100M 128M', 'sparse.qcow2'], dir);
    const script = fileURLToPath(new URL('./peak-memory.mjs', import.meta.url));
    const modules = [join(dist, 'batch/local-runner.js'), join(dist, 'batch/jobs.js')];
    const peak = async (options: object, ...inputs: string[]): Promise<number> => {
      const args = [script, ...modules, JSON.stringify(options), out, ...inputs];
      const { status, stdout, stderr } = await ended(startNode(args, dir));
      expect([status, stderr]).toEqual([0, '']);
      const result = JSON.parse(stdout) as { succeeded: number; failed: number; peak: number };
      expect(result).toMatchObject({ succeeded: inputs.length, failed: 0 });
      return result.peak;
    };
    const images = names.map((name) => `${name}.img`);
    const large = ['sparse.qcow2', 'huge.qcow2', 'long.img'];
    const packed = ['a', 'b', 'c'].map((name) => `${name}.qcow2.gz`);
    writeFileSync(join(dir, 'noise.raw'), makeContent('random', 50 * MIB, 9));
    await runOk('qemu-img', ['convert', '-O', 'qcow2', 'noise.raw', 'noise.qcow2'], dir);
    const bytes = gzipSync(readFileSync(join(dir, 'noise.qcow2')), { level: 1 });
    for (const name of packed) writeFileSync(join(dir, name), bytes);
    expect(await peak({ concurrency: 2 }, ...images)).toBeLessThan(200);
    // The threads asked for would take more than the ceiling.
    for (const memory of [128, 256])
      for (const inputs of [images, large, packed]) {
        // Of the large ones one has a TiB of zeros.
        const checksum = inputs === large ? 'sha256-sparse' : 'sha256';
        const options = { concurrency: 16, memory: memory * MIB, checksum };
        expect(await peak({ ...options, verify: true }, ...inputs)).toBeLessThanOrEqual(memory);
      }
  }, 60_000);
});
