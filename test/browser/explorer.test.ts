import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sizeText } from '../../web/model/sizes.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { BROWSER_NAMES, launch, type TestBrowser } from './browsers.ts';
import { BASE_DATA, makeExplorerImages } from './explorer-images.ts';
import { AXE, buildExplorer, ExplorerPage } from './explorer-page.ts';
import { StaticServer } from './server.ts';
import { digestOfStdout } from './stdout-digest.ts';

const folder = makeTempDir('browser-explorer');
/** Below a path, as on a host with other pages. */
const server = new StaticServer({ some: join(folder, 'site'), images: folder });

let converted: { bytes: number; sha256: string };

beforeAll(async () => {
  await Promise.all([
    makeExplorerImages(folder).then(async () => {
      converted = await digestOfStdout(['-c', '-O', 'qcow2', 'overlay.qcow2', '-'], folder);
    }),
    buildExplorer(join(folder, 'site/explorer')),
    server.open(),
  ]);
});

afterAll(async () => {
  await server.close();
  removeTempDir(folder);
});

const SCHEMES = ['dark', 'light'] as const;
const TABS = [
  'structure',
  'files',
  'snapshots',
  'partitions',
  'bytes',
  'statistics',
  'check',
  'convert',
];

describe.each(BROWSER_NAMES)('%s', (name) => {
  let browser: TestBrowser;
  let explorer: ExplorerPage;

  beforeAll(async () => {
    browser = await launch(name);
    const page = await browser.open();
    explorer = new ExplorerPage(page, folder);
    await page.resize(1280, 900);
    await page.goto(`${server.origin}/some/explorer/index.html`);
  });
  afterAll(() => browser?.close());

  test('says at once that nothing is uploaded, and loads nothing from elsewhere', async () => {
    expect(await explorer.text('#welcome')).toContain('Nothing is uploaded.');
    const policy = await explorer.page.evaluate<string>(
      `document.querySelector('meta[http-equiv]').content`,
    );
    expect(policy).toMatch(/default-src 'self'; script-src 'self' 'wasm-unsafe-eval';/);
  });

  test('the map of 2 GiB is there within 2 seconds, with what each kind takes', async () => {
    expect(await explorer.open('overlay.qcow2', 'base.qcow2')).toBeLessThan(2000);
    expect(await explorer.text('#name')).toBe('overlay.qcow2');
    expect(await explorer.text('#map-caption')).toBe('Each cell is 64 KiB of the disk');
    const legend = await explorer.text('#legend li');
    expect(legend).toMatch(
      /data13 MiB0\.6 %.*shared with snapshots12 MiB.*backing file\d.*zeros64 MiB/,
    );
  });

  test('a summary, and each file that belongs to it', async () => {
    await explorer.shows('#summary', 'zlib');
    expect(await explorer.text('#summary div')).toMatch(
      /Disk size2 GiB.*Cluster size64 KiB.*compat 1\.1.*Compressionzlib.*Snapshots1.*Bitmaps1.*Files2/,
    );
    const files = await explorer.tab('files');
    expect(files).toMatch(/imageopenedoverlay\.qcow2.*backing filegiven by youbase\.qcow2/);
  });

  test('header fields, feature bits and extensions', async () => {
    const structure = await explorer.tab('structure');
    expect(structure).toMatch(/cluster_bits2016clusters of 64 KiB/);
    expect(structure).toMatch(/autoclear 0bitmapsset/);
    expect(structure).toMatch(/backing format 0xe2792aca, 5 bytesqcow2/);
  });

  test('snapshots and bitmaps', async () => {
    const snapshots = await explorer.tab('snapshots');
    expect(snapshots).toMatch(/1before\d{4}-\d\d-\d\d.*nightly64 KiBauto/);
  });

  test('partitions lead to their place on the map and in the bytes', async () => {
    expect(await explorer.tab('partitions')).toMatch(
      /GPT.*1EFI systemEFI system0x1000004 MiB2rootLinux0x8000001 GiB/,
    );
    await explorer.clickText('#panel-partitions button', 'root');
    await explorer.shows('#hex', '00800000');
    await explorer.shows('#inspector', 'Guest 0x800000');
    await explorer.clickText('#parts button', '1 EFI system');
    await explorer.shows('#hex', '00100000');
    await explorer.shows('#inspector', 'Partition1 EFI system');
  });

  test('the bytes are those of the disk, whatever file has them', async () => {
    const { offset, bytes } = BASE_DATA;
    const at = offset + 70000;
    const shown = await explorer.bytesAt(`0x${at.toString(16)}`);
    const from = at - (at % 16) - offset;
    expect(shown).toEqual(Buffer.from(bytes.subarray(from, from + 512)));
    expect(await explorer.bytesAt('66M')).toEqual(Buffer.alloc(512, 9));
    await explorer.page.click('#hex-back');
    await explorer.shows('#hex', '041ffe00');
    expect(await explorer.bytesAt('2 GiB')).toHaveLength(16);
  });

  test('statistics', async () => {
    const statistics = await explorer.tab('statistics');
    expect(statistics).toMatch(/Data13 MiB.*Runs\d+.*Mean run.*No cluster is compressed/);
    expect(statistics).toMatch(/Tables of the mapping.*The file is/);
  });

  test('a check without findings', async () => {
    expect(await explorer.tab('check')).toMatch(/^No errors were found on the image\.\d/);
  });

  test('the map of the file', async () => {
    await explorer.page.click('label:has(#map-of-file)');
    await explorer.shows('#legend', 'L2 tables');
    expect(await explorer.text('#legend li')).toMatch(/only in snapshots1 MiB.*header64 KiB/);
    await explorer.shows('#inspector', 'Holdsheader');
  });

  test('without its backing file, the image shows what it has itself', async () => {
    await explorer.open('overlay.qcow2');
    expect(await explorer.text('#legend')).toContain('backing file (not given)');
    const refusal =
      "backing file 'base.qcow2' named by 'overlay.qcow2' is not opened: open it together with the image";
    expect(await explorer.tab('files')).toContain(refusal);
    await explorer.tab('bytes');
    await explorer.shows('#hex-error', refusal);
    expect(await explorer.bytesAt('66M')).toEqual(Buffer.alloc(512, 9));
  });

  test('an external data file', async () => {
    await explorer.open('data.qcow2', 'disk.data');
    expect(await explorer.tab('files')).toMatch(/data filegiven by youdisk\.data/);
    await explorer.tab('bytes');
    expect((await explorer.bytesAt('0')).toString()).toMatch(/^data file data file/);
  });

  test('an extension nobody knows is shown as it is', async () => {
    await explorer.open('extension.qcow2');
    expect(await explorer.tab('structure')).toMatch(/unknown 0x51c0ffee, 5 bytes01020304 05/);
  });

  test('findings of a check lead to their places', async () => {
    await explorer.open('damaged.qcow2');
    expect(await explorer.tab('check')).toMatch(/Found: 1 error, 1 leaked cluster\./);
    await explorer.clickText('#panel-check button', 'OFLAG_COPIED');
    await explorer.shows('#inspector', 'Guest 0x2000');
    await explorer.tab('check');
    await explorer.clickText('#panel-check button', 'Leaked cluster');
    await explorer.shows('#inspector', 'Holdsleaked');
    expect(await explorer.text('#legend')).toMatch(/leaked4 KiB/);
  });

  test('an image at a URL', async () => {
    await explorer.openUrls(`${server.origin}/images/base.qcow2`);
    await explorer.shows('#name', 'base.qcow2');
    expect(await explorer.tab('statistics')).toMatch(/Compressed\d+ cluster/);
  });

  test('the wheel makes the map larger about the pointer, and a click chooses a cell', async () => {
    await explorer.open('overlay.qcow2', 'base.qcow2');
    const middle = async () => {
      await explorer.page.click('#map');
      await explorer.shows('#inspector', 'Guest');
      await explorer.shows('#spoken', 'Guest 0x');
      return explorer.text('#spoken');
    };
    const before = await middle();
    await explorer.page.evaluate(`(() => {
      const { left, top } = document.querySelector('#map').getBoundingClientRect();
      const event = { deltaY: -1200, clientX: left + 2, clientY: top + 2, bubbles: true, cancelable: true };
      document.querySelector('#map').dispatchEvent(new WheelEvent('wheel', event));
      document.querySelector('#spoken').textContent = '';
    })()`);
    const after = await middle();
    expect(after).not.toBe(before);
    await explorer.page.click('#zoom-fit');
    // It is drawn anew with the next frame.
    const again = async () => {
      await explorer.page.evaluate(`document.querySelector('#spoken').textContent = ''`);
      return middle();
    };
    await expect.poll(again, { timeout: 10_000 }).toBe(before);
  });

  test('everything can be done with keys', async () => {
    await explorer.open('overlay.qcow2', 'base.qcow2');
    await explorer.page.evaluate(`document.querySelector('#map').focus()`);
    await explorer.press('PageDown', 'PageDown');
    await explorer.shows('#spoken', 'Guest 0x');
    await explorer.press('End');
    await explorer.shows('#spoken', 'Guest 0x7fff0000');
    await explorer.press('+', '+', 'Enter');
    await explorer.shows('#hex', '7fff0000');
    await explorer.page.evaluate(`document.querySelector('#tab-bytes').focus()`);
    await explorer.press('ArrowRight');
    await explorer.shows('#panel-statistics', 'Fragmentation');
  });

  test('four million cells are drawn in under 300 ms', async () => {
    await explorer.open('huge.qcow2');
    expect(await explorer.text('#legend li')).toBe('data256 GiB100 %');
    const milliseconds = await explorer.page.evaluate<number>(
      `performance.getEntriesByName('draw the map').at(-1).duration`,
    );
    expect(milliseconds).toBeLessThan(300);
  });

  test('no serious finding of axe, in light and dark', async () => {
    await explorer.page.evaluate(AXE);
    await explorer.open('overlay.qcow2');
    for (const tab of TABS) {
      await explorer.tab(tab);
      // Most colours are those of the others.
      for (const scheme of ['files', 'bytes', 'check'].includes(tab) ? SCHEMES : SCHEMES.slice(1))
        expect(await explorer.violations(scheme), `${tab}, ${scheme}`).toEqual([]);
    }
  });

  test('a phone has no need to scroll sideways', async () => {
    await explorer.page.resize(390, 844);
    for (const tab of TABS) {
      await explorer.tab(tab);
      const width = await explorer.page.evaluate(`document.documentElement.scrollWidth`);
      expect(width, tab).toBeLessThanOrEqual(390);
    }
    await explorer.page.resize(1280, 900);
  });

  test('converts to what the command line makes', async () => {
    await explorer.open('overlay.qcow2', 'base.qcow2');
    await explorer.tab('convert');
    await explorer.page.evaluate(`(() => {
      // A test cannot answer what the browser asks outside of the page.
      delete window.showSaveFilePicker;
      window.showSaveFilePicker = undefined;
      document.querySelector('#convert-format').value = 'compressed';
    })()`);
    await explorer.page.click('#convert-start');
    await explorer.shows('#convert-result', 'sha256');
    expect(await explorer.text('#convert-result')).toBe(
      `overlay-converted.qcow2, ${sizeText(converted.bytes)}, in your downloads. sha256 ${converted.sha256}`,
    );
  });

  test('once loaded, it needs no network', async () => {
    const site = new StaticServer({ explorer: join(folder, 'site/explorer') });
    await site.open();
    const url = `${site.origin}/explorer/`;
    const page = await browser.open();
    await page.goto(`${url}index.html`);
    await page.waitFor(`navigator.serviceWorker.ready.then(({ active }) => active !== null)`);
    await site.close();
    await page.goto(url);
    const offline = new ExplorerPage(page, folder);
    await offline.open('overlay.qcow2');
    expect(await offline.text('#name')).toBe('overlay.qcow2');
  });

  test('nothing that the page asks for is missing', () => {
    expect(server.missing).toEqual([]);
  });
});
