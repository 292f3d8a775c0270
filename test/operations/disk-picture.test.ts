import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Image } from '../../src/image/image.ts';
import { SurveyPlan } from '../../src/image/plan.ts';
import { openImage } from '../../src/node.ts';
import { CELL_KINDS, diskPicture } from '../../src/operations/disk-picture.ts';
import { map } from '../../src/operations/map.ts';
import { pictureSvg } from '../../src/operations/picture-svg.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import { buildImage } from '../hostile/builder.ts';
import { qemuImg, qemuIo } from '../oracle/tools.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

const folder = makeTempDir('picture');
const img = (line: string) => qemuImg(line.split(' '), folder);

beforeAll(async () => {
  await img('create -q -f qcow2 base.qcow2 8M');
  await qemuIo('base.qcow2', ['write -P 1 1M 192k', 'write -c -P 2 2M 64k'], folder);
  await img('create -q -f qcow2 -b base.qcow2 -F qcow2 disk.qcow2 8M');
  await qemuIo('disk.qcow2', ['write -P 3 3M 128k', 'write -z 4M 256k'], folder);
  await img('snapshot -c one disk.qcow2');
  const after = ['write -P 4 3M 64k', 'write -c -P 5 5M 64k', 'write -P 6 6M 64k'];
  await qemuIo('disk.qcow2', after, folder);
});
afterAll(() => removeTempDir(folder));

async function pictureOf(name: string, maxCells?: number) {
  await using image = await openImage(`${folder}/${name}`);
  return await diskPicture(image, maxCells === undefined ? {} : { maxCells });
}

test('each cluster is what the map says, or shared with a snapshot', async () => {
  const { cells, cellBytes, bytes, sharedBytes } = await pictureOf('disk.qcow2');
  const kindAt = (offset: number) => CELL_KINDS[cells[offset / cellBytes]!];
  const MIB = 1 << 20;
  expect(cellBytes).toBe(65536);
  expect(cells.length).toBe(128);
  expect([0, 1 * MIB, 1 * MIB + 131072, 1 * MIB + 196608, 2 * MIB].map(kindAt)).toEqual([
    'unallocated',
    'backing',
    'backing',
    'unallocated',
    'backing',
  ]);
  expect([3 * MIB, 3 * MIB + 65536, 4 * MIB, 5 * MIB, 6 * MIB].map(kindAt)).toEqual([
    'data',
    'shared',
    'zero',
    'compressed',
    'data',
  ]);
  const k = 65536;
  expect(bytes).toEqual({
    unallocated: 8 * MIB - 12 * k,
    zero: 4 * k,
    backing: 4 * k,
    data: 3 * k,
    compressed: k,
    damaged: 0,
  });
  expect(sharedBytes).toBe(k);
});

test('a cell of several clusters shows what is the most of them', async () => {
  const { cells, cellBytes } = await pictureOf('disk.qcow2', 8);
  expect(cellBytes).toBe(1 << 20);
  expect(Array.from(cells, (kind) => CELL_KINDS[kind])).toEqual([
    'unallocated',
    'backing',
    'backing',
    'shared',
    'zero',
    'compressed',
    'data',
    'unallocated',
  ]);
  const exact = await pictureOf('disk.qcow2');
  expect((await pictureOf('disk.qcow2', 1)).bytes).toEqual(exact.bytes);
});

test('all that is stored is in the picture', async () => {
  const { bytes } = await pictureOf('disk.qcow2');
  await using image = await openImage(`${folder}/disk.qcow2`);
  let stored = 0;
  for await (const { data, length } of map(image)) if (data) stored += length;
  expect(bytes.data + bytes.compressed + bytes.backing).toBe(stored);
});

test('the drawing names the kinds there are, and what it is called does no harm', async () => {
  const svg = pictureSvg(await pictureOf('disk.qcow2'), '<b>&"', (bytes) => `${bytes} B`);
  expect(svg).toContain('&lt;b&gt;&amp;&quot;');
  expect(svg).not.toContain('<b>');
  for (const text of ['shared with snapshots: 65536 B', 'compressed: 65536 B', 'zeros: 262144 B'])
    expect(svg).toContain(text);
});

test('a picture has one cell at least', async () => {
  await expect(pictureOf('disk.qcow2', 0)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
});

const damaged = buildImage({ clusters: 'HHZHCH', size: 1024 * 4096 })
  .l2(1, (1n << 63n) | 0x5200n)
  .l2(3, (1n << 63n) | (1n << 40n))
  .l2(6, 0x200n);
damaged.u64(damaged.at.l1 + 8, (1n << 63n) | 0x4200n);

test('of a damaged image, the picture is what can be decoded, and where the damage is', async () => {
  await using image = await Image.open(new MemoryStorage(damaged.bytes));
  const { cells, bytes, damage } = await diskPicture(image);
  const kinds = Array.from(cells.subarray(0, 7), (kind) => CELL_KINDS[kind]);
  expect(kinds).toEqual(['data', 'damaged', 'zero', 'damaged', 'compressed', 'data', 'damaged']);
  // The second table is not to be had at all.
  expect([511, 512, 1023].map((i) => CELL_KINDS[cells[i]!])).toEqual([
    'unallocated',
    'damaged',
    'damaged',
  ]);
  expect(bytes).toMatchObject({ data: 2 * 4096, damaged: (3 + 512) * 4096 });
  expect(damage).toMatchObject({ code: 'BAD_ENTRY', details: { guestOffset: 4096 } });
  expect(damage?.message).toMatch(/^L2 entry at offset 0x\w+ of .*: host offset 0x5200 is not/);
  await expect(image.read(0, new Uint8Array(8192))).rejects.toThrow(damage?.message);
});

test('damage hides nothing of what is shared, and adds nothing to it', async () => {
  await img('create -q -f qcow2 -o cluster_size=4k small.qcow2 3M');
  await qemuIo('small.qcow2', ['write -P 1 0 4k', 'write -P 1 2M 4k'], folder);
  await img('snapshot -c one small.qcow2');
  const bytes = readFileSync(`${folder}/small.qcow2`);
  const l1 = Number(bytes.readBigUInt64BE(40));
  // The second table ends behind the disk: something stands there.
  const table = Number(bytes.readBigUInt64BE(l1 + 8) & 0xffffffffffff00n);
  bytes.writeBigUInt64BE(0x1000n, table + 511 * 8);
  // Farther than a file can be long.
  bytes.writeBigUInt64BE(0x0065000000000000n, l1);
  await using image = await Image.open(new Uint8Array(bytes));
  const { damage, sharedBytes } = await diskPicture(image);
  expect(damage).toMatchObject({ message: expect.stringMatching(/^L1 entry/) });
  expect(sharedBytes).toBe(4096);
  const file = `${folder}/far.qcow2`;
  writeFileSync(file, bytes);
  await using opened = await openImage(file);
  expect((await diskPicture(opened)).sharedBytes).toBe(4096);
});

test('a plan with damage in it is not read, whoever asks', async () => {
  await using image = await Image.open(new MemoryStorage(damaged.bytes));
  const plan = new SurveyPlan();
  await image.withChain(async (chain) => {
    await chain.map(0, 8192, plan);
    expect(plan.count).toBe(2);
    await expect(chain.execute(plan, 0, new Uint8Array(8192))).rejects.toThrow('to be read');
  });
});

test('damage in a file below is damage of the disk', async () => {
  const top = buildImage({
    clusters: 'H',
    size: 1024 * 4096,
    backing: { name: 'b', format: 'qcow2' },
  });
  const options = { backingFile: new MemoryStorage(damaged.bytes) };
  await using image = await Image.open(new MemoryStorage(top.bytes), options);
  const { cells } = await diskPicture(image);
  const kinds = Array.from(cells.subarray(0, 3), (kind) => CELL_KINDS[kind]);
  expect(kinds).toEqual(['data', 'damaged', 'zero']);
});
