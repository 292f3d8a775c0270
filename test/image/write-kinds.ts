import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeContent } from '../support/data.ts';
import { runOk } from '../support/run.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

/** A kind of image to be written to, and how qemu's tools make it as `image.qcow2`. */
export interface WriteKind {
  readonly name: string;
  /** Length of the disk in bytes. */
  readonly size: number;
  readonly clusterSize: number;
  readonly version: 2 | 3;
  readonly hasBacking: boolean;
  readonly hasDataFile: boolean;
  readonly refcountBits: number;
  /** Internal snapshots, by name. */
  readonly snapshots: readonly string[];
  readonly steps: readonly (readonly string[])[];
}

/** An image of a kind: its files by name, and what its disk and snapshots hold. */
export interface KindImage {
  readonly kind: WriteKind;
  readonly files: ReadonlyMap<string, Uint8Array>;
  readonly disk: Uint8Array;
  readonly snapshots: ReadonlyMap<string, Uint8Array>;
}

interface Recipe {
  size?: number;
  clusterSize?: number;
  options?: string;
  /** How the image is made; default `create`. */
  from?: 'convert' | 'compress';
  backing?: readonly [file: string, format: 'raw' | 'qcow2'];
  /** Run before the image is made. */
  before?: readonly (readonly string[])[];
  /** qemu-io commands on the new image; `snapshot NAME` and `img ...` run qemu-img. */
  after?: readonly string[];
}

const WRITES = [
  'write -P 17 0 70k',
  'write -P 18 200k 3k',
  'write -P 19 511k 130k',
  'write -z 300k 100k',
];
const AFTER_SNAPSHOT = ['write -P 33 60k 40k', 'write -z 512k 64k', 'discard 0 32k'];
const MID: Recipe = {
  backing: ['mid.qcow2', 'qcow2'],
  before: [
    ['img', 'create', '-q', '-f', 'qcow2', '-b', 'short.raw', '-F', 'raw', 'mid.qcow2', '900k'],
    ['io', '-c', 'write -P 77 100k 150k', '-c', 'write -z 400k 64k', 'mid.qcow2'],
  ],
  after: ['write -P 5 128k 64k', 'write -z 640k 64k'],
};
const SHORT: Recipe = { backing: ['short.raw', 'raw'], after: ['write -P 5 128k 64k'] };
const SNAPSHOTS = [
  ...WRITES,
  'snapshot one',
  ...AFTER_SNAPSHOT,
  'snapshot two',
  'write -P 35 0 5k',
];
const SUBCLUSTERS = [
  'write -P 1 0 2k',
  'write -P 2 20k 2k',
  'write -z 30k 2k',
  'write -P 3 100k 90k',
  'write -z 400k 6k',
];

/** Every kind of image the engine writes. */
const RECIPES: Readonly<Record<string, Recipe>> = {
  'version 3': { after: WRITES },
  'version 3, empty': {},
  'version 2': { options: 'compat=0.10', after: WRITES },
  'clusters of 512 bytes': { clusterSize: 512, after: WRITES },
  'clusters of 1 KiB': { clusterSize: 1024, options: 'refcount_bits=64', after: WRITES },
  'clusters of 2 KiB': { clusterSize: 2048, after: WRITES },
  'clusters of 4 KiB': { clusterSize: 4096, after: WRITES },
  'clusters of 16 KiB': { clusterSize: 16384, after: SNAPSHOTS },
  'clusters of 2 MiB': { clusterSize: 2 * MIB, size: 7 * MIB + 512, after: WRITES },
  'clusters of 256 KiB': { clusterSize: 256 * KIB, after: SNAPSHOTS },
  '1-bit refcounts': { options: 'refcount_bits=1', after: WRITES },
  '2-bit refcounts': { options: 'refcount_bits=2', after: SNAPSHOTS },
  '4-bit refcounts': { options: 'refcount_bits=4', after: SNAPSHOTS },
  '8-bit refcounts': { options: 'refcount_bits=8', after: SNAPSHOTS },
  '32-bit refcounts': { options: 'refcount_bits=32', after: SNAPSHOTS },
  '64-bit refcounts, 512 bytes': {
    clusterSize: 512,
    options: 'refcount_bits=64',
    after: SNAPSHOTS,
  },
  'refcount table that is nearly full': {
    size: 3 * MIB,
    clusterSize: 512,
    options: 'refcount_bits=64',
    after: ['write -P 1 0 1960k'],
  },
  'odd size': { size: 1_000_960, after: WRITES },
  snapshots: { after: SNAPSHOTS },
  'version 2 with snapshots': { options: 'compat=0.10', after: SNAPSHOTS },
  'raw backing file': SHORT,
  'raw backing file, version 2': { ...SHORT, options: 'compat=0.10' },
  'backing chain': MID,
  'backing chain with snapshots': { ...MID, after: SNAPSHOTS },
  'backing chain, clusters of 4 KiB': { ...MID, clusterSize: 4096 },
  compressed: { from: 'compress' },
  'compressed, clusters of 4 KiB': { from: 'compress', clusterSize: 4096 },
  'compressed, 512 bytes, version 2': {
    from: 'compress',
    clusterSize: 512,
    options: 'compat=0.10',
  },
  'compressed with snapshots': { from: 'compress', after: ['snapshot one', ...AFTER_SNAPSHOT] },
  'compressed, extended L2': { from: 'compress', options: 'extended_l2=on' },
  'compressed over a backing file': { ...SHORT, from: 'compress' },
  'extended L2': { options: 'extended_l2=on', after: SUBCLUSTERS },
  'extended L2, clusters of 16 KiB': {
    clusterSize: 16384,
    options: 'extended_l2=on',
    after: SUBCLUSTERS,
  },
  'extended L2, clusters of 2 MiB': {
    clusterSize: 2 * MIB,
    size: 5 * MIB,
    options: 'extended_l2=on',
    after: SUBCLUSTERS,
  },
  'extended L2 with snapshots': {
    options: 'extended_l2=on',
    after: [...SUBCLUSTERS, 'snapshot one', ...AFTER_SNAPSHOT, 'snapshot two'],
  },
  'extended L2 over a backing chain': {
    ...MID,
    options: 'extended_l2=on',
    after: [...SUBCLUSTERS, 'snapshot one', 'write -P 4 6k 2k'],
  },
  'extended L2, preallocated over a backing file': {
    ...SHORT,
    options: 'extended_l2=on,preallocation=metadata',
  },
  'zero clusters': {
    after: [...WRITES, 'write -z 0 192k', 'write -z -u 448k 128k', 'write -P 9 640k 64k'],
  },
  'preallocated metadata': { options: 'preallocation=metadata' },
  'preallocated in full': { options: 'preallocation=full' },
  'data file': { options: 'data_file=data.raw', after: WRITES },
  'data file over a backing file, odd size': {
    ...SHORT,
    size: 1_000_960,
    options: 'data_file=data.raw',
  },
  'data file, extended L2': { options: 'data_file=data.raw,extended_l2=on', after: SUBCLUSTERS },
  'raw data file': { options: 'data_file=data.raw,data_file_raw=on', after: WRITES },
  'raw data file, extended L2, odd size': {
    size: 1_000_960,
    options: 'data_file=data.raw,data_file_raw=on,extended_l2=on',
    after: SUBCLUSTERS,
  },
  'lazy refcounts': { options: 'lazy_refcounts=on', after: WRITES },
  'lazy refcounts with snapshots': { options: 'lazy_refcounts=on', after: SNAPSHOTS },
  bitmaps: {
    after: [
      'img bitmap --add image.qcow2 on',
      'img bitmap --add -g 4k image.qcow2 fine',
      'img bitmap --add --disable image.qcow2 off',
      ...WRITES,
    ],
  },
  'bitmaps, clusters of 512 bytes': {
    clusterSize: 512,
    after: ['img bitmap --add -g 512 image.qcow2 fine', ...WRITES],
  },
};

function kindOf(name: string, recipe: Recipe): WriteKind {
  const { size = MIB, clusterSize = 65536, options = '', backing, after = [] } = recipe;
  const create = ['-o', [`cluster_size=${clusterSize}`, options].filter(Boolean).join(',')];
  const below = backing ? ['-b', backing[0], '-F', backing[1]] : [];
  const steps = [...(recipe.before ?? [])];
  if (recipe.from === undefined)
    steps.push([
      'img',
      'create',
      '-q',
      '-f',
      'qcow2',
      ...create,
      ...below,
      'image.qcow2',
      `${size}`,
    ]);
  else {
    const to = backing ? ['-B', backing[0], '-F', backing[1]] : [];
    const flags = recipe.from === 'compress' ? ['-c'] : [];
    steps.push(['img', 'convert', ...flags, '-f', 'raw', '-O', 'qcow2', ...create, ...to]);
    steps[steps.length - 1] = [...steps.at(-1)!, 'source.raw', 'image.qcow2'];
  }
  const snapshots: string[] = [];
  for (const command of after) {
    const [verb, ...words] = command.split(' ');
    if (verb === 'img') steps.push(command.split(' '));
    else if (verb === 'snapshot') {
      snapshots.push(words[0]!);
      steps.push(['img', 'snapshot', '-c', words[0]!, 'image.qcow2']);
    } else steps.push(['io', '-c', command, 'image.qcow2']);
  }
  const version = options.includes('compat=0.10') ? 2 : 3;
  const hasBacking = backing !== undefined;
  const hasDataFile = options.includes('data_file=');
  const refcountBits = Number(/refcount_bits=(\d+)/.exec(options)?.[1] ?? 16);
  const traits = { version, hasBacking, hasDataFile, refcountBits } as const;
  return { name, size, clusterSize, ...traits, snapshots, steps };
}

export const WRITE_KINDS: readonly WriteKind[] = Object.entries(RECIPES).map(([name, recipe]) =>
  kindOf(name, recipe),
);

/** Makes an image of a kind in an empty folder with qemu's tools, and reads it all. */
export async function makeKind(kind: WriteKind, folder: string): Promise<KindImage> {
  writeFileSync(join(folder, 'short.raw'), makeContent('text', 700 * KIB + 512, 3));
  writeFileSync(join(folder, 'source.raw'), makeContent('mixed', kind.size, 4));
  for (const [tool, ...args] of kind.steps) {
    const given = tool === 'io' ? ['-d', 'unmap', '-f', 'qcow2', ...args] : args;
    await runOk(`qemu-${tool}`, given, folder);
  }
  const names = readdirSync(folder).filter((name) => name !== 'source.raw');
  const files = new Map(names.map((name) => [name, read(folder, name)]));
  const disk = await contents(folder, []);
  const snapshots = new Map<string, Uint8Array>();
  for (const name of kind.snapshots) snapshots.set(name, await contents(folder, ['-l', name]));
  return { kind, files, disk, snapshots };
}

function read(folder: string, name: string): Uint8Array {
  return new Uint8Array(readFileSync(join(folder, name)));
}

/** The disk of `image.qcow2` in a folder as qemu-img reads it. */
export async function contents(folder: string, options: readonly string[]): Promise<Uint8Array> {
  const args = ['convert', '-f', 'qcow2', '-O', 'raw', ...options, 'image.qcow2', 'contents.out'];
  await runOk('qemu-img', args, folder);
  return read(folder, 'contents.out');
}
