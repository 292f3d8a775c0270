import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { makeContent } from '../support/data.ts';
import { type Asked, RangeServer } from '../support/http-server.ts';
import { runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { type Ended, ended, startNode } from './support.ts';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const SECRETS = ['s3cret', 't0ken', Buffer.from('me:s3cret').toString('base64')];
const UNTOLD =
  'done again, since its server tells no version of it (neither ETag nor Last-Modified)';

let dir: string;
let server: RangeServer;
/** Headers of the answers in place of an ETag, by path. */
let versions: Record<string, Record<string, string>>;

beforeAll(async () => {
  dir = makeTempDir('resume-url');
  writeFileSync(join(dir, 'base.raw'), makeContent('text', 1 << 20, 1));
  await runOk('qemu-img', ['convert', '-O', 'qcow2', 'base.raw', 'base.qcow2'], dir);
  await runOk(
    'qemu-img',
    ['create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'top.qcow2'],
    dir,
  );
  const files = ['base.qcow2', 'top.qcow2', 'base.raw'].map((name) => [
    name,
    readFileSync(join(dir, name)),
  ]);
  server = new RangeServer(Object.fromEntries(files));
  await server.open();
});
afterAll(async () => {
  await server?.close();
  removeTempDir(dir);
});
beforeEach(() => {
  versions = {};
  server.reset(answer);
});

/** Answers with the version that the test wants; of a user only to those who know the password. */
function answer({ request, response, body, headers }: Asked): boolean {
  const { ETag: etag, ...others } = headers;
  const path = (request.url ?? '').replace(/\?.*/, '').slice(1);
  const version = versions[path] ?? { ETag: etag! };
  response.writeHead(server.files[path] ? 206 : 404, { ...others, ...version }).end(body);
  return true;
}

/** Runs a job of one URL; what it printed has no secrets, and neither has the journal. */
async function batch(name: string, input: string): Promise<Ended> {
  mkdirSync(join(dir, name), { recursive: true });
  const file = join(dir, name, 'jobs.json');
  writeFileSync(file, JSON.stringify({ jobs: [{ input, target: 'disk.raw', format: 'raw' }] }));
  const end = await ended(startNode([MAIN, 'batch', '--resume', file], dir));
  const kept = `${end.stdout}${end.stderr}${readFileSync(`${file}.journal`, 'utf8')}`;
  for (const secret of SECRETS) expect(kept).not.toContain(secret);
  return end;
}

const CONVERTED = /\n1 image converted, [\d.]+ s\n$/;
const SKIPPED = /\n0 images converted, 1 done before, [\d.]+ s\n$/;

it('what is done of URLs is skipped until an input or a file below it has changed', async () => {
  const input = server.url('top.qcow2?sig=t0ken').replace('//', '//me:s3cret@');
  const first = await batch('etag', input);
  expect([first.stderr, first.stdout]).toEqual(['', expect.stringMatching(CONVERTED)]);
  const digest = createHash('sha256').update(readFileSync(join(dir, 'etag/disk.raw')));
  const expected = createHash('sha256').update(readFileSync(join(dir, 'base.raw')));
  expect(digest.digest('hex')).toBe(expected.digest('hex'));

  server.reset(answer);
  const second = await batch('etag', input);
  expect([second.stderr, second.stdout]).toEqual(['', expect.stringMatching(SKIPPED)]);
  expect(server.requests.map(({ path, range }) => [path, range])).toEqual([
    ['top.qcow2', 'bytes=0-511'],
    ['base.qcow2', 'bytes=0-511'],
  ]);
  // Of the same server: with the password, too.
  for (const { headers } of server.requests) expect(headers.authorization).toMatch(/^Basic /);

  versions['base.qcow2'] = { ETag: '"2"' };
  expect((await batch('etag', input)).stdout).toMatch(CONVERTED);
  versions['top.qcow2'] = { ETag: 'W/"2"' };
  expect((await batch('etag', input)).stdout).toMatch(CONVERTED);
  expect((await batch('etag', input)).stdout).toMatch(SKIPPED);
  rmSync(join(dir, 'etag/disk.raw'));
  expect((await batch('etag', input)).stdout).toMatch(CONVERTED);
});

it('without an ETag by Last-Modified; without both, or below, it is done again, and said so', async () => {
  const input = server.url('top.qcow2');
  versions['top.qcow2'] = { 'Last-Modified': 'Mon, 02 Nov 2026 10:00:00 GMT' };
  expect((await batch('time', input)).stdout).toMatch(CONVERTED);
  expect((await batch('time', input)).stdout).toMatch(SKIPPED);

  versions['top.qcow2'] = {};
  const first = await batch('none', input);
  expect([first.stderr, first.stdout]).toEqual(['', expect.stringMatching(CONVERTED)]);
  const second = await batch('none', input);
  expect(second.stderr).toBe(`qcow2: ${input}: ${UNTOLD}\n`);
  expect(second.stdout).toMatch(CONVERTED);

  versions = { 'base.qcow2': {} };
  expect((await batch('below', input)).stderr).toBe('');
  expect((await batch('below', input)).stderr).toBe(
    `qcow2: ${server.url('base.qcow2')}: ${UNTOLD}\n`,
  );
});

it('a server that says nothing more does not keep a batch from ending', async () => {
  server.reset((asked) => {
    if (asked.index === 0) return answer(asked);
    asked.response.writeHead(206, asked.headers).flushHeaders();
    return true;
  });
  mkdirSync(join(dir, 'silent'));
  const args = [MAIN, 'batch', '-d', 'silent', '--log=json', server.url('base.raw')];
  const child = startNode(args, dir);
  const end = ended(child);
  await expect.poll(() => server.requests.length, { timeout: 30_000 }).toBeGreaterThan(1);
  child.kill('SIGTERM');
  expect((await end).signal).toBe('SIGTERM');
  expect(existsSync(join(dir, 'silent/base.raw'))).toBe(false);
});
