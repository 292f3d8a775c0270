import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { qemuImg, qemuIo } from '../oracle/tools.ts';
import { makeContent } from '../support/data.ts';
import { sha256File } from '../support/digest.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { launchBrowser } from './launch.ts';
import { StaticServer } from './server.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folder = makeTempDir('browser-example');
const server = new StaticServer({ dist: join(root, 'dist'), examples: join(root, 'examples') });
let browser: Browser;
let page: Page;

beforeAll(async () => {
  writeFileSync(join(folder, 'base.raw'), makeContent('mixed', 6 << 20, 8));
  await qemuImg(['convert', '-f', 'raw', '-c', '-O', 'qcow2', 'base.raw', 'base.qcow2'], folder);
  const over = ['-b', 'base.qcow2', '-F', 'qcow2', 'overlay.qcow2', '8M'];
  await qemuImg(['create', '-q', '-f', 'qcow2', ...over], folder);
  await qemuIo('overlay.qcow2', ['write -P 7 1M 512k', 'write -z 2M 1M'], folder);
  await qemuImg(['convert', '-O', 'raw', 'overlay.qcow2', 'disk.raw'], folder);
  await server.open();
  browser = await launchBrowser();
  page = await browser.newPage({ viewport: { width: 1000, height: 900 } });
  await page.goto(`${server.origin}/examples/browser/index.html`);
});

afterAll(async () => {
  await browser?.close();
  await server.close();
  removeTempDir(folder);
});

async function choose(...names: string[]): Promise<void> {
  await page.setInputFiles(
    '#files',
    names.map((name) => join(folder, name)),
  );
}

test('shows what is in an image', async () => {
  await choose('base.qcow2', 'overlay.qcow2');
  await page.waitForSelector('#result:not([hidden])');
  expect(await page.textContent('#name')).toBe('overlay.qcow2');
  expect(await page.textContent('#facts')).toMatch(/qcow2 \(1\.1, zlib\).*8 MiB.*base\.qcow2/);
  expect(await page.textContent('#legend')).toMatch(/data of a backing file: .*never written: /);
  expect(await page.textContent('#check')).toBe('No errors were found.');
  expect(server.missing).toEqual([]);
});

test('converts it to a file that can be saved', async () => {
  await page.selectOption('#target', 'raw');
  await page.click('#convert button[type=submit]');
  await page.waitForSelector('#download a');
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('#download a')]);
  expect(download.suggestedFilename()).toBe('overlay-converted.raw');
  const digest = createHash('sha256').update(readFileSync(await download.path()));
  expect(digest.digest('hex')).toBe(sha256File(join(folder, 'disk.raw')));
});

test('says which file is missing', async () => {
  await choose('overlay.qcow2');
  await page.waitForSelector('#error:not([hidden])');
  expect(await page.textContent('#error')).toContain("'base.qcow2'");
});
