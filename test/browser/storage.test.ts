import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeContent } from '../support/data.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { BROWSER_NAMES, launch, type TestBrowser, type TestPage } from './browsers.ts';
import { StaticServer } from './server.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folder = makeTempDir('browser-storage');
const server = new StaticServer({
  dist: join(root, 'dist'),
  test: join(root, 'test/browser'),
});

beforeAll(async () => {
  writeFileSync(join(folder, 'disk.raw'), makeContent('mixed', 24 << 20, 3));
  await server.open();
});

afterAll(async () => {
  await server.close();
  removeTempDir(folder);
});

describe.each(BROWSER_NAMES)('%s', (name) => {
  let browser: TestBrowser;
  let page: TestPage;

  beforeAll(async () => {
    browser = await launch(name);
    page = await browser.open();
    await page.goto(`${server.origin}/test/page.html`);
    await page.setFiles('#files', [join(folder, 'disk.raw')]);
  });
  afterAll(() => browser?.close());

  /** Posts a request to the worker and returns its answer. */
  function ask<T>(request: string): Promise<T> {
    return page.evaluate<T>(`new Promise((resolve, reject) => {
      const worker = new Worker('/test/storage-page.js', { type: 'module' });
      worker.onmessage = ({ data }) => (data.error ? reject(new Error(data.error)) : resolve(data.result));
      worker.onerror = ({ message }) => reject(new Error(message));
      worker.postMessage(${request});
    })`);
  }

  test('a file of the page is written and read in place', async () => {
    expect(await ask(`{ file: document.querySelector('#files').files[0] }`)).toEqual({
      identical: true,
      corruptions: 0,
      leaks: 0,
      nines: true,
      last: 9,
    });
  });

  test('a file that is open, and one that is closed, are refused in one line', async () => {
    const { twice, closed } = await ask<{ twice: string; closed: string }>('{}');
    expect(twice).toMatch(/^IO: Could not open 'other\.qcow2': .+$/);
    expect(closed).toMatch(/^IO: Could not read 'other\.qcow2': .+$/);
  });

  test('outside of a worker a file of the page is not opened in place', async () => {
    const code = `import('/dist/index.js').then(({ OpfsStorage }) =>
      OpfsStorage.open({ name: 'disk.qcow2' }).catch(({ code }) => code))`;
    expect(await page.evaluate(code)).toBe('UNSUPPORTED');
  });
});
