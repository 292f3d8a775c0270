import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FIRST_BOOT, makeBootImage, NEXT_BOOT } from '../adapters/boot-image.ts';
import { qemuImg, qemuIo } from '../oracle/tools.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { BROWSER_NAMES, launch, type TestBrowser, type TestPage } from './browsers.ts';
import { StaticServer } from './server.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folder = makeTempDir('browser-v86');
const example = join(folder, 'examples/v86');
const server = new StaticServer({
  dist: join(root, 'dist'),
  test: join(root, 'test/browser'),
  v86: join(root, 'node_modules/v86/build'),
  node_modules: join(root, 'node_modules'),
  seabios: '/usr/share/seabios',
  examples: join(folder, 'examples'),
  disks: folder,
});

beforeAll(async () => {
  writeFileSync(join(folder, 'disk.qcow2'), await makeBootImage());
  await qemuImg(['create', '-q', '-f', 'qcow2', 'large.qcow2', '64M'], folder);
  await qemuIo('large.qcow2', ['write -P 7 0 64M'], folder);
  // As its README says: the BIOS is copied beside the page.
  mkdirSync(join(example, 'bios'), { recursive: true });
  for (const name of ['index.html', 'main.js', 'style.css'])
    copyFileSync(join(root, 'examples/v86', name), join(example, name));
  for (const name of ['bios.bin', 'vgabios-stdvga.bin'])
    copyFileSync(join('/usr/share/seabios', name), join(example, 'bios', name));
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
  });
  afterAll(() => browser?.close());

  test('boots a compressed image, and again from the overlay it saved', async () => {
    await page.goto(`${server.origin}/test/page.html`);
    await page.setFiles('#files', [join(folder, 'disk.qcow2')]);
    const { before, after, overlay } = await page.evaluate<Record<string, string>>(
      `import('/test/v86-page.js').then((page) => page.bootTwice('disk.qcow2'))`,
    );
    expect({ before, after }).toEqual({ before: FIRST_BOOT, after: NEXT_BOOT });
    const file = `${name}.qcow2`;
    writeFileSync(join(folder, file), Buffer.from(overlay!, 'hex'));
    await qemuImg(['check', file], folder);
  });

  test('the example boots an image at a URL, of which it fetches what it reads', async () => {
    await page.goto(`${server.origin}/examples/v86/index.html`);
    await page.evaluate(
      `(document.querySelector('#url').value = '${server.origin}/disks/disk.qcow2', null)`,
    );
    await page.click('#choose button');
    await page.waitFor(`document.querySelector('#serial').textContent.includes('done')`);
    expect(await page.evaluate(`document.querySelector('#serial').textContent`)).toBe(FIRST_BOOT);
    await page.click('#stop');
    await page.waitFor(`document.querySelector('#status').textContent === 'Stopped'`);
  });

  test('4 KiB in the middle of an image at a URL cost less than 1 MB', async () => {
    await page.goto(`${server.origin}/test/page.html`);
    const { matches, fetched, requests } = await page.evaluate<
      Record<string, number | boolean>
    >(`(async () => {
      const { HttpStorage, Image } = await import('/dist/index.js');
      performance.setResourceTimingBufferSize(1000);
      const storage = await HttpStorage.open('${server.origin}/disks/large.qcow2');
      const image = await Image.open(storage);
      const bytes = new Uint8Array(4096);
      await image.read(32 << 20, bytes);
      await image.close();
      const entries = performance.getEntriesByType('resource');
      const fetched = entries
        .filter(({ name }) => name.endsWith('large.qcow2'))
        .reduce((sum, { encodedBodySize }) => sum + encodedBodySize, 0);
      return { matches: bytes.every((byte) => byte === 7), fetched, requests: storage.requests };
    })()`);
    expect(matches).toBe(true);
    expect(requests).toBeLessThan(10);
    expect(fetched).toBeGreaterThan(4096);
    expect(fetched).toBeLessThan(1_000_000);
  });

  test('the example boots a picked image', async () => {
    await page.goto(`${server.origin}/examples/v86/index.html`);
    await page.setFiles('#files', [join(folder, 'disk.qcow2')]);
    await page.click('#choose button');
    await page.waitFor(`document.querySelector('#serial').textContent.includes('done')`);
    expect(await page.evaluate(`document.querySelector('#serial').textContent`)).toBe(FIRST_BOOT);
    await page.click('#stop');
    await page.waitFor(`document.querySelector('#status').textContent === 'Stopped'`);
    expect(server.missing).toEqual([]);
  });
});
