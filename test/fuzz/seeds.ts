import * as fs from 'node:fs';
import * as path from 'node:path';
import { nameOf } from '../../src/format/fields.ts';
import { buildImage, type ImageSpec } from '../hostile/builder.ts';
import { makeContent } from '../support/data.ts';
import { runOk } from '../support/run.ts';

/** A valid image to start from, with the files it names. */
export interface SeedImage {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly files: ReadonlyMap<string, Uint8Array>;
}

const BASE = makeContent('mixed', 48 * 1024, 7);

const BUILT: Readonly<Record<string, ImageSpec>> = {
  'v2, 4 KiB clusters': { version: 2 },
  'v3, 4 KiB clusters': {},
  'v3, 512-byte clusters': { clusterBits: 9, clusters: 'HHZA.CHHCCZ' },
  'v3, 64 KiB clusters': { clusterBits: 16, size: 4 * 65536, clusters: 'HZAC' },
  'extended L2': { extendedL2: true, clusters: 'HHZA.CCH' },
  'zstd streams': { compression: 'zstd', clusters: 'HCZACCC' },
  'snapshots and bitmaps': { snapshots: [{}, { name: nameOf('second') }], bitmaps: [{}, {}] },
  'raw backing file': { backing: { name: 'base.raw', format: 'raw' } },
  'qcow2 backing file': { backing: { name: 'base.qcow2', format: 'qcow2' } },
  'probed backing file': { backing: { name: 'base.qcow2' }, clusterBits: 9, size: 32768 },
  'external data file': { dataFile: { name: 'data.raw' } },
  '1-bit refcounts': { refcountOrder: 0 },
  '64-bit refcounts': { refcountOrder: 6, clusterBits: 9, size: 30000 },
  LUKS: { luks: { area: 70144, keyBytes: 16 } },
};

/** Small images of every kind, without any other program. */
export function builtSeeds(): SeedImage[] {
  const below = buildImage({ clusters: 'H.HC', size: 9 * 4096 }).bytes;
  return Object.entries(BUILT).map(([name, spec]) => {
    const image = buildImage(spec);
    const files = new Map<string, Uint8Array>();
    if (spec.backing?.name === 'base.raw') files.set('base.raw', BASE);
    if (spec.backing?.name === 'base.qcow2') files.set('base.qcow2', below);
    if (image.external) files.set('data.raw', image.external);
    return { name, bytes: image.bytes, files };
  });
}

/** What qemu-img makes of a raw disk, and what is done to the image then. */
const RECIPES: readonly (readonly [
  name: string,
  create: readonly string[],
  after?: readonly string[][],
])[] = [
  ['qemu-img, default', ['-o', 'cluster_size=4k']],
  ['qemu-img, compressed', ['-c', '-o', 'cluster_size=16k']],
  ['qemu-img, compressed small clusters', ['-c', '-o', 'cluster_size=512']],
  ['qemu-img, zstd', ['-c', '-o', 'cluster_size=4k,compression_type=zstd']],
  ['qemu-img, version 2', ['-c', '-o', 'cluster_size=4k,compat=0.10']],
  [
    'qemu-img, subclusters',
    ['-o', 'cluster_size=16k,extended_l2=on'],
    [['qemu-io', '-c', 'write -z 1k 2k', '-c', 'discard 32k 16k', '-c', 'write -P 9 50k 1k']],
  ],
  [
    'qemu-img, snapshot and bitmap',
    ['-o', 'cluster_size=4k'],
    [
      ['qemu-img', 'snapshot', '-c', 'one'],
      ['qemu-io', '-c', 'write -P 3 8k 12k', '-c', 'write -zu 24k 8k'],
      ['qemu-img', 'bitmap', '--add', '-g', '64k'],
    ],
  ],
];

/** Images as qemu-img writes them, made in `folder`. */
export async function qemuSeeds(folder: string): Promise<SeedImage[]> {
  const raw = path.join(folder, 'seed.raw');
  fs.writeFileSync(raw, makeContent('mixed', 192 * 1024, 3));
  const seeds: SeedImage[] = [];
  for (const [name, create, after = []] of RECIPES) {
    const file = path.join(folder, 'seed.qcow2');
    const convert = ['convert', '-f', 'raw', '-O', 'qcow2', ...create, raw, file];
    await runOk('qemu-img', convert, folder);
    for (const [program = '', ...args] of after) {
      const format = program === 'qemu-io' ? ['-f', 'qcow2'] : [];
      const operands = args[0] === 'bitmap' ? [file, 'dirty'] : [file];
      await runOk(program, [...format, ...args, ...operands], folder);
    }
    seeds.push({ name, bytes: new Uint8Array(fs.readFileSync(file)), files: new Map() });
  }
  return seeds;
}
