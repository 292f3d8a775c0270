import {
  create,
  cutEnd,
  IMAGE,
  img,
  io,
  patch,
  type Recipe,
  raw,
  recipe,
  SOURCE,
} from './recipe.ts';

const MIB = 1 << 20;

const WRITES: readonly string[] = [
  'write -P 0x71 0 64k',
  'write -P 0x72 200k 8k',
  'write -z 256k 64k',
  'write -P 0x73 320k 128k',
  'write -z 320k 64k',
  'write -P 0x74 512k 128k',
  'discard 512k 64k',
];

/** Guest clusters in an external data file: host offset 0 is a valid place there. */
export const dataFileRecipes: readonly Recipe[] = [
  recipe(
    'data file, relative name',
    { specific: { 'data-file': 'disk.data', 'data-file-raw': false } },
    create('data_file=disk.data', MIB),
    io(...WRITES),
  ),
  recipe(
    'data file, raw',
    { specific: { 'data-file': 'disk.data', 'data-file-raw': true } },
    create('data_file=disk.data,data_file_raw=on', MIB),
    io(...WRITES),
  ),
  recipe(
    'data file, absolute name',
    { specific: { 'data-file-raw': false } },
    create('data_file={dir}/disk.data,cluster_size=4k,refcount_bits=8', MIB),
    io(...WRITES),
  ),
  recipe(
    'data file, raw, absolute name, 2M clusters',
    { specific: { 'data-file-raw': true } },
    create('data_file={dir}/disk.data,data_file_raw=on,cluster_size=2M', 5 * MIB),
    io('write -P 0x75 0 2M', 'write -P 0x76 3M 512', 'write -z 4M 1M'),
  ),
  recipe(
    'data file filled from a file',
    { virtualSize: MIB + 512 },
    raw(SOURCE, 'mixed', MIB + 512, 21),
    img(`convert -f raw -O qcow2 -o data_file=disk.data,cluster_size=512 ${SOURCE} ${IMAGE}`),
  ),
  recipe(
    'data file over a backing file',
    {},
    raw('base.raw', 'text', MIB, 22),
    create('data_file=disk.data,backing_file=base.raw,backing_fmt=raw', 2 * MIB),
    io(...WRITES, 'write -P 0x78 1500k 3k'),
  ),
  recipe(
    'data file, untouched',
    { specific: { 'data-file': 'disk.data' } },
    create('data_file=disk.data', MIB),
  ),
  recipe(
    'data file, raw, metadata preallocated',
    { sparse: true, specific: { 'data-file-raw': true } },
    create('data_file=disk.data,data_file_raw=on,preallocation=metadata', MIB),
    io('write -P 0x79 64k 4k'),
  ),
  recipe(
    'data file, grown',
    { virtualSize: 2 * MIB },
    create('data_file=disk.data', MIB),
    io(...WRITES),
    img(`resize -q ${IMAGE} 2M`),
    io('write -P 0x7a 1536k 64k'),
  ),
  recipe(
    'data file, raw, written behind the image',
    { specific: { 'data-file-raw': true } },
    create('data_file=disk.data,data_file_raw=on', MIB),
    patch((bytes) => bytes.fill(0x7b, 100_000, 300_000), 'disk.data'),
  ),
  recipe(
    'data file, raw, subclusters, written behind the image',
    { specific: { 'data-file-raw': true, 'extended-l2': true } },
    create('data_file=disk.data,data_file_raw=on,extended_l2=on', MIB),
    io('write -P 0x7c 128k 4k'),
    patch((bytes) => bytes.fill(0x7d, 100_000, 130_000), 'disk.data'),
  ),
  recipe(
    'data file shorter than the disk, by less than a cluster',
    {},
    create('data_file=disk.data', MIB),
    io('write -P 0x7e 0 1M'),
    cutEnd(40_000, 'disk.data'),
  ),
];
