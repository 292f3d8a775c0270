import { create, img, io, ioOn, type Recipe, raw, recipe } from '../oracle/recipes/recipe.ts';

const MIB = 1 << 20;

/** An image a page is to open, and the files it names. */
export interface BrowserImage {
  readonly recipe: Recipe;
  /** Other names of files, as options of `Image.open` and of the command line. */
  readonly dataFile?: string;
  readonly backingFiles?: readonly string[];
  readonly snapshot?: string;
}

function converted(name: string, options: string, seed: number): BrowserImage {
  const steps = [raw('source.raw', 'mixed', 3 * MIB + 512, seed)];
  return {
    recipe: recipe(
      name,
      {},
      ...steps,
      img(`convert -f raw -O qcow2 ${options} source.raw disk.qcow2`),
    ),
  };
}

const SPARSE = ['write -P 0x11 0 64k', 'write -P 0x12 1M 5k', 'write -z 2M 256k'];

/** One image of each kind that is read in its own way. */
export const browserImages: readonly BrowserImage[] = [
  converted('plain', '', 1),
  converted('deflate', '-c', 2),
  converted('zstd', '-c -o compression_type=zstd', 3),
  converted('extended L2', '-o extended_l2=on,cluster_size=64k', 4),
  converted('version 2', '-c -o compat=0.10', 5),
  {
    recipe: recipe(
      'snapshot',
      {},
      create('cluster_size=64k', 3 * MIB),
      io(...SPARSE),
      img('snapshot -c before disk.qcow2'),
      io('write -P 0x13 32k 128k', 'write -P 0x14 2M 64k'),
    ),
    snapshot: 'before',
  },
  {
    recipe: recipe('data file', {}, create('data_file=disk.data', 3 * MIB), io(...SPARSE)),
    dataFile: 'disk.data',
  },
  {
    recipe: recipe(
      'backing chain',
      {},
      raw('base.raw', 'mixed', 2 * MIB, 6),
      img('create -q -f qcow2 -b base.raw -F raw middle.qcow2 3M'),
      ioOn('middle.qcow2', 'write -P 0x21 100k 100k', 'write -z 1M 64k'),
      create('backing_file=middle.qcow2,backing_fmt=qcow2', 3 * MIB),
      io('write -P 0x22 150k 10k'),
    ),
    backingFiles: ['middle.qcow2', 'base.raw'],
  },
];
