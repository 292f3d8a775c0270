import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { folderOf, makeImage } from '../oracle/images.ts';
import { subject } from '../oracle/tools.ts';
import { sha256File } from '../support/digest.ts';
import { RangeServer } from '../support/http-server.ts';
import { describeRun } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { type BrowserImage, browserImages } from './images.ts';
import { launchBrowser } from './launch.ts';
import { StaticServer } from './server.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folder = makeTempDir('browser');
const server = new StaticServer({
  dist: join(root, 'dist'),
  test: join(root, 'test/browser'),
  images: folder,
});
let browser: Browser;

beforeAll(async () => {
  await server.open();
  [browser] = await Promise.all([
    launchBrowser(),
    ...browserImages.map(({ recipe }) => makeImage(recipe, folder)),
  ]);
});

afterAll(async () => {
  await browser?.close();
  await server.close();
  removeTempDir(folder);
});

async function openPage(query = ''): Promise<Page> {
  const page = await browser.newPage();
  await page.goto(`${server.origin}/test/page.html${query}`);
  return page;
}

/** Calls a function of page.js. */
function call<T>(page: Page, name: string, ...args: unknown[]): Promise<T> {
  // As text: what this file is compiled to must not reach the page.
  const list = args.map((arg) => JSON.stringify(arg)).join();
  return page.evaluate<T>(`import('/test/page.js').then((page) => page.${name}(${list}))`);
}

interface Examined {
  backend: string;
  info: object;
  map: { file?: string }[];
  check: object;
  measure: object;
  streamed: string;
  raw: string;
  qcow2: string;
  compressed: string;
}

async function cli(dir: string, ...args: string[]): Promise<string> {
  const result = await subject(args, dir);
  expect(result.status, describeRun(result)).toBe(0);
  return result.stdout;
}

/** What the command line says of an image, in the words of the API. */
async function expected({ recipe, snapshot }: BrowserImage): Promise<Partial<Examined>> {
  const dir = folderOf(recipe, folder);
  const of = snapshot === undefined ? [] : ['-l', snapshot];
  const convert = (...to: string[]) => cli(dir, 'convert', ...of, ...to);
  await Promise.all([
    convert('-O', 'raw', recipe.image, 'out.raw'),
    convert('-O', 'qcow2', recipe.image, 'out.qcow2'),
    convert('-c', '-O', 'qcow2', recipe.image, 'out-c.qcow2'),
  ]);
  return {
    raw: sha256File(join(dir, 'out.raw')),
    qcow2: sha256File(join(dir, 'out.qcow2')),
    compressed: sha256File(join(dir, 'out-c.qcow2')),
  };
}

async function digestOf({ stream }: { stream: ReadableStream<Uint8Array> }): Promise<string> {
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  return createHash('sha256').update(bytes).digest('hex');
}

/** What the same calls give in Node, over files. */
async function inNode({ recipe, snapshot }: BrowserImage): Promise<Partial<Examined>> {
  const { openImage, info, map, check, measure, toReadable } = await import(
    join(root, 'dist/node.js')
  );
  const path = join(folderOf(recipe, folder), recipe.image);
  const image = await openImage(path, snapshot === undefined ? {} : { snapshot });
  const entries = [];
  for await (const entry of map(image)) entries.push(entry);
  const result = {
    info: await info(image),
    map: entries,
    check: await check(image),
    measure: await measure(image, { format: 'qcow2' }),
    streamed: await digestOf(await toReadable(image, { format: 'qcow2', compress: true })),
  };
  await image.close();
  return result;
}

/** Names, and what only a file system knows, differ between a page and a file. */
function comparable({ info, map, ...others }: Partial<Examined>) {
  const own = { filename: '', actualSize: 0, fullBackingFilename: '' };
  return {
    info: { ...info, ...own },
    map: map?.map(({ file, ...entry }) => ({ ...entry, inFile: file !== undefined })),
    check: others.check,
    measure: others.measure,
    streamed: others.streamed,
  };
}

describe.each(browserImages)('$recipe.name', (image) => {
  const { recipe, ...files } = image;
  const { backingFiles = [], dataFile = [] } = files;
  const request = { ...files, image: recipe.image, folder: folderOf(recipe, '') };
  let page: Page;
  let facts: ReturnType<typeof comparable>;
  let digests: Partial<Examined>;

  beforeAll(async () => {
    [page, facts, digests] = await Promise.all([
      openPage(),
      inNode(image).then(comparable),
      expected(image),
    ]);
    const names = [recipe.image, ...backingFiles, ...[dataFile].flat()];
    const paths = names.map((name) => join(folderOf(recipe, folder), name));
    await page.setInputFiles('#files', paths);
  });

  afterAll(() => page?.close());

  test.each([
    ['wasm-simd', 'file'],
    ['wasm', 'bytes'],
    ['js', 'file'],
  ])('%s, from %s', async (backend, from) => {
    const examined = await call<Examined>(page, 'examine', { ...request, backend, from });
    expect(examined.backend).toBe(backend);
    expect(comparable(examined)).toEqual(facts);
    expect(examined).toMatchObject(digests);
  });
});

test('a page needs no isolation, and what it loads is there', async () => {
  server.requested.length = 0;
  const page = await openPage();
  const { isolated, sharedMemory, backend, exports } = await call<Record<string, unknown>>(
    page,
    'surroundings',
  );
  expect({ isolated, sharedMemory, backend }).toEqual({
    isolated: false,
    sharedMemory: 'undefined',
    backend: 'wasm-simd',
  });
  expect(exports).toContain('convert');
  expect(server.missing).toEqual([]);
  expect(server.requested.filter((path) => !/^\/(dist|test)\//.test(path))).toEqual([]);
  await page.close();
});

test('errors have their codes in a page', async () => {
  const page = await openPage();
  expect(await call(page, 'errors')).toEqual({
    path: 'INVALID_ARGUMENT',
    notQcow2: 'NOT_QCOW2',
    aborted: 'ABORTED',
    readOnly: 'INVALID_ARGUMENT',
  });
  await page.close();
});

test('a file nobody has given is named and not looked for', async () => {
  const chain = browserImages.find(({ backingFiles }) => backingFiles !== undefined);
  if (chain === undefined) throw new Error('no image with a backing file');
  const page = await openPage();
  const request = { image: chain.recipe.image, folder: folderOf(chain.recipe, ''), from: 'bytes' };
  expect(await call(page, 'refused', request)).toEqual({
    code: 'EXTERNAL_REFUSED',
    file: 'middle.qcow2',
  });
  await page.close();
});

test('a conversion is written to a file as it goes', async () => {
  const [image] = browserImages;
  if (image === undefined) throw new Error('no images');
  const page = await openPage();
  const request = { image: image.recipe.image, folder: folderOf(image.recipe, ''), from: 'bytes' };
  const { before, digest } = await call<{ before: number; digest: string }>(page, 'saved', request);
  expect({ before, digest }).toEqual({ before: 0, digest: (await expected(image)).qcow2 });
  await page.close();
});

test('a page reads an image on another server by ranges, which asks for no leave', async () => {
  const [image] = browserImages;
  if (image === undefined) throw new Error('no images');
  const path = join(folderOf(image.recipe, folder), image.recipe.image);
  const other = new RangeServer({ 'disk.qcow2': readFileSync(path) });
  await other.open();
  const page = await openPage();
  for (const exposed of ['', 'Content-Range, ETag']) {
    other.reset(({ response }) => {
      response.setHeader('Access-Control-Allow-Origin', '*');
      if (exposed !== '') response.setHeader('Access-Control-Expose-Headers', exposed);
      return false;
    });
    const raw = await call(page, 'overHttp', other.url('disk.qcow2'));
    expect(raw).toBe(sha256File(join(folderOf(image.recipe, folder), 'source.raw')));
    const methods = other.requests.map(({ method }) => method);
    expect(methods).not.toContain('OPTIONS');
    expect(methods.filter((method) => method === 'HEAD').length).toBe(exposed === '' ? 1 : 0);
  }
  await page.close();
  await other.close();
});

test('a worker of a page can do the same', async () => {
  const [image] = browserImages;
  if (image === undefined) throw new Error('no images');
  const page = await openPage();
  const request = { image: image.recipe.image, folder: folderOf(image.recipe, ''), from: 'bytes' };
  const { raw } = await call<Examined>(page, 'inWorker', 'examine', request);
  expect(raw).toBe(sha256File(join(folderOf(image.recipe, folder), 'source.raw')));
  await page.close();
});

test('a page that may not compile WebAssembly works without it', async () => {
  const page = await openPage(`?policy=${encodeURIComponent("script-src 'self'")}`);
  expect(await call(page, 'surroundings')).toMatchObject({ backend: 'js' });
  await page.close();
});

test('a page can compile the module itself', async () => {
  const page = await openPage();
  expect(await call(page, 'initialised')).toBe('wasm-simd');
  expect(readFileSync(join(root, 'dist/qcow2.wasm')).length).toBeGreaterThan(1000);
  await page.close();
});
