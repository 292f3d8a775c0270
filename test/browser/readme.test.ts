import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { BROWSER_NAMES, launch } from './browsers.ts';
import { StaticServer } from './server.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folder = makeTempDir('browser-readme');
const server = new StaticServer({ pages: folder, dist: join(root, 'dist') });

beforeAll(async () => {
  const readme = readFileSync(join(root, 'README.md'), 'utf8');
  const [, page = ''] = /^```html\n(.*?)^```$/ms.exec(readme) ?? [];
  // The package is where a server of the test has it.
  const served = page.replace('./node_modules/qcow2/dist/', '/dist/');
  expect(served).not.toBe(page);
  writeFileSync(join(folder, 'page.html'), served);
  writeFileSync(join(folder, 'disk.raw'), new Uint8Array(65536).fill(7));
  await server.open();
});

afterAll(async () => {
  await server.close();
  removeTempDir(folder);
});

test.each(BROWSER_NAMES)('the page of the README reads a file in %s', async (name) => {
  const browser = await launch(name);
  try {
    const page = await browser.open();
    await page.goto(`${server.origin}/pages/page.html`);
    await page.setFiles('#file', [join(folder, 'disk.raw')]);
    await page.waitFor(`document.querySelector('#out').textContent !== ''`);
    expect(await page.evaluate(`document.querySelector('#out').textContent`)).toMatch(
      /^raw, 65536 bytes: 7,7,7/,
    );
  } finally {
    await browser.close();
  }
});
