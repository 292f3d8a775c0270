import { type ChildProcess, execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { JobProgress } from '../../src/batch/events.ts';
import { makeContent } from '../support/data.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { ended, eventsOf, startNode } from './support.ts';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const MIB = 2 ** 20;
let dir: string;
let out: string;
let count = 0;

beforeAll(() => {
  dir = makeTempDir('signals');
  const text = makeContent('text', 16 * MIB, 1);
  const large = Buffer.concat(new Array(6).fill(text));
  for (const name of ['large', 'other']) writeFileSync(join(dir, `${name}.img`), large);
  for (let i = 0; i < 12; i++)
    writeFileSync(join(dir, `small${i}.img`), makeContent('mixed', MIB, i + 1));
});
afterAll(() => removeTempDir(dir));
beforeEach(() => {
  out = join(dir, `out${count++}`);
  mkdirSync(out);
});

const COMPRESS = ['-c', '-O', 'qcow2'];
const SLOW = [...COMPRESS, '-o', 'compression_level=best'];

function batch(...args: string[]): ChildProcess {
  return startNode([MAIN, 'batch', '-d', out, ...args], dir);
}

/** Settles when the process has printed what matches. */
function printed(child: ChildProcess, stream: 'stdout' | 'stderr', what: RegExp): Promise<void> {
  let text = '';
  return new Promise((resolve) => {
    child[stream]?.on('data', (chunk: string) => {
      text += chunk;
      if (what.test(text)) resolve();
    });
  });
}

describe.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('%s', (signal) => {
  it('ends a batch within a second, with nothing half done and the journal whole', async () => {
    const journal = join(out, 'journal');
    const inputs = ['large.img', 'other.img', 'small0.img'];
    const child = batch('--log=json', '--journal', journal, ...COMPRESS, ...inputs);
    const end = ended(child);
    await printed(child, 'stdout', /job-finished[\s\S]*job-progress/);
    const sent = performance.now();
    child.kill(signal);
    const result = await end;
    expect(performance.now() - sent).toBeLessThan(1000);
    expect([result.signal, result.stderr]).toEqual([signal, '']);
    const last = eventsOf(result.stdout).at(-1);
    expect(last).toMatchObject({ event: 'batch-finished', succeeded: 1, failed: 2 });
    expect(readdirSync(out).sort()).toEqual(['journal', 'small0.qcow2']);
    const lines = readFileSync(journal, 'utf8').trimEnd().split('\n');
    expect(lines.map((line) => Object.keys(JSON.parse(line))[0])).toEqual([
      'journal',
      'run',
      'done',
    ]);
  });
});

it('a shell sees status 130 for SIGINT', () => {
  const script = '"$@" & pid=$!; sleep 0.6; kill -INT $pid; wait $pid; echo $?';
  const command = [process.execPath, MAIN, 'batch', '-q', '-d', out, ...SLOW, 'large.img'];
  // A shell that is not interactive has its background jobs ignore the signal; env gives it back.
  const args = ['-c', script, 'sh', 'env', '--default-signal=INT', ...command];
  const stdout = execFileSync('sh', args, { cwd: dir, encoding: 'utf8', stdio: 'pipe' });
  expect(stdout).toBe('130\n');
  expect(readdirSync(out)).toEqual([]);
});

it('SIGUSR1 prints a line of progress', async () => {
  const child = batch('--log=json', ...SLOW, 'large.img', 'small1.img');
  const end = ended(child);
  await printed(child, 'stdout', /job-progress/);
  for (let i = 0; i < 2; i++) {
    child.kill('SIGUSR1');
    await printed(child, 'stderr', /\n/);
  }
  child.kill('SIGINT');
  const { stderr } = await end;
  expect(stderr).toMatch(/^( {4}\(\d+\.\d\d\/100%\) [01] of 2 images\n){2}$/);
});

it('events tell phase, bytes, rate and time left, at most ten a second', async () => {
  const child = batch('--log=json', '--verify', '--checksum=sha256', ...COMPRESS, 'large.img');
  const { status, stdout } = await ended(child);
  expect(status).toBe(0);
  const events = eventsOf(stdout);
  const progress = events.filter((event): event is JobProgress => event.event === 'job-progress');
  const end = events.at(-1) as { seconds: number };
  expect(progress.length).toBeLessThanOrEqual(end.seconds * 10 + 1);
  expect(progress.length).toBeGreaterThan(3);
  expect([...new Set(progress.map(({ phase }) => phase))]).toEqual(
    expect.arrayContaining(['convert', 'verify']),
  );
  for (const { step, steps, done, total, written, rate, eta } of progress) {
    expect(total).toBe(96 * MIB);
    expect(steps).toBe(2);
    expect(step).toBeLessThan(2);
    expect(done).toBeLessThanOrEqual(total);
    expect(written).toBeLessThan(total);
    if (rate !== null) expect(eta).toBeCloseTo((total - done) / rate, 0);
  }
  const converting = progress.filter(({ phase }) => phase === 'convert');
  expect(converting.at(-1)!.written).toBeGreaterThan(converting[0]!.written);
  expect(converting.at(-1)!.rate).toBeGreaterThan(0);
});

it('small images do not wait for a large one, which gets all threads in the end', async () => {
  const small = Array.from({ length: 12 }, (_, i) => `small${i}.img`);
  const { status, stdout } = await ended(
    batch('--log=json', '-j', '2', ...COMPRESS, 'large.img', ...small),
  );
  expect(status).toBe(0);
  const events = eventsOf(stdout).filter(({ event }) => event !== 'job-progress');
  const ends = events.flatMap((event) => (event.event === 'job-finished' ? [event.job] : []));
  expect(ends.length).toBe(13);
  expect(ends.at(-1)).toBe(0);
  const begun = events.flatMap((event) => (event.event === 'job-started' ? [event.job] : []));
  expect(begun[0]).toBe(0);
  const grown = events.findIndex(({ event }) => event === 'job-threads');
  expect(events[grown]).toEqual({ event: 'job-threads', job: 0, threads: 2 });
  expect(events.slice(grown).filter(({ event }) => event === 'job-started')).toEqual([]);
});

describe('a source that fails at first', () => {
  const preload = fileURLToPath(new URL('./flaky-files.mjs', import.meta.url));

  async function retried(failures: number, ...more: string[]) {
    writeFileSync(join(dir, 'flaky.img'), makeContent('mixed', MIB, 9));
    writeFileSync(join(dir, 'flaky.img.left'), String(failures));
    const args = ['--import', preload, MAIN, 'batch', '-d', out, '--log=json', ...more];
    const { status, stdout } = await ended(startNode([...args, 'flaky.img', 'small0.img'], dir));
    return { status, events: eventsOf(stdout) };
  }

  it('is tried again, later each time', async () => {
    const { status, events } = await retried(2, '--retries', '3');
    expect(status).toBe(0);
    const own = events.filter((event) => 'job' in event && event.job === 0);
    expect(own.filter(({ event }) => !/progress|threads/.test(event))).toMatchObject([
      { event: 'job-started', attempt: 1 },
      { event: 'job-retry', attempt: 1, code: 'IO', delay: expect.any(Number) },
      { event: 'job-started', attempt: 2 },
      { event: 'job-retry', attempt: 2, delay: expect.any(Number) },
      { event: 'job-started', attempt: 3 },
      { event: 'job-finished', attempts: 3 },
    ]);
    // Half a second, then twice as long; up to a quarter is left to chance.
    const delays = own.flatMap((event) => (event.event === 'job-retry' ? [event.delay] : []));
    for (const [attempt, most] of [0.5, 1].entries()) {
      expect(delays[attempt]).toBeGreaterThanOrEqual(most * 0.75 - 0.001);
      expect(delays[attempt]).toBeLessThanOrEqual(most);
    }
  });

  it('fails when there are no attempts left', async () => {
    const { status, events } = await retried(2, '--retries', '1');
    expect(status).toBe(1);
    expect(events).toContainEqual(
      expect.objectContaining({ event: 'job-failed', job: 0, code: 'IO', attempts: 2 }),
    );
  });
});
