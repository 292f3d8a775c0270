import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { qemuImg, qemuIo } from '../oracle/tools.ts';
import { makeContent } from '../support/data.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { BROWSER_NAMES, launch, type TestBrowser, type TestPage } from './browsers.ts';
import { peakMemory } from './process-memory.ts';
import { StaticServer } from './server.ts';
import { digestOfStdout } from './stdout-digest.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folder = makeTempDir('convert-worker');
const folders = { dist: join(root, 'dist'), test: join(root, 'test/browser') };
const server = new StaticServer({ ...folders, images: folder });
/** Another host, from whose files the package may be loaded. */
const elsewhere = new StaticServer(folders, { 'Access-Control-Allow-Origin': '*' });

const FILES = [
  'disk.raw',
  'deflate.qcow2',
  'zstd.qcow2',
  'overlay.qcow2',
  'large.qcow2',
  'sparse.qcow2',
];

/** What is converted: the request, and the words of the command line for it. */
const CONVERSIONS = [
  [{ name: 'deflate.qcow2', format: 'raw' }, ['-O', 'raw']],
  [{ name: 'zstd.qcow2', format: 'qcow2' }, ['-O', 'qcow2']],
  [{ name: 'disk.raw', format: 'qcow2', compress: true }, ['-c', '-O', 'qcow2']],
  [
    {
      name: 'overlay.qcow2',
      files: ['zstd.qcow2'],
      format: 'qcow2',
      compress: true,
      create: { compressionType: 'zstd' },
    },
    ['-c', '-O', 'qcow2', '-o', 'compression_type=zstd'],
  ],
] as const;

/** Of 2 GiB. */
const DATA_BYTES = 256 << 20;

interface Written {
  size: number;
  bytes: number;
  memoryBytes: number;
}

beforeAll(async () => {
  await qemuImg(['create', '-q', '-f', 'qcow2', 'sparse.qcow2', '2G'], folder);
  const places = [0, 1, 2, 3].map((index) => `write -q -P ${index + 1} ${index * 512}M 64M`);
  await qemuIo('sparse.qcow2', places, folder);
  writeFileSync(join(folder, 'disk.raw'), makeContent('mixed', 8 << 20, 3));
  const convert = (...args: string[]) => qemuImg(['convert', '-f', 'raw', ...args], folder);
  const zstd = ['-o', 'compression_type=zstd'];
  await convert('-c', '-O', 'qcow2', 'disk.raw', 'deflate.qcow2');
  await convert('-c', '-O', 'qcow2', ...zstd, 'disk.raw', 'zstd.qcow2');
  await qemuImg(
    ['create', '-q', '-f', 'qcow2', '-b', 'zstd.qcow2', '-F', 'qcow2', 'overlay.qcow2'],
    folder,
  );
  writeFileSync(join(folder, 'large.raw'), makeContent('random', 48 << 20, 5));
  await convert('-O', 'qcow2', 'large.raw', 'large.qcow2');
  await server.open();
  await elsewhere.open();
});

afterAll(async () => {
  await server.close();
  await elsewhere.close();
  removeTempDir(folder);
});

describe.each(BROWSER_NAMES)('%s', (name) => {
  let browser: TestBrowser;
  let page: TestPage;

  beforeAll(async () => {
    browser = await launch(name);
    page = await browser.open();
    await goto();
  });
  afterAll(() => browser?.close());

  async function goto(policy?: string): Promise<void> {
    const query = policy === undefined ? '' : `?policy=${encodeURIComponent(policy)}`;
    await page.goto(`${server.origin}/test/page.html${query}`);
    await page.setFiles(
      '#files',
      FILES.map((file) => join(folder, file)),
    );
  }

  /** Calls a function of save-page.js. */
  function call<T>(name: string, ...args: unknown[]): Promise<T> {
    const list = args.map((arg) => JSON.stringify(arg)).join();
    return page.evaluate<T>(`import('/test/save-page.js').then((page) => page.${name}(${list}))`);
  }

  test.each(CONVERSIONS)('%j gives the bytes of the command line', async (request, words) => {
    const { bytes, sha256 } = await digestOfStdout([...words, request.name, '-'], folder);
    const result = await call<Record<string, unknown>>('bothWays', request);
    expect(result).toMatchObject({
      digests: [sha256, sha256, sha256],
      lengths: [bytes, bytes, bytes, bytes],
      backend: 'wasm-simd',
      last: true,
      isCalm: true,
    });
    expect(await call('ownFiles')).toEqual([]);
  });

  test('reads an image on a server', async () => {
    const { bytes, sha256 } = await digestOfStdout(['-O', 'raw', 'overlay.qcow2', '-'], folder);
    const request = { url: '/images/overlay.qcow2', files: ['zstd.qcow2'], format: 'raw' };
    expect(await call('count', request)).toMatchObject({ received: bytes, sha256 });
  });

  test('what is not given is not read, and what cannot be is told as in the page', async () => {
    const raw = { name: 'overlay.qcow2', format: 'raw' };
    expect(await call('count', raw)).toEqual({
      code: 'EXTERNAL_REFUSED',
      message:
        "backing file 'zstd.qcow2' named by 'overlay.qcow2' is not opened: give it in files, under this name",
    });
    const compressed = { name: 'disk.raw', format: 'raw', compress: true };
    expect(await call('count', compressed)).toMatchObject({ code: 'REFUSED' });
    expect(await call('ontoItself')).toMatchObject({ code: 'REFUSED' });
  });

  test.each(['file', 'stream'])('is aborted at once, and leaves no %s', async (to) => {
    const request = {
      name: 'large.qcow2',
      format: 'qcow2',
      compress: true,
      compressionLevel: 'best',
    };
    const { milliseconds, ...rest } = await call<{ milliseconds: number }>(
      'abortHalfway',
      request,
      to,
    );
    expect(rest).toEqual({
      code: 'ABORTED',
      ended: to === 'stream' ? 'ABORTED' : 'not at all',
      later: 0,
      left: [],
    });
    expect(milliseconds).toBeLessThan(100);
  });

  test.each([false, true])(
    'takes no more memory for a large image, stream %s',
    async (isStream) => {
      const request = { name: 'sparse.qcow2', format: 'qcow2' };
      // The engine's own start, and what the first pieces take, are not the image's.
      await call('toFile', { ...request, range: { offset: 0, length: 32 << 20 } }, isStream);
      const work = () => call<Written>('toFile', request, isStream);
      const { before, peak, result } = await peakMemory(work);
      expect(result.size).toBe(result.bytes);
      expect(result.bytes).toBeGreaterThan(DATA_BYTES);
      expect(result.memoryBytes).toBeLessThan(16 << 20);
      expect(peak - before).toBeLessThan(64 << 20);
    },
  );

  test('needs no isolation, and may come from another host', async () => {
    expect(await page.evaluate('crossOriginIsolated')).toBe(false);
    const request = { name: 'disk.raw', format: 'raw' };
    const workerUrl = `${elsewhere.origin}/dist/browser/worker.js`;
    const sha256 = createHash('sha256')
      .update(makeContent('mixed', 8 << 20, 3))
      .digest('hex');
    expect(await call('count', request, { workerUrl })).toMatchObject({ sha256 });
    expect(elsewhere.requested).toContain('/dist/browser/worker.js');
    const asFile = { workerUrl: '/dist/browser/worker.js', worker: 'file' };
    expect(await call('count', request, asFile)).toMatchObject({ sha256, backend: 'wasm-simd' });
    expect(await call('count', request, { worker: 'file' })).toMatchObject({ sha256 });
  });

  describe('a content security policy', () => {
    const request = { name: 'deflate.qcow2', format: 'raw' };
    const workerUrl = (policy: string) =>
      `/dist/browser/worker.js?policy=${encodeURIComponent(policy)}`;

    test('of the least that the default needs', async () => {
      await goto(
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:",
      );
      expect(await call('count', request)).toMatchObject({
        received: 8 << 20,
        backend: 'wasm-simd',
      });
    });

    test('without WebAssembly', async () => {
      await goto("default-src 'none'; script-src 'self'; worker-src 'self' blob:");
      expect(await call('count', request)).toMatchObject({ received: 8 << 20, backend: 'js' });
    });

    test('without blobs wants the worker as a file', async () => {
      await goto("default-src 'none'; script-src 'self'");
      expect(await call('count', request)).toEqual({
        code: 'IO',
        message:
          "The worker failed: it could not be loaded; check that its file can be fetched and that the content security policy allows it (worker-src blob:, or worker: 'file')",
      });
      const strict = workerUrl("default-src 'none'");
      expect(await call('count', request, { worker: 'file', workerUrl: strict })).toMatchObject({
        received: 8 << 20,
        backend: 'js',
      });
      await goto();
      const how = { worker: 'file', workerUrl: strict };
      expect(await call('countWithModule', request, how)).toMatchObject(
        name === 'chromium' ? { received: 8 << 20, backend: 'wasm-simd' } : { code: 'UNSUPPORTED' },
      );
      const open = workerUrl("script-src 'wasm-unsafe-eval'");
      expect(await call('count', request, { worker: 'file', workerUrl: open })).toMatchObject({
        received: 8 << 20,
        backend: 'wasm-simd',
      });
    });
  });
});
