import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { makeContent } from '../support/data.ts';
import { type Asked, RangeServer } from '../support/http-server.ts';
import { runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { Program, RedisServer } from './queue-support.ts';
import type { Ended } from './support.ts';

let dir: string;
let redis: RedisServer;
let server: RangeServer;
/** What no worker may ask for anything. */
let inner: RangeServer;
/** Of every file; empty: none is told. */
let etag: string;
const programs: Program[] = [];

beforeAll(async () => {
  dir = makeTempDir('queue-url');
  redis = await RedisServer.start(dir);
  writeFileSync(join(dir, 'disk.raw'), makeContent('mixed', 1 << 20, 1));
  const sources = ['-b', 'disk.raw', '-F', 'raw', 'overlay.qcow2'];
  await runOk('qemu-img', ['create', '-q', '-f', 'qcow2', ...sources], dir);
  const disk = readFileSync(join(dir, 'disk.raw'));
  const overlay = readFileSync(join(dir, 'overlay.qcow2'));
  server = new RangeServer({ 'public/disk.raw': disk, 'disk.raw': disk });
  for (const folder of ['public/top', 'public/one'])
    Object.assign(server.files, { [`${folder}/top.qcow2`]: overlay, [`${folder}/disk.raw`]: disk });
  inner = new RangeServer({ 'disk.raw': disk, 'public/disk.raw': disk });
  await Promise.all([server.open(), inner.open()]);
});
beforeEach(() => {
  etag = '"1"';
  server.reset(answer);
  inner.reset();
});
afterEach(async () => {
  for (const { child, end } of programs.splice(0)) {
    child.kill('SIGKILL');
    await end;
  }
});
afterAll(async () => {
  await Promise.all([redis?.stop(), server?.close(), inner?.close()]);
  removeTempDir(dir);
});

function answer({ request, response, body, headers }: Asked): boolean {
  const path = new URL(request.url ?? '', server.origin).pathname.slice(1);
  const { ETag: _, ...others } = headers;
  const isThere = server.files[path] !== undefined;
  response.writeHead(isThere ? 206 : 404, { ...others, ...(etag && { ETag: etag }) }).end(body);
  return true;
}

function start(...args: string[]): Program {
  const program = new Program(args, dir, redis.url);
  programs.push(program);
  return program;
}

/** Submits a job for each URL. */
function submit(folder: string, inputs: string[], ...args: string[]): Promise<Ended> {
  const jobs = inputs.map((input, index) => ({ input, target: `${folder}/${index}.raw` }));
  writeFileSync(
    join(dir, `${folder}.json`),
    JSON.stringify({ defaults: { format: 'raw', verify: true, checkSource: true }, jobs }),
  );
  return start('batch', '--queue', 'env', `${folder}.json`, ...args).end;
}

/** Has a worker do all that is queued. */
function work(...urls: string[]): Promise<Ended> {
  const allowed = urls.flatMap((url) => ['--allow-url', url]);
  return start('worker', '--root', dir, '-j', '2', '--drain', ...allowed).end;
}

it('a worker reads URLs that it is told to, and each version of one once', async () => {
  const inputs = [server.url('public/disk.raw'), server.url('public/top/top.qcow2?sig=a')];
  expect((await submit('plain', inputs)).stdout).toBe('2 images submitted\n');
  expect((await submit('plain', inputs)).stdout).toBe('0 images submitted, 2 already known\n');
  const worked = await work(inner.url('public'), server.url('public'));
  expect([worked.status, worked.stderr]).toEqual([0, '']);
  expect(worked.stdout).not.toContain('sig');
  for (const name of ['0', '1'])
    await runOk('qemu-img', ['compare', 'disk.raw', `plain/${name}.raw`], dir);
  const again = await submit('plain', inputs, '--wait');
  expect(again.stdout).toMatch(/\n0 images converted, 2 done before/);

  etag = '"2"';
  expect((await submit('plain', inputs)).stdout).toBe('2 images submitted\n');
  etag = '"3"';
  const changed = await work(server.url('public'));
  expect(changed.stderr.match(/has changed since the job was submitted: submit it/g)).toHaveLength(
    2,
  );
});

it('a worker reads nothing else, whoever names it', async () => {
  const inputs = [
    inner.url('public/disk.raw'),
    server.url('disk.raw'),
    server.url('public/..%2fdisk.raw'),
    `${server.url('public')}x`,
    server.url('public/one/top.qcow2'),
    server.url('public/disk.raw?to'),
  ];
  expect((await submit('other', inputs)).stdout).toBe('6 images submitted\n');
  inner.reset();
  server.reset((asked) => {
    if (!asked.request.url?.endsWith('?to')) return answer(asked);
    asked.response.writeHead(302, { Location: inner.url('public/disk.raw') }).end();
    return true;
  });
  // Of the overlay only itself, not the file below it.
  const allowed = ['public/disk.raw', 'public/one/top.qcow2'].map((path) => server.url(path));
  const { stderr } = await work(...allowed);
  const lines = stderr.trim().split('\n');
  expect(lines).toHaveLength(6);
  const refused = lines.filter((line) => line.includes('is not below a URL that this worker'));
  expect(refused).toHaveLength(4);
  expect(stderr).toMatch(/one\/disk\.raw': it is not below a URL that may be read\n/);
  expect(stderr).toMatch(/disk\.raw\?\.\.\.'.*\(a redirection\), which is not followed/);
  expect(inner.requests).toEqual([]);
  for (const { path } of server.requests)
    expect(path).toMatch(/^public\/(disk\.raw|one\/top\.qcow2)$/);
});

it('a worker reads no URL that it was not told of, and the queue keeps no password', async () => {
  await submit('none', [server.url('public/disk.raw')]);
  server.reset(answer);
  const { stderr } = await work();
  expect(stderr).toMatch(/is not below a URL that this worker may read \(--allow-url\)\n$/);
  expect(server.requests).toEqual([]);

  const input = server.url('public/disk.raw').replace('//', '//me:s3cret@');
  const { status, stdout, stderr: said } = await submit('secret', [input]);
  expect([status, stdout]).toEqual([1, '']);
  expect(said).toMatch(/^qcow2: 'http:\/\/127[^\n]* is given with a user or password[^\n]*\n$/);
  expect(said).not.toMatch(/s3cret|me:/);
  expect(server.requests).toEqual([]);
  const client = new Redis(redis.url);
  for (const key of await client.keys('*'))
    if ((await client.type(key)) === 'hash')
      expect(JSON.stringify(await client.hgetall(key))).not.toContain('s3cret');
  client.disconnect();
});

it('what nobody can tell the version of is done again, and said so', async () => {
  etag = '';
  const input = server.url('public/disk.raw');
  expect((await submit('untold', [input])).stdout).toBe('1 image submitted\n');
  expect((await work(input)).stderr).toBe('');
  const { stdout, stderr } = await submit('untold', [input]);
  expect(stdout).toBe('0 images submitted, 1 submitted again\n');
  expect(stderr).toMatch(/: done again, since its server tells no version of it [^\n]*\n$/);
  rmSync(join(dir, 'untold/0.raw'));
  expect((await work(input)).stderr).toBe('');
  await runOk('qemu-img', ['compare', 'disk.raw', 'untold/0.raw'], dir);

  start('worker', '--root', dir, '--allow-url', input);
  const waited = await submit('untold', [input], '--wait', '--log=json');
  const events = waited.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(events.slice(0, 2)).toMatchObject([
    { event: 'batch-started' },
    { event: 'job-repeated', job: 0, source: input },
  ]);
  expect(events.at(-1)).toMatchObject({ event: 'batch-finished', succeeded: 1 });
});

it('a worker that waits for a server gives its job back when it is asked to stop', async () => {
  const input = server.url('public/disk.raw');
  await submit('silent', [input]);
  server.reset((asked) => {
    if (asked.index < 2) return answer(asked);
    asked.response.writeHead(206, { ...asked.headers, ETag: etag }).flushHeaders();
    return true;
  });
  const worker = start('worker', '--root', dir, '--grace', '0', '--allow-url', input);
  await expect.poll(() => server.requests.length, { timeout: 30_000 }).toBeGreaterThan(2);
  worker.child.kill('SIGTERM');
  const { status, stderr } = await worker.end;
  expect([status, stderr]).toEqual([0, expect.stringMatching(/: given back to the queue\n$/)]);
  mkdirSync(join(dir, 'silent'), { recursive: true });
  expect(readdirSync(join(dir, 'silent'))).toEqual([]);

  server.reset(answer);
  expect((await work(input)).status).toBe(0);
  await runOk('qemu-img', ['compare', 'disk.raw', 'silent/0.raw'], dir);
});
