import { copyFileSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import type { BatchEvent, BatchSummary } from '../../src/batch/events.ts';
import { makeContent } from '../support/data.ts';
import { sha256File } from '../support/digest.ts';
import { runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { PASSWORD, Program, RedisServer } from './queue-support.ts';

const MIB = 2 ** 20;
const SLOW = 2;
const ALL = 30;
let dir: string;
let redis: RedisServer;
const programs: Program[] = [];

beforeAll(async () => {
  dir = makeTempDir('queue-crash');
  redis = await RedisServer.start(dir);
  const text = makeContent('text', 16 * MIB, 1);
  writeFileSync(join(dir, 'large.raw'), Buffer.concat([text, text]));
  writeFileSync(join(dir, 'small.raw'), makeContent('mixed', MIB, 2));
  for (const name of ['large', 'small'])
    await runOk('qemu-img', ['convert', '-O', 'qcow2', `${name}.raw`, `${name}.qcow2`], dir);
});
afterEach(async () => {
  for (const { child, end } of programs.splice(0)) {
    child.kill('SIGKILL');
    await end;
  }
});
afterAll(async () => {
  await redis?.stop();
  removeTempDir(dir);
});

function start(cwd: string, ...args: string[]): Program {
  const program = new Program(args, cwd, redis.url);
  programs.push(program);
  return program;
}

/** Slow jobs first, so that a worker is sure to be in the middle of one. */
function makeJobs(folder: string, slow: number, all: number): string[] {
  mkdirSync(join(dir, folder));
  const names = Array.from({ length: all }, (_, i) => (i < slow ? `large${i}` : `small${i}`));
  for (const name of names)
    copyFileSync(join(dir, `${name.slice(0, 5)}.qcow2`), join(dir, folder, `${name}.qcow2`));
  const jobs = names.map((name, i) => ({
    input: `${name}.qcow2`,
    target: `out/${name}.${i < slow ? 'qcow2' : 'raw'}`,
    ...(i < slow && { format: 'qcow2', compress: true, compressionLevel: 'best' }),
  }));
  writeFileSync(
    join(dir, folder, 'jobs.json'),
    JSON.stringify({ defaults: { format: 'raw' }, jobs }),
  );
  return jobs.map(({ target }) => join(dir, folder, target));
}

async function expectContents(targets: readonly string[]): Promise<void> {
  for (const target of targets) {
    const raw = target.endsWith('.raw') ? target : `${target}.back`;
    if (raw !== target)
      await runOk('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', target, raw], dir);
    const source = join(dir, target.includes('large') ? 'large.raw' : 'small.raw');
    expect(sha256File(raw), target).toBe(sha256File(source));
  }
}

function partials(folder: string): string[] {
  return readdirSync(join(dir, folder, 'out')).filter((name) => name.endsWith('.partial'));
}

const isStartOfLarge = (event: BatchEvent): boolean =>
  event.event === 'job-started' && /large/.test(event.target);

it('every image is converted once, though a worker is killed and the server restarted', async () => {
  const targets = makeJobs('crash', SLOW, ALL);
  const folder = join(dir, 'crash');
  const worker = ['worker', '--root', '.', '-j', '2', '--lock', '2', '--log=json'];
  const wait = start(folder, 'batch', 'jobs.json', '--queue', 'env', '--wait', '--log=json');
  const first = start(folder, ...worker);
  await first.until(isStartOfLarge);
  await expect.poll(() => partials('crash').length, { timeout: 20_000 }).toBeGreaterThan(0);
  first.child.kill('SIGKILL');
  await first.end;
  const left = partials('crash');
  expect(left.length).toBeGreaterThan(0);

  const second = start(folder, ...worker);
  const third = start(folder, ...worker);
  await second.until(({ event }) => event === 'job-finished');
  await redis.restart();
  const { status, stdout } = await wait.end;
  expect(status).toBe(0);
  const summary = wait.events.at(-1) as BatchSummary & { event: string };
  expect(summary).toMatchObject({ event: 'batch-finished', succeeded: ALL, failed: 0, skipped: 0 });
  const finished = wait.events.filter(({ event }) => event === 'job-finished');
  expect(new Set(finished.map((event) => 'job' in event && event.job)).size).toBe(ALL);
  expect(finished.length).toBe(ALL);

  const status2 = await start(folder, 'queue', 'status', '--output=json').end;
  expect(JSON.parse(status2.stdout)).toMatchObject({
    jobs: { waiting: 0, running: 0, delayed: 0, done: ALL, failed: 0 },
    failed: [],
  });
  for (const { child } of [second, third]) child.kill('SIGTERM');
  const ends = await Promise.all([second.end, third.end]);
  expect(ends.map((end) => end.status)).toEqual([0, 0]);
  expect(partials('crash')).toEqual([]);
  const output = [stdout, status2.stdout, ...ends.flatMap((end) => [end.stdout, end.stderr])];
  for (const secret of [PASSWORD, encodeURIComponent(PASSWORD)])
    expect(output.join('')).not.toContain(secret);
  await expectContents(targets);
});

it('a worker that was away for long does not publish over the one that took its job', async () => {
  const [target = ''] = makeJobs('away', 1, 1);
  const folder = join(dir, 'away');
  const worker = ['worker', '--root', '.', '-j', '1', '--lock', '1', '--log=json'];
  const first = start(folder, ...worker);
  const wait = start(folder, 'batch', 'jobs.json', '--queue', 'env', '--wait', '-q');
  await first.until(isStartOfLarge);
  await expect.poll(() => partials('away').length, { timeout: 20_000 }).toBe(1);
  first.child.kill('SIGSTOP');
  const second = start(folder, ...worker);
  expect((await wait.end).status).toBe(0);
  const published = statSync(target, { bigint: true });
  expect(partials('away')).toEqual([]);
  first.child.kill('SIGCONT');
  const lost = new Promise<string>((resolve) => {
    first.child.stderr?.on('data', (text: string) => {
      if (text.includes('another worker')) resolve(text);
    });
  });
  expect(await lost).toMatch(
    /^qcow2: .*large0\.qcow2: the queue has given this job to another worker$/m,
  );
  for (const { child } of [first, second]) child.kill('SIGTERM');
  expect((await first.end).status).toBe(0);
  const now = statSync(target, { bigint: true });
  expect([now.ino, now.mtimeNs]).toEqual([published.ino, published.mtimeNs]);
  expect(readdirSync(join(folder, 'out'))).toEqual(['large0.qcow2']);
  expect(first.events.filter(({ event }) => event === 'job-finished')).toEqual([]);
  await expectContents([target]);
});
