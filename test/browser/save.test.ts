import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'vite';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { offlineBuild } from '../../web/save/offline-build.js';
import { qemuImg } from '../oracle/tools.ts';
import { makeContent } from '../support/data.ts';
import { sha256File } from '../support/digest.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { BROWSER_NAMES, launch, type TestBrowser, type TestPage } from './browsers.ts';
import { peakMemory } from './process-memory.ts';
import { StaticServer } from './server.ts';
import { digestOfStdout } from './stdout-digest.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folder = makeTempDir('save');
const here = (path: string): string => join(root, 'test/browser/save', path);
const RAW_BYTES = 8 << 20;
const HUGE_BYTES = 512 << 20;
/** What browsers take and give back as they like while they save; far below what they save. */
const MOST_GROWTH = 192 << 20;

function makeHuge(path: string): void {
  const file = openSync(path, 'w');
  ftruncateSync(file, HUGE_BYTES);
  const data = makeContent('random', 1 << 20, 7);
  for (let at = 0; at < HUGE_BYTES; at += 64 << 20) writeSync(file, data, 0, data.length, at);
  closeSync(file);
}

let huge: { bytes: number; sha256: string };

beforeAll(async () => {
  writeFileSync(join(folder, 'disk.raw'), makeContent('mixed', RAW_BYTES, 3));
  await qemuImg(['convert', '-c', '-f', 'raw', '-O', 'qcow2', 'disk.raw', 'disk.qcow2'], folder);
  const below = ['-b', 'disk.qcow2', '-F', 'qcow2'];
  await qemuImg(['create', '-q', '-f', 'qcow2', ...below, 'overlay.qcow2'], folder);
  writeFileSync(join(folder, 'large.raw'), makeContent('random', 48 << 20, 5));
  makeHuge(join(folder, 'huge.raw'));
  huge = await digestOfStdout(['-f', 'raw', '-O', 'raw', 'huge.raw', '-'], folder);
  await build({
    configFile: false,
    logLevel: 'error',
    root: here(''),
    base: './',
    worker: { format: 'es' },
    plugins: [offlineBuild()],
    build: {
      outDir: join(folder, 'page'),
      target: 'es2022',
      rollupOptions: {
        input: { index: here('index.html'), 'service-worker': join(root, 'web/service-worker.ts') },
        output: {
          entryFileNames: ({ name }) =>
            name === 'service-worker' ? '[name].js' : 'assets/[name]-[hash].js',
        },
      },
    },
  });
});

afterAll(() => removeTempDir(folder));

describe.each(BROWSER_NAMES)('%s', (name) => {
  const downloads = join(folder, `${name}-downloads`);
  const server = new StaticServer({
    page: join(folder, 'page'),
    elsewhere: join(root, 'test/browser'),
  });
  let browser: TestBrowser;
  let page: TestPage;

  beforeAll(async () => {
    mkdirSync(downloads);
    await server.open();
    browser = await launch(name, downloads);
    page = await browser.open();
  });
  afterAll(async () => {
    await browser?.close();
    await server.close();
  });

  async function goto(query = ''): Promise<void> {
    await page.goto(`${server.origin}/page/index.html${query}`);
    await page.evaluate('window.ready');
    const files = ['disk.raw', 'disk.qcow2', 'overlay.qcow2', 'large.raw', 'huge.raw'];
    await page.setFiles(
      '#files',
      files.map((file) => join(folder, file)),
    );
  }

  const save = <T = unknown>(...args: unknown[]): Promise<T> =>
    page.evaluate(`window.save(...${JSON.stringify(args)})`);
  /** Files of the page, those that wait to be copied last. */
  const ownFiles = (): Promise<string[]> =>
    page.evaluate(`(async () => {
      const root = await navigator.storage.getDirectory();
      const names = [];
      for await (const [name, { kind }] of root) if (kind === 'file') names.push(name);
      for await (const name of (await root.getDirectoryHandle('saved')).keys()) names.push(name);
      return names;
    })()`);
  /** How a browser without a dialog saves. */
  const where = name === 'firefox' ? 'opfs' : 'download';

  const request = { format: 'raw', compress: false, suggestedName: 'näme (1).raw' };

  test('downloads what the command line makes, front to back', async () => {
    await goto();
    const { bytes, sha256 } = await digestOfStdout(['-O', 'raw', 'overlay.qcow2', '-'], folder);
    expect(await save(['overlay.qcow2', 'disk.qcow2'], request)).toEqual({
      name: request.suggestedName,
      bytes,
      sha256,
      where,
    });
    await vi.waitFor(() => expect(digests(downloads)).toContain(sha256), { timeout: 10_000 });
    // The other browser is driven by what gives its downloads names of its own.
    if (name === 'firefox') expect(readdirSync(downloads)).toContain(request.suggestedName);
  });

  test('an aborted download makes no file', async () => {
    await goto();
    const before = digests(downloads);
    const aborted = await save(['large.raw'], request, 0.3);
    expect(aborted).toEqual({
      code: 'ABORTED',
      message: 'the conversion was aborted',
      isQuick: true,
    });
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(digests(downloads)).toEqual(before);
    expect(readdirSync(downloads).filter((file) => file.endsWith('.part'))).toEqual([]);
    await vi.waitFor(async () => expect(await ownFiles()).toEqual([]));
  });

  test('writes to a picked file, and removes it when it is aborted', async () => {
    await goto('?picker');
    const compressed = { format: 'qcow2', compress: true, suggestedName: 'picked.qcow2' };
    const words = ['-c', '-O', 'qcow2', 'disk.raw', '-'];
    const { bytes, sha256 } = await digestOfStdout(words, folder);
    expect(await save(['disk.raw'], compressed)).toEqual({
      name: 'picked.qcow2',
      bytes,
      sha256,
      where: 'picker',
    });
    expect(await ownFiles()).toEqual(['picked.qcow2']);
    const other = { ...compressed, suggestedName: 'other.qcow2' };
    expect(await save(['large.raw'], other, 0.3)).toMatchObject({ code: 'ABORTED', isQuick: true });
    if (name === 'chromium') expect(await ownFiles()).toEqual(['picked.qcow2']);
    expect(await save(['disk.raw'], { ...other, suggestedName: '' })).toMatchObject({
      code: 'ABORTED',
      message: 'no file was chosen to save the image in',
    });
  });

  test('keeps it in the page where nothing else is possible', async () => {
    await goto('?none');
    const { bytes, sha256 } = await digestOfStdout(['-O', 'raw', 'disk.qcow2', '-'], folder);
    const plain = { ...request, suggestedName: 'own.raw' };
    expect(await save(['disk.qcow2'], plain)).toEqual({
      name: 'own.raw',
      bytes,
      sha256,
      where: 'opfs',
    });
    const copies = () => digests(downloads).filter((digest) => digest === sha256).length;
    await vi.waitFor(() => expect(copies()).toBe(2), { timeout: 10_000 });
  });

  test('streams what it has no room for, and says that the browser may hold it', async () => {
    await goto('?full');
    const { sha256 } = await digestOfStdout(['-O', 'raw', 'disk.qcow2', '-'], folder);
    expect(await save(['disk.qcow2'], request)).toMatchObject({ sha256, where: 'download' });
    expect(await page.evaluate('window.held')).toBe(name === 'firefox' ? 1 : 0);
    await goto('?asks');
    expect(await save(['disk.qcow2'], request)).toMatchObject({ sha256, where });
    expect(await page.evaluate('window.held')).toBe(0);
    // Nobody answers.
    await goto('?waits');
    expect(await save(['large.raw'], request, 0)).toMatchObject({ code: 'ABORTED', isQuick: true });
    await goto('?full&none');
    expect(await save(['disk.qcow2'], request)).toMatchObject({
      code: 'IO',
      message: expect.stringMatching(
        /^this browser gives the page no place to save 8388608 bytes: /,
      ),
    });
  });

  test('what a closed page has left is removed, what another page writes is not', async () => {
    await goto();
    const other = await browser.open();
    await other.goto(`${server.origin}/page/index.html`);
    await other.evaluate(`(async () => {
      await window.ready;
      const root = await navigator.storage.getDirectory();
      const folder = await root.getDirectoryHandle('saved');
      for (const name of ['left', 'held']) await folder.getFileHandle(name, { create: true });
      await new Promise((resolve) => {
        navigator.locks.request('saved/held', () => {
          resolve();
          return new Promise(() => {});
        });
      });
    })()`);
    await goto();
    expect(await ownFiles()).toContain('held');
    expect(await ownFiles()).not.toContain('left');
    await other.goto('about:blank');
    await vi.waitFor(
      async () => {
        await goto();
        expect(await ownFiles()).not.toContain('held');
      },
      { timeout: 10_000 },
    );
  });

  const ways = name === 'firefox' ? [''] : ['', '?none'];
  test.each(ways)('downloads 512 MiB and holds none of it: index.html%s', async (way) => {
    await goto(way);
    const named = { ...request, suggestedName: 'huge.raw' };
    const found = () => wholeFiles(downloads).filter((file) => statSync(file).size === HUGE_BYTES);
    const { before, peak } = await peakMemory(async () => {
      expect(await save(['huge.raw'], named)).toMatchObject(huge);
      await vi.waitFor(() => expect(found()).toHaveLength(1), { timeout: 60_000 });
    });
    const [file] = found();
    expect(sha256File(file!)).toBe(huge.sha256);
    rmSync(file!);
    expect(peak - before).toBeLessThan(MOST_GROWTH);
  });

  test('writes 512 MiB to a picked file, and holds none of it', async () => {
    await goto('?picker');
    const work = () => save(['huge.raw'], { ...request, suggestedName: 'huge.raw' });
    const { before, peak, result } = await peakMemory(work);
    expect(result).toMatchObject({ ...huge, where: 'picker' });
    expect(peak - before).toBeLessThan(MOST_GROWTH);
  });

  test('works without the network, once it was loaded', async () => {
    await goto();
    server.requested.length = 0;
    const { origin } = server;
    await server.close();
    await page.goto(`${origin}/page/`);
    await page.evaluate('window.ready');
    await page.setFiles('#files', [join(folder, 'disk.qcow2')]);
    const sha256 = sha256File(join(folder, 'disk.raw'));
    expect(await save(['disk.qcow2'], request)).toMatchObject({ sha256, where });
    await server.open(Number(new URL(origin).port));
  });

  test('another build takes the place of the one before', async () => {
    const caches = () => page.evaluate<string[]>('caches.keys()');
    const [before] = await caches();
    expect(before).toMatch(/^qcow2-page-[0-9a-f]{16}$/);
    const path = join(folder, 'page/service-worker.js');
    const built = readFileSync(path, 'utf8');
    writeFileSync(path, built.replace(before!.slice(-16), '0123456789abcdef'));
    try {
      // It waits until no page of the one before is open.
      await page.evaluate(`new Promise(async (resolve) => {
        const own = await navigator.serviceWorker.getRegistration();
        await own.update();
        const look = () => own.waiting ? resolve() : setTimeout(look, 20);
        look();
      })`);
      expect(await caches()).toHaveLength(2);
      // Firefox lets the one before idle for half a minute first.
      if (name === 'firefox') return;
      await vi.waitFor(
        async () => {
          await page.goto(`${server.origin}/elsewhere/page.html`);
          expect(await caches()).toEqual(['qcow2-page-0123456789abcdef']);
        },
        { timeout: 10_000, interval: 200 },
      );
      await goto();
    } finally {
      writeFileSync(path, built);
    }
  });

  test('requests that are not its own are left alone', async () => {
    await goto();
    server.requested.length = 0;
    const status = (url: string) => page.evaluate(`fetch('${url}').then(({ status }) => status)`);
    expect(await status('index.html?x')).toBe(200);
    expect(server.requested).toEqual([]);
    expect(await status('none.html')).toBe(404);
    expect(await status('/elsewhere/page.html')).toBe(200);
    expect(server.requested).toEqual(['/page/none.html', '/elsewhere/page.html']);
  });
});

/** Of the whole files in a folder. */
function digests(path: string): string[] {
  return wholeFiles(path).map(sha256File);
}

/** Without the parts that browsers have of files that they have not ended, or keep of what broke off. */
function wholeFiles(path: string): string[] {
  return readdirSync(path)
    .filter((file) => !/\.(part|crdownload)$/.test(file))
    .map((file) => join(path, file))
    .filter((file) => statSync(file).size > 0);
}
