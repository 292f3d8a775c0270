import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { subject } from '../oracle/tools.ts';
import { sha256File } from '../support/digest.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { BROWSER_NAMES, launch, type TestBrowser } from './browsers.ts';
import { AXE, buildExplorer, ExplorerPage } from './explorer-page.ts';
import { HOSTILE, makeScenarioImages, REMOTE } from './scenario-images.ts';
import { StaticServer } from './server.ts';
import { digestOfStdout } from './stdout-digest.ts';

const folder = makeTempDir('browser-scenarios');
const server = new StaticServer({ explorer: join(folder, 'site'), images: folder });

/** What the command line says of each hostile image, empty if nothing is wrong. */
const lines = new Map<string, string>();
let flattened: { sha256: string };

beforeAll(async () => {
  await Promise.all([
    makeScenarioImages(folder).then(async () => {
      copyFileSync(join(folder, 'middle.qcow2'), join(folder, 'renamed (1).img'));
      flattened = await digestOfStdout(['-O', 'raw', 'top.qcow2', '-'], folder);
      for (const image of HOSTILE) {
        const { stderr } = await subject(['map', '--graph', image], folder);
        lines.set(image, stderr.replace(/^qcow2: /, '').replace(/\n$/, ''));
      }
    }),
    buildExplorer(join(folder, 'site')),
    server.open(),
  ]);
});

afterAll(async () => {
  await server.close();
  removeTempDir(folder);
});

describe.each(BROWSER_NAMES)('%s', (name) => {
  let browser: TestBrowser;
  let explorer: ExplorerPage;

  beforeAll(async () => {
    browser = await launch(name);
    const page = await browser.open();
    explorer = new ExplorerPage(page, folder);
    await page.resize(1280, 900);
    await page.goto(`${server.origin}/explorer/index.html`);
    // A test cannot answer what the browser asks outside of the page.
    await page.evaluate(
      `(delete window.showSaveFilePicker, window.showSaveFilePicker = undefined)`,
    );
  });
  afterAll(() => browser?.close());

  const url = (file: string) => `${server.origin}/images/${file}`;

  test('a file of 2 GiB is dropped, and its map is there within 2 seconds', async () => {
    expect(await explorer.drop('full.qcow2')).toBeLessThan(2000);
    expect(await explorer.text('#name')).toBe('full.qcow2');
    expect(await explorer.text('#legend li')).toBe('data2 GiB100 %');
  });

  test('a conversion tells how fast it is, and stops when it is told to', async () => {
    await explorer.tab('convert');
    await explorer.page.evaluate(`document.querySelector('#convert-format').value = 'compressed'`);
    await explorer.page.click('#convert-start');
    await explorer.page.waitFor(
      `/^\\d+ %, [\\d.]+ \\w+\\/s, \\d+ \\w+ left$/.test(document.querySelector('#convert-rate').textContent)`,
    );
    await explorer.page.click('#convert-stop');
    await explorer.shows('#convert-result', 'Stopped. Nothing of it was kept.');
    expect(await explorer.text('#convert-error, #convert-progress')).toBe('');
  });

  test.each(['zlib', 'zstd'])('%s clusters are what they were', async (codec) => {
    await explorer.open(`${codec}.qcow2`);
    expect(await explorer.text('#summary')).toContain(`Compression${codec}`);
    expect(await explorer.tab('partitions')).toMatch(/MBR.*1Partition 1Linux0x1000002 MiB/);
    expect(await explorer.tab('statistics')).toMatch(/Compressed\d+ clusters/);
    expect(await explorer.convert('raw')).toContain(sha256File(join(folder, 'mixed.raw')));
  });

  test('4 KiB in the middle of an image at a URL cost less than 1 MB', async () => {
    const before = server.sentBytes;
    await explorer.openUrls(url('remote.qcow2'));
    await explorer.tab('bytes');
    const at = REMOTE.middle;
    const bytes = await explorer.bytesAt(`0x${at.toString(16)}`);
    expect([...bytes.subarray(0, 4)]).toEqual([0, 1, 2, 3]);
    // The map, the partition table and all else that is shown are a part of it.
    expect(server.sentBytes - before).toBeLessThan(1_000_000);
  });

  test('hostile images give the errors of the command line, and the page goes on', async () => {
    expect(HOSTILE.length).toBeGreaterThan(12);
    for (const image of HOSTILE) {
      await explorer.open(image);
      const shown = await explorer.page.evaluate<string>(
        `[...document.querySelectorAll('#error, #map-error')]
          .filter((e) => e.checkVisibility()).map((e) => e.firstChild.textContent).join(' | ')`,
      );
      expect(shown.trim(), image).toBe(lines.get(image));
    }
    expect([...lines.values()].filter((line) => line !== '').length).toBeGreaterThan(10);
    await explorer.open('zlib.qcow2');
    expect(await explorer.text('#error')).toBe('');
  });

  test('the map of a damaged image shows what can be read, and where it is damaged', async () => {
    await explorer.open('damaged.qcow2');
    expect(await explorer.text('#legend li')).toMatch(/^damaged4 KiB.*data20 KiB/);
    expect(await explorer.text('#map-error')).toMatch(
      /^L2 entry at .*not cluster aligned Show it$/,
    );
    await explorer.page.click('#map-error button');
    await explorer.shows('#inspector', 'Guest 0x2000');
    await explorer.shows('#inspector', 'invalid');
    expect(await explorer.tab('statistics')).toContain('Damaged entries are left out. L2 entry');
    await explorer.tab('bytes');
    await explorer.bytesAt('0x1000');
    await explorer.page.evaluate(`document.querySelector('#hex-offset').value = '0x2000'`);
    await explorer.page.click('#hex-go button');
    await explorer.shows('#hex-error', 'is not cluster aligned');
  });

  test('the pointer over a cell: where it is, and its entry bit by bit', async () => {
    await explorer.open('remote.qcow2');
    await explorer.page.hover('#map');
    await explorer.page.waitFor(
      `/^Guest 0x[1-9]/.test(document.querySelector('#inspector').textContent)`,
    );
    const entry =
      /63copied1 the cluster has one reference ?62compressed0 ?55–9host offset(0x[0-9a-f]+) ?0zero0/;
    const told = await explorer.text('#inspector');
    const [, word = ''] = /L2 entry \d+ at 0x[0-9a-f]{5}([0-9a-f]{16})normal/.exec(told) ?? [];
    const [, host = ''] = entry.exec(told) ?? [];
    expect(BigInt(`0x${word}`)).toBe(BigInt(host) | (1n << 63n));
    expect(told).toMatch(new RegExp(`On the mapdata.*Heredata.*Host${host}Show the bytes`));
  });

  test('two fingers make the map larger about their middle', async () => {
    await explorer.open('full.qcow2');
    const box = await explorer.page.evaluate<{ x: number; y: number; side: number }>(
      `(() => {
        document.querySelector('#map').scrollIntoView({ block: 'center' });
        const { left, top, width, height } = document.querySelector('#map').getBoundingClientRect();
        return { x: left + width / 4, y: top + height / 8 };
      })()`,
    );
    const scrolled = await explorer.page.evaluate(`window.scrollY`);
    const cellsAcross = () =>
      explorer.page.evaluate<number>(`(async () => {
        // From one edge to the other, as a person reads it off the map.
        const map = document.querySelector('#map');
        const { left, top, height, width } = map.getBoundingClientRect();
        const guest = async (x) => {
          const event = { clientX: x, clientY: top + height / 2, bubbles: true, pointerId: 7 };
          document.querySelector('#inspector').replaceChildren();
          map.dispatchEvent(new PointerEvent('pointermove', event));
          while (!document.querySelector('#inspector h3'))
            await new Promise((resolve) => setTimeout(resolve, 20));
          return Number(document.querySelector('#inspector h3 code').textContent);
        };
        return (await guest(left + 2)) + (await guest(left + width - 2));
      })()`);
    const before = await cellsAcross();
    await explorer.page.pinch(box, 40, 240);
    const after = await cellsAcross();
    expect(after).not.toBe(before);
    expect(await explorer.page.evaluate(`window.scrollY`)).toBe(scrolled);
    // It takes the finger then, and gives it back when all of it is shown.
    const touch = () => explorer.page.evaluate(`document.querySelector('#map').style.touchAction`);
    expect(await touch()).toBe('none');
    await explorer.page.pinch(box, 240, 30);
    expect(await touch()).toBe('pan-y');
    expect(await cellsAcross()).toBe(before);
  });

  test('a file that is not there is chosen where it is named, whatever it is called', async () => {
    await explorer.open('top.qcow2');
    const give = '#panel-files .lacking input[type=file]';
    expect(await explorer.tab('files')).toMatch(/backing filenot openedmiddle\.qcow2/);
    await explorer.page.setFiles(give, [join(folder, 'renamed (1).img')]);
    await explorer.shows('#panel-files', 'given by yourenamed (1).img');
    expect(await explorer.text('#panel-files .lacking h3')).toBe('bottom.qcow2');
    expect(await explorer.text('#tab-files[aria-selected=true]')).toBe('Files');
    await explorer.page.setFiles(give, [join(folder, 'bottom.qcow2')]);
    await explorer.shows('#panel-files', 'These are all files');
    expect(await explorer.convert('raw')).toContain(flattened.sha256);
  });

  test('an image at a URL takes the files it names from their URLs, when it is told to', async () => {
    server.requested.length = 0;
    await explorer.openUrls(url('top.qcow2'));
    await explorer.tab('files');
    const field = '#panel-files .lacking .give input:not([type=file])';
    expect(server.requested).not.toContain('/images/middle.qcow2');
    const near = `document.querySelector('${field}').value`;
    expect(await explorer.page.evaluate(near)).toBe(url('middle.qcow2'));
    await explorer.page.evaluate(`${near.replace('.value', '')}.value = '${url('none.qcow2')}'`);
    await explorer.page.click('#panel-files .give button');
    await explorer.shows('#panel-files .give + p', 'none.qcow2');
    // All else is as it was.
    expect(await explorer.text('#name')).toBe(url('top.qcow2'));
    await explorer.page.evaluate(`(${near} = '${url('middle.qcow2')}', null)`);
    await explorer.page.click('#panel-files .give button');
    await explorer.shows('#panel-files .lacking h3', 'bottom.qcow2');
    await explorer.page.setFiles('#panel-files .lacking input[type=file]', [
      join(folder, 'bottom.qcow2'),
    ]);
    await explorer.shows('#panel-files', 'These are all files');
    await explorer.tab('bytes');
    for (const [at, value] of [
      [0, 5],
      [1, 6],
      [2, 7],
    ])
      expect((await explorer.bytesAt(`${at}M`))[0]).toBe(value);
    expect(await explorer.convert('raw')).toContain(flattened.sha256);
  });

  test('several URLs at once are an image and the files it names', async () => {
    await explorer.openUrls(url('bottom.qcow2'), url('top.qcow2'), url('middle.qcow2'));
    await explorer.shows('#name', 'top.qcow2');
    expect(await explorer.text('#legend li')).toMatch(/data1 MiB.*backing file2 MiB/);
    expect(await explorer.tab('files')).toContain('These are all files');
    // Pasted anywhere, they are meant, too.
    await explorer.timed(() =>
      explorer.page.evaluate(`(() => {
        const clipboardData = new DataTransfer();
        clipboardData.setData('text/plain', '${url('zlib.qcow2')}\\n');
        // Not every browser takes it as an option.
        const event = Object.defineProperty(new Event('paste', { bubbles: true }), 'clipboardData', {
          value: clipboardData,
        });
        document.body.dispatchEvent(event);
      })()`),
    );
    await explorer.shows('#name', 'zlib.qcow2');
  });

  test('every control is reached with the Tab key, and seen when it is', async () => {
    await explorer.open('zlib.qcow2');
    const reached: string[] = [];
    for (const tab of ['files', 'bytes', 'partitions', 'convert', 'check', 'structure']) {
      await explorer.tab(tab);
      reached.push(...(await explorer.walk()));
    }
    expect(reached.filter((text) => text.startsWith('unseen'))).toEqual([]);
    const controls = await explorer.page.evaluate<string[]>(
      `[...document.querySelectorAll('main button, main input, main select, header button, header input')]
        .filter((e) => e.checkVisibility() && !e.disabled && e.tabIndex >= 0 && e.type !== 'radio')
        .map((e) => e.id || e.textContent)`,
    );
    for (const control of controls) expect(reached).toContain(control);
    for (const id of ['map', 'map-of-disk', 'hex', 'hex-offset', 'convert-format', 'convert-start'])
      expect(reached).toContain(id);
  });

  test('no serious finding of axe where something is wrong, or something is to be done', async () => {
    await explorer.page.evaluate(AXE);
    const views: [string, () => Promise<unknown>][] = [
      ['a file to be given', () => explorer.open('top.qcow2').then(() => explorer.tab('files'))],
      ['findings', () => explorer.open('damaged.qcow2').then(() => explorer.tab('check'))],
      ['no image', () => explorer.open(HOSTILE[0]!)],
    ];
    for (const [view, show] of views) {
      await show();
      for (const scheme of ['light', 'dark'] as const)
        expect(await explorer.violations(scheme), `${view}, ${scheme}`).toEqual([]);
    }
  });
});
