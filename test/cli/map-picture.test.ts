import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { buildImage } from '../hostile/builder.ts';
import { qemuImg, qemuIo, subject } from '../oracle/tools.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

const folder = makeTempDir('map-picture');

beforeAll(async () => {
  await qemuImg(['create', '-q', '-f', 'qcow2', 'disk.qcow2', '16M'], folder);
  await qemuIo('disk.qcow2', ['write 1M 1M', 'write -c 8M 64k', 'write -z 12M 2M'], folder);
});
afterAll(() => removeTempDir(folder));

test('map --graph draws the disk in block characters', async () => {
  const { status, stdout } = await subject(['map', '--graph', 'disk.qcow2'], folder);
  expect(status).toBe(0);
  expect(stdout).toBe(`      0 B ${'·'.repeat(16)}${'█'.repeat(16)}${'·'.repeat(32)}
    4 MiB ${'·'.repeat(64)}
    8 MiB ▓${'·'.repeat(63)}
   12 MiB ${'░'.repeat(32)}${'·'.repeat(32)}

a character is 64 KiB of the disk
▓ compressed: 64 KiB
█ data: 1 MiB
░ zeros: 2 MiB
· unallocated: 12.9 MiB
`);
});

test('map --svg writes a drawing, in the place of an older one', async () => {
  writeFileSync(join(folder, 'map.svg'), 'x'.repeat(100_000));
  const { status, stdout } = await subject(['map', '--svg', 'map.svg', 'disk.qcow2'], folder);
  expect({ status, stdout }).toEqual({ status: 0, stdout: '' });
  const svg = readFileSync(join(folder, 'map.svg'), 'utf8');
  expect(svg).toMatch(/^<svg .*<\/svg>\n$/s);
  expect(svg).toContain('data: 1 MiB');
});

test('a picture is of the whole disk, and of an image that can be read', async () => {
  const part = await subject(['map', '--graph', '-l', '1M', 'disk.qcow2'], folder);
  expect(part.status).toBe(1);
  expect(part.stderr).toMatch(/^qcow2: --graph and --svg show the whole disk.*\n$/);
  const missing = await subject(['map', '--svg', 'other.svg', 'missing.qcow2'], folder);
  expect(missing.status).toBe(1);
  expect(missing.stderr.split('\n').length).toBe(2);
});

test('a damaged image has its picture, and the error of it', async () => {
  const image = buildImage({ clusters: 'HHHH' }).l2(1, (1n << 63n) | 0x5200n);
  writeFileSync(join(folder, 'damaged.qcow2'), image.bytes);
  const line = /^qcow2: L2 entry at offset 0x\w+ of 'damaged.qcow2' \(guest offset 0x1000\): .*\n$/;
  const graph = await subject(['map', '--graph', 'damaged.qcow2'], folder);
  expect(graph.status).toBe(1);
  expect(graph.stderr).toMatch(line);
  expect(graph.stdout).toMatch(/0 B █!██·+\n(?:.*\n)*! damaged: 4 KiB\n/);
  const svg = await subject(['map', '--svg', 'damaged.svg', 'damaged.qcow2'], folder);
  expect(svg.status).toBe(1);
  expect(svg.stderr).toMatch(line);
  expect(readFileSync(join(folder, 'damaged.svg'), 'utf8')).toContain('damaged: 4 KiB');
});
