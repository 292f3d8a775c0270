import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { nodeTransport } from '../../src/node/http-transport.ts';
import { type HttpOptions, HttpStorage } from '../../src/storage/http.ts';
import { fetchTransport } from '../../src/storage/http-transport.ts';
import {
  isBelowUrl,
  parseUrlPrefix,
  resolveUrl,
  shownName,
  urlFolder,
} from '../../src/storage/http-url.ts';
import { makeContent } from '../support/data.ts';
import { misbehaviours, RangeServer } from '../support/http-server.ts';

const MiB = 1024 * 1024;
const content = makeContent('random', 5 * MiB + 1234);
const server = new RangeServer({
  'disk.raw': content,
  empty: new Uint8Array(0),
  'folder/other.raw': content,
});
const QUICK = { retryDelay: 1, timeout: 300 };

beforeAll(() => server.open());
beforeEach(() => server.reset());
afterAll(() => server.close());

async function readAll(storage: HttpStorage, step: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(storage.size);
  for (let at = 0; at < bytes.length; at += step) {
    const into = bytes.subarray(at, at + step);
    expect(await storage.read(at, into)).toBe(into.length);
  }
  return bytes;
}

describe.each([
  ['fetch', fetchTransport],
  ['sockets', nodeTransport],
])('by %s', (_, transport) => {
  const open = (options: HttpOptions = {}, url = server.url('disk.raw')) =>
    HttpStorage.open(url, { ...QUICK, transport, ...options });

  async function failure(options: HttpOptions = {}): Promise<Error & { code: string }> {
    try {
      const storage = await open({ ...options });
      await storage.read(2 * MiB, new Uint8Array(MiB)).valueOf();
      storage.close();
    } catch (error) {
      expect((error as Error).message).not.toContain('\n');
      return error as Error & { code: string };
    }
    throw new Error('nothing failed');
  }

  it('reads what the file holds, short at its end', async () => {
    const storage = await open();
    expect(storage.size).toBe(content.length);
    for (const step of [1000, 65536, 300_000, 2 * MiB]) {
      expect(Buffer.compare(await readAll(storage, step), content)).toBe(0);
    }
    const into = new Uint8Array(4096);
    expect(await storage.read(content.length - 10, into)).toBe(10);
    expect(await storage.read(content.length, into)).toBe(0);
    expect(await storage.read(content.length * 2, into)).toBe(0);
    storage.close();
  });

  it('reads at random with many at a time, with and without hints and memory', async () => {
    for (const options of [{}, { cacheBytes: 0 }, { cacheBytes: MiB, blockBytes: 4096 }]) {
      const storage = await open(options);
      let seed = 7;
      const random = (below: number): number => {
        seed = (seed * 1103515245 + 12345) % 2 ** 31;
        return seed % below;
      };
      await Promise.all(
        Array.from({ length: 60 }, async () => {
          const at = random(content.length);
          const into = new Uint8Array(random(600_000));
          if (random(2) === 0) storage.prefetch(random(content.length), random(3 * MiB));
          const n = await storage.read(at, into);
          expect(n).toBe(Math.min(into.length, content.length - at));
          expect(Buffer.compare(into.subarray(0, n), content.subarray(at, at + n))).toBe(0);
        }),
      );
      storage.close();
    }
  });

  it('asks for what it has not, once, and fetches ahead of reads in order', async () => {
    const storage = await open();
    expect(server.requests.length).toBe(1);
    await storage.read(0, new Uint8Array(65536));
    await storage.read(100_000, new Uint8Array(1000));
    expect(server.requests.length).toBe(1);
    await Promise.all([1, 2, 3].map((i) => storage.read(MiB + i, new Uint8Array(5000))));
    expect(server.requests.length).toBe(2);
    storage.close();
    const another = await open();
    server.reset();
    await readAll(another, 65536);
    expect(server.requests.length).toBeLessThan(12);
    expect(server.sent).toBeLessThan(content.length * 1.1);
    another.close();
  });

  it('opens an empty file, and says what is not there or not given', async () => {
    const empty = await open({}, server.url('empty'));
    expect(empty.size).toBe(0);
    empty.close();
    await expect(open({}, server.url('none'))).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(server.requests.length).toBe(2);
    server.reset(misbehaviours.forbidden);
    expect((await failure()).message).toMatch(/403/);
  });

  it('needs no HEAD', async () => {
    server.reset(misbehaviours.headRefused);
    expect((await open()).size).toBe(content.length);
  });

  it.each([
    ['noRanges', 'REFUSED', /whole files only .*download it first/],
    ['wrongContentRange', 'IO', /bytes 512 to \d+ to a request for 0 to/],
    ['noContentRange', 'IO', /no Content-Range/],
    ['gzip', 'REFUSED', /encodes what it sends \(gzip\)/],
    ['otherSize', 'IO', /has changed on the server/],
    ['otherETag', 'IO', /has changed on the server/],
    ['endless', 'IO', /sends more than it was asked for/],
  ] as const)('fails at once: %s', async (name, code, message) => {
    server.reset(misbehaviours[name]);
    const error = await failure();
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
    expect(server.requests.length).toBeLessThanOrEqual(2);
  });

  it.each([
    ['always503', /status 503 \(5 times\)/],
    ['silent', /no byte came for 300 ms \(5 times\)/],
  ] as const)('gives up after some attempts: %s', async (name, message) => {
    server.reset(misbehaviours[name]);
    expect(await failure()).toMatchObject({ code: 'IO', message: expect.stringMatching(message) });
    expect(server.requests.length).toBe(5);
  });

  it.each(['truncated', 'shortChunked', 'twice503'] as const)('gets over %s', async (name) => {
    let bad = 0;
    server.reset((asked) => {
      if (name === 'twice503') return misbehaviours.twice503(asked);
      // Every second answer is a good one.
      return bad++ % 2 === 0 && misbehaviours[name](asked);
    });
    const storage = await open();
    expect(Buffer.compare(await readAll(storage, MiB), content)).toBe(0);
    storage.close();
  });

  it('follows redirections, and sends no secrets to another server', async () => {
    const other = new RangeServer({ 'moved.raw': content });
    await other.open();
    server.reset(({ response }) => {
      response.writeHead(302, { Location: other.url('moved.raw') }).end();
      return true;
    });
    const url = server.url('disk.raw').replace('//', '//user:secret@');
    const storage = await open({ headers: { 'X-Key': 'k' } }, url);
    expect(Buffer.compare(await readAll(storage, MiB), content)).toBe(0);
    expect(server.requests.length).toBe(1);
    expect(server.requests[0]!.headers.authorization).toBe(`Basic ${btoa('user:secret')}`);
    expect(other.requests.map(({ headers }) => headers.authorization)).not.toContain(
      server.requests[0]!.headers.authorization,
    );
    storage.close();
    await expect(open({ redirects: false })).rejects.toThrow(/redirection/);
    await other.close();
  });

  it('reads allowed URLs only, and follows no redirection to others', async () => {
    const other = new RangeServer({ 'disk.raw': content });
    await other.open();
    const allowedUrls = [server.url('folder')];
    expect(await failure({ allowedUrls: [] })).toMatchObject({ code: 'REFUSED' });
    expect(await failure({ allowedUrls })).toMatchObject({ code: 'REFUSED' });
    expect(server.requests).toEqual([]);
    const storage = await open({ allowedUrls }, server.url('folder/other.raw'));
    expect([storage.size, storage.version]).toEqual([content.length, '"folder/other.raw-1"']);
    storage.close();
    const leads = [other.url('folder/disk.raw'), '/disk.raw', '/folder/../disk.raw', '/folderx'];
    for (const location of [...leads, `http://u:p@${server.origin.slice(7)}/folder/other.raw`]) {
      server.reset(({ response }) => {
        response.writeHead(302, { Location: location }).end();
        return true;
      });
      await expect(open({ allowedUrls }, server.url('folder/x')), location).rejects.toMatchObject({
        code: 'REFUSED',
        message: expect.stringMatching(/redirection/),
      });
      expect(server.requests).toHaveLength(1);
    }
    expect(other.requests).toEqual([]);
    await other.close();
  });

  it('goes back to the first address when the one it led to has expired', async () => {
    server.reset(({ request, response, index }) => {
      if (request.url === '/disk.raw') {
        response.writeHead(307, { Location: '/folder/other.raw' }).end();
        return true;
      }
      if (index !== 2) return false;
      response.writeHead(403).end();
      return true;
    });
    const storage = await open();
    expect(Buffer.compare(await readAll(storage, MiB), content)).toBe(0);
    storage.close();
  });

  it('shows neither user nor query in messages', async () => {
    const url = `${server.url('disk.raw').replace('//', '//user:pa%24s@')}?sig=token#here`;
    server.reset(misbehaviours.always503);
    const error = await open({}, url).catch((thrown: Error) => thrown);
    const texts = JSON.stringify([error, String(error), (error as Error).stack]);
    expect(texts).toContain(`${server.url('disk.raw')}?...`);
    expect(texts).not.toMatch(/user|pa%24s|pa\$s|token/);
  });

  it('ends with its signal and when it is closed', async () => {
    const controller = new AbortController();
    server.reset(misbehaviours.silent);
    const opening = open({ signal: controller.signal, timeout: 20_000 });
    setTimeout(() => controller.abort(), 20);
    await expect(opening).rejects.toMatchObject({ code: 'ABORTED' });
    server.reset(({ index }) => index > 0);
    const storage = await open({ timeout: 20_000 });
    const reading = storage.read(3 * MiB, new Uint8Array(100));
    setTimeout(() => storage.close(), 20);
    await expect(reading).rejects.toMatchObject({ code: 'IO', message: /closed/ });
  });

  it('says at once that nobody listens', async () => {
    const gone = new RangeServer({});
    await gone.open();
    const url = gone.url('disk.raw');
    await gone.close();
    const began = performance.now();
    await expect(open({ retryDelay: 5000 }, url)).rejects.toThrow(/ECONNREFUSED/);
    expect(performance.now() - began).toBeLessThan(4000);
  });
});

it('takes http and https URLs only, and options in range', async () => {
  for (const url of ['file:///etc/passwd', 'disk.raw', 'http://', 'ftp://host/x'])
    await expect(HttpStorage.open(url)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  await expect(HttpStorage.open('http://h/', { blockBytes: 1 })).rejects.toThrow(/blockBytes/);
});

it('shows names without secrets', () => {
  expect(shownName('a/path?x')).toBe('a/path?x');
  expect(shownName('HTTPS://u:p@h:1/a@b?c=d')).toBe('HTTPS://h:1/a@b?...');
  expect(shownName('http://u:p/a?ss@h:x/')).toBe('http://...');
});

it('resolves names of images within their folders only', () => {
  const top = 'https://h/images/top.qcow2?...';
  const found = (name: string, folders = [top]) =>
    resolveUrl(name, top, folders.map(urlFolder))?.href;
  expect(found('base.qcow2')).toBe('https://h/images/base.qcow2');
  expect(found('sub/a b#?%.qcow2')).toBe('https://h/images/sub/a%20b%23%3F%25.qcow2');
  expect(found('https://h/images/x/base.qcow2')).toBe('https://h/images/x/base.qcow2');
  for (const name of [
    '../other/base.qcow2',
    '/etc/passwd',
    '//evil/images/base.qcow2',
    'sub/../../x',
    'https://evil/images/base.qcow2',
    'http://h/images/base.qcow2',
    'https://h:8443/images/base.qcow2',
    'https://u@h/images/base.qcow2',
    'https://h/images/base.qcow2?x',
    'https://h/images/..%2fbase.qcow2',
    'https://h/images/%2e%2e/base.qcow2',
    'http://[bad',
  ])
    expect(found(name), name).toBeUndefined();
  expect(found('https://evil/b/c.qcow2', [top, 'https://evil/b/'])).toBe('https://evil/b/c.qcow2');
});

it.each([
  ['https://h/a', 'https://h/a', true],
  ['https://h/a', 'https://h/a/b/c?x=1#y', true],
  ['https://h/a/', 'https://h/a/b', true],
  ['https://h', 'https://h/b', true],
  ['https://H:443/a', 'HTTPS://h/%61/../a/b', true],
  ['https://h/a', 'https://h/a/b/../c', true],
  ['https://h/a', 'https://h/ab', false],
  ['https://h/a/', 'https://h/a', false],
  ['https://h/a', 'http://h/a', false],
  ['https://h/a', 'https://h:8443/a', false],
  ['https://h/a', 'https://h.evil/a', false],
  ['https://h/a', 'https://evil/https://h/a', false],
  ['https://h/a', 'https://h@evil/a', false],
  ['https://h/a', 'https://evil\\@h/a', false],
  ['https://h/a', 'https://u@h/a', false],
  ['https://h/a', 'https://u:p@h/a/b', false],
  ['https://h/a', 'https://h/a/../b', false],
  ['https://h/a', 'https://h/a/%2e%2e/b', false],
  ['https://h/a', 'https://h/a/.%2E/b', false],
  ['https://h/a', 'https://h/a/..%2fb', false],
  ['https://h/a', 'https://h/a/..%252fb', false],
  ['https://h/a', 'https://h/a/%252e%252e/b', false],
  ['https://h/a', 'https://h/a/%2e%2e;%ff/b', false],
  ['https://h/a', 'https://h/a/.%25252e%3b%ff/b', false],
  ['https://h/a', 'https://h/a/..%2f%ff/b', false],
  ['https://h/a', 'https://h/a/..x/b', true],
  ['https://h/a', 'https://h/a/..%5cb', false],
  ['https://h/a', 'https://h/a/..;x/b', false],
  ['https://h/a', 'https://h/a\\..\\b', false],
])('of %s below it is %s: %s', (prefix, url, expected) => {
  expect(isBelowUrl(new URL(url), [parseUrlPrefix(prefix)])).toBe(expected);
});

it('what permits URLs must be one, without secrets', () => {
  for (const text of ['*', 'h/a', 'ftp://h/', 'https://u@h/a', 'https://h/a?b', 'https://h/a#'])
    expect(() => parseUrlPrefix(text), text).toThrow(/URL|permits nothing/);
});
