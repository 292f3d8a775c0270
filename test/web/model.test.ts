import { describe, expect, test } from 'vitest';
import { Image } from '../../src/image/image.ts';
import { check } from '../../src/operations/check.ts';
import { hilbertCurve } from '../../src/operations/hilbert.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { filePicture } from '../../web/model/file-picture.ts';
import { placedCheck } from '../../web/model/findings.ts';
import { gridOf, OUTSIDE } from '../../web/model/grid.ts';
import { extensionRows, featureRows, headerRows } from '../../web/model/header-rows.ts';
import { indexAt, placeOf } from '../../web/model/hilbert-place.ts';
import { inspect } from '../../web/model/inspection.ts';
import { openFiles, ownName } from '../../web/model/open-files.ts';
import { parseOffset, shareText, sizeText } from '../../web/model/sizes.ts';
import { gatherStatistics } from '../../web/model/statistics.ts';
import { buildImage, type ImageSpec } from '../hostile/builder.ts';

function named(name: string, bytes: Uint8Array): MemoryStorage {
  return Object.assign(new MemoryStorage(bytes), { name });
}

function built(name: string, spec: ImageSpec = {}): MemoryStorage {
  return named(name, buildImage(spec).bytes);
}

test.each([1, 2, 8, 64])('single points of a curve of side %d are those of the whole', (side) => {
  const curve = hilbertCurve(side);
  curve.forEach((place, index) => {
    const { x, y } = placeOf(side, index);
    expect([y, x]).toEqual([place % side, Math.floor(place / side)]);
    expect(indexAt(side, { x, y })).toBe(index);
  });
});

test('a grid has its cells where they are looked for, and is no larger than it must be', () => {
  const cells = Uint8Array.from({ length: 30 }, (_, i) => i % 6);
  const { side, rows, kinds } = gridOf(cells);
  expect([side, rows]).toEqual([8, 4]);
  cells.forEach((kind, i) => {
    const { x, y } = placeOf(side, i);
    expect(kinds[y * side + x]).toBe(kind);
  });
  expect(kinds.filter((kind) => kind === OUTSIDE)).toHaveLength(2);
  expect(gridOf(new Uint8Array(0))).toMatchObject({ side: 1, rows: 1, count: 0 });
});

test('sizes and offsets as people write them', () => {
  expect([0, 1, 1023, 1536, 2 ** 31, 171.4 * 2 ** 20].map(sizeText)).toEqual([
    '0 bytes',
    '1 byte',
    '1023 bytes',
    '1.5 KiB',
    '2 GiB',
    '171 MiB',
  ]);
  expect(['4096', '0x1000', '4K', ' 1.5 GiB', '64kb'].map(parseOffset)).toEqual([
    4096, 4096, 4096, 1610612736, 65536,
  ]);
  expect(['', 'x', '-1', '0x', '99999999P'].map(parseOffset)).toEqual(new Array(5).fill(undefined));
  expect([shareText(0, 5), shareText(1, 1e6), shareText(1, 30), shareText(1, 2)]).toEqual([
    '0 %',
    '< 0.1 %',
    '3.3 %',
    '50 %',
  ]);
});

const given = (...storages: Storage[]) => storages.map((storage) => ({ storage }));

describe('files opened together', () => {
  const below = { backing: { name: '/far/away/base.qcow2', format: 'qcow2' }, clusters: 'H.' };

  test('the image is the one that no other names; names are taken by their last part', async () => {
    const base = built('base.qcow2', { clusters: 'HHH' });
    const { image, chain, unused } = await openFiles(
      given(base, named('notes.txt', new Uint8Array(600)), built('top.qcow2', below)),
    );
    expect(image.storage.name).toBe('top.qcow2');
    expect(chain.map(({ role, name, refusal }) => [role, name, refusal])).toEqual([
      ['image', 'top.qcow2', undefined],
      ['backing file', 'base.qcow2', undefined],
    ]);
    expect(unused).toEqual(['notes.txt']);
    const expected = new Uint8Array(4096);
    await (await Image.open(base)).read(4096, expected);
    const found = new Uint8Array(4096);
    await image.read(4096, found);
    expect(found).toEqual(expected);
  });

  test('what nobody gave is mapped, and reading it is an error', async () => {
    const { image, chain } = await openFiles(given(built('top.qcow2', below)));
    const why =
      "backing file '/far/away/base.qcow2' named by 'top.qcow2' is not opened: open it together with the image";
    expect(chain[1]).toMatchObject({ role: 'backing file', refusal: why });
    await image.read(0, new Uint8Array(4096));
    await expect(image.read(4096, new Uint8Array(512))).rejects.toThrow(why);
    expect((await inspect(image, 4096)).source).toBe(
      'in /far/away/base.qcow2, which was not given',
    );
  });

  test('a data file given, and not given', async () => {
    const top = { dataFile: { name: 'disk.data' }, clusters: 'HZ' };
    const data = named('disk.data', new Uint8Array(65536).fill(7));
    const both = await openFiles(given(data, built('top.qcow2', top)));
    const bytes = new Uint8Array(512);
    await both.image.read(0, bytes);
    expect(bytes[0]).toBe(7);
    const { image } = await openFiles(given(built('top.qcow2', top)));
    await expect(image.read(0, bytes)).rejects.toThrow("data file 'disk.data'");
  });

  test.each([
    ['a protocol', { name: 'nbd://host/x', format: 'raw' }, 'protocols are not followed'],
    ['itself', { name: 'top.qcow2', format: 'qcow2' }, 'it is already part of the chain'],
  ])('%s is not opened', async (_, backing, why) => {
    const { chain } = await openFiles(given(built('top.qcow2', { backing })));
    expect(chain[1]?.refusal).toContain(why);
  });

  test('a probed backing file that names a further file is not believed', async () => {
    const { chain } = await openFiles(
      given(
        built('top.qcow2', { backing: { name: 'base.qcow2' } }),
        built('base.qcow2', { backing: { name: 'secret', format: 'raw' } }),
      ),
    );
    expect(chain).toHaveLength(2);
    expect(chain[1]?.refusal).toContain('its format is not recorded and it names a further file');
  });

  test('a file given for a name is that file, whatever its own name', async () => {
    const base = {
      storage: built('other (1).qcow2', { clusters: 'HHH' }),
      as: '/far/away/base.qcow2',
    };
    const top = { storage: built('top.qcow2', below) };
    const { chain } = await openFiles([base, top]);
    expect(chain.map(({ name, given, namedBy }) => [name, given, namedBy])).toEqual([
      ['top.qcow2', 1, undefined],
      ['other (1).qcow2', 0, undefined],
    ]);
    expect((await openFiles([top])).chain[1]).toMatchObject({ namedBy: 0 });
    const refused = built('top.qcow2', { backing: { name: 'nbd://host/x', format: 'raw' } });
    const as = 'nbd://host/x';
    const { chain: other } = await openFiles([{ storage: refused }, { ...base, as }]);
    expect(other[1]?.refusal).toContain('protocols are not followed');
    expect(other[1]?.namedBy).toBeUndefined();
  });

  test('of a file at a URL the last part of the path counts', async () => {
    const base = built('https://host/images/my%20base.qcow2?...', { clusters: 'HHH' });
    const backing = { name: 'my base.qcow2', format: 'qcow2' };
    const { chain } = await openFiles(given(base, built('top.qcow2', { backing })));
    expect(chain.map((file) => file.given)).toEqual([1, 0]);
    expect(ownName({ name: 'https://host/100%.raw' })).toBe('100%.raw');
  });

  test('files that name each other come to an end', async () => {
    const { chain } = await openFiles(
      given(
        built('a.qcow2', { backing: { name: 'b.qcow2', format: 'qcow2' } }),
        built('b.qcow2', { backing: { name: 'a.qcow2', format: 'qcow2' } }),
      ),
    );
    expect(chain.map(({ refusal }) => refusal !== undefined)).toEqual([false, false, true]);
  });

  test('what is no image is said as elsewhere', async () => {
    const vmdk = named('x.vmdk', new TextEncoder().encode('KDMV'.padEnd(512)));
    await expect(openFiles(given(vmdk))).rejects.toThrow(
      "Could not open 'x.vmdk': it is a vmdk image",
    );
  });
});

describe('one image', () => {
  const spec: ImageSpec = {
    clusters: 'HHZA.C',
    extensions: [
      {
        kind: 'unknown',
        type: 0x12345678,
        data: Uint8Array.of(0xde, 0xad, 0xbe, 0xef, 1),
        padding: new Uint8Array(3),
      },
    ],
    header: { compatibleFeatures: 1n << 40n },
  };

  test('header, features and extensions in words', async () => {
    const { metadata } = await Image.open(built('x.qcow2', spec));
    if (metadata === undefined) throw new Error('no metadata');
    expect(headerRows(metadata.header)).toContainEqual({
      offset: 20,
      name: 'cluster_bits',
      value: '12',
      meaning: 'clusters of 4 KiB',
    });
    expect(featureRows(metadata)).toContainEqual({
      word: 'compatible',
      bit: 40,
      name: 'unknown',
      isSet: true,
      isKnown: false,
    });
    expect(extensionRows(metadata.extensions)).toContainEqual({
      type: '0x12345678',
      name: 'unknown',
      length: 5,
      lines: [],
      bytes: 'deadbeef 01',
    });
  });

  test('entries are decoded bit by bit', async () => {
    const image = await Image.open(built('x.qcow2', spec));
    const { l1, l2, host } = await inspect(image, 4096 + 17);
    expect(l1).toMatchObject({ index: 0, kind: 'L2 table' });
    expect(l2).toMatchObject({ index: 1, kind: 'normal' });
    const rows = l2?.bits.map(({ bits, name, value }) => `${bits} ${name} ${value}`);
    const offset = `0x${host?.toString(16)}`;
    expect(rows).toEqual([
      '63 copied 1',
      '62 compressed 0',
      `55–9 host offset ${offset}`,
      '0 zero 0',
    ]);
    const compressed = await inspect(image, 5 * 4096);
    expect(compressed.l2?.bits.map(({ bits }) => bits)).toEqual(['63', '62', '61–58', '57–0']);
  });

  test('subclusters have a letter each', async () => {
    const extended = { extendedL2: true, clusterBits: 14, clusters: 'H.', size: 32768 };
    const { subclusters, l2 } = await inspect(await Image.open(built('x.qcow2', extended)), 0);
    expect(subclusters).toBe('D'.repeat(32));
    expect(l2?.words).toHaveLength(2);
  });

  test('statistics count runs and compressed clusters', async () => {
    const image = await Image.open(built('x.qcow2', spec));
    const { runs, dataBytes, compressedClusters, ratios } = await gatherStatistics(image);
    expect({ runs, dataBytes, compressedClusters }).toEqual({
      runs: 1,
      dataBytes: 8192,
      compressedClusters: 1,
    });
    expect(ratios.reduce((sum, n) => sum + n)).toBe(1);
  });

  test('every cluster of the file is accounted for, and what is leaked is seen', async () => {
    const sound = buildImage(spec);
    const whole = await filePicture(await Image.open(named('x.qcow2', sound.bytes)));
    expect(whole.bytes.leaked).toBe(0);
    expect(whole.bytes.free).toBe(0);
    const sum = Object.values(whole.bytes).reduce((a, b) => a + b);
    expect(sum).toBe(Math.ceil(sound.bytes.length / 4096) * 4096);
    // The first L2 entry is lost: its cluster is counted and not referred to.
    const storage = named('x.qcow2', sound.bytes.slice());
    const { l2 } = await inspect(await Image.open(storage), 0);
    storage.write(l2?.at ?? 0, new Uint8Array(8));
    const image = await Image.open(storage);
    expect((await filePicture(image)).bytes.leaked).toBe(4096);
    expect((await check(storage)).leaks).toBe(1);
  });

  test.each<[string, ImageSpec]>([
    ['the header of LUKS', { luks: {} }],
    [
      'a snapshot table of several clusters',
      { snapshots: Array.from({ length: 120 }, () => ({})) },
    ],
    ['bitmaps', { bitmaps: [{}, {}] }],
  ])('%s is not taken for leaked', async (_, more) => {
    const storage = built('x.qcow2', { clusters: 'HH', ...more });
    const { leaks } = await check(storage);
    const { bytes } = await filePicture(await Image.open(storage));
    expect({ leaked: bytes.leaked }).toEqual({ leaked: leaks * 4096 });
  });

  test('statistics and picture of a damaged image leave out what is damaged', async () => {
    const image = buildImage({ clusters: 'HHHC' }).l2(1, (1n << 63n) | 0x5200n);
    const statistics = await gatherStatistics(await Image.open(named('x.qcow2', image.bytes)));
    expect(statistics).toMatchObject({ dataBytes: 8192, runs: 2, compressedClusters: 1 });
    expect(statistics.damage).toMatch(/^L2 entry at offset .* is not cluster aligned$/);
  });

  test('findings have their place on the disk', async () => {
    const storage = built('x.qcow2', spec);
    const { l2 } = await inspect(await Image.open(storage), 4096);
    storage.write(l2?.at ?? 0, new Uint8Array(1));
    const { findings } = await placedCheck(await Image.open(storage), () => undefined);
    expect(findings).toEqual([expect.objectContaining({ structure: 'L2 entry', guest: 4096 })]);
  });

  test('a raw image has no picture of its file', async () => {
    const image = await Image.open(new Uint8Array(65536));
    await expect(filePicture(image)).rejects.toThrow('is a raw image');
    expect((await inspect(image, 600)).source).toBe('data');
  });
});
