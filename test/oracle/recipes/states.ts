import {
  create,
  cutEnd,
  IMAGE,
  img,
  imgWords,
  io,
  ioKilled,
  patch,
  type Recipe,
  raw,
  recipe,
  SOURCE,
} from './recipe.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

const snapshot = (name: string) => img(`snapshot -c ${name} ${IMAGE}`);

/** The first is the number of the second: a number is looked for before a name. */
const ODD_NAMES = ['2', 'a name', 'Überlänge', 'a-name-too-long-for-the-column-of-a-table'];

const snapshotRecipes: readonly Recipe[] = [
  recipe(
    'snapshots: three, divergent',
    { snapshots: ['one', 'two', 'three'] },
    create('cluster_size=64k', 2 * MIB),
    io('write -P 0x91 0 256k', 'write -c -P 0x92 512k 64k'),
    snapshot('one'),
    io('write -P 0x93 64k 64k', 'write -z 128k 64k', 'discard 512k 64k'),
    snapshot('two'),
    img(`snapshot -a one ${IMAGE}`),
    io('write -P 0x94 0 4k', 'write -P 0x95 1M 64k'),
    snapshot('three'),
    io('write -P 0x96 300k 1k'),
  ),
  recipe(
    'snapshots: old version, small clusters, one deleted',
    { snapshots: ['two'] },
    create('cluster_size=512,compat=0.10', MIB),
    io('write -P 0x97 10k 50k'),
    snapshot('one'),
    io('write -P 0x98 30k 50k', 'write -z 12k 4k'),
    snapshot('two'),
    img(`snapshot -d one ${IMAGE}`),
    io('write -P 0x99 40k 5k'),
  ),
  recipe(
    'snapshots: disk grown between',
    { snapshots: ['small', 'large'], virtualSize: 3 * MIB, resized: true },
    create('cluster_size=4k,refcount_bits=4', MIB),
    io('write -P 0x9a 1000k 24k'),
    snapshot('small'),
    img(`resize -q ${IMAGE} 3M`),
    io('write -P 0x9b 1000k 40k', 'write -P 0x9c 2M 8k'),
    snapshot('large'),
    io('write -z 1000k 8k'),
  ),
  recipe(
    'snapshots: disk shrunk after',
    { snapshots: ['large'], virtualSize: MIB, resized: true },
    create('cluster_size=4k', 3 * MIB),
    io('write -P 0x9d 1000k 40k', 'write -P 0x9e 2M 8k'),
    snapshot('large'),
    img(`resize -q --shrink ${IMAGE} 1M`),
    io('write -P 0x9f 0 4k'),
  ),
  recipe(
    'snapshots: names with blanks, wide letters, and another one’s number',
    { snapshots: ODD_NAMES },
    create('cluster_size=64k', MIB),
    ...ODD_NAMES.flatMap((name, at) => [
      io(`write -P ${0xe0 + at} ${at * 32 * KIB} 64k`),
      imgWords('snapshot', '-c', name, IMAGE),
    ]),
  ),
];

const bitmapRecipes: readonly Recipe[] = [
  recipe(
    'bitmaps: enabled, disabled, own granularity',
    {},
    create('cluster_size=64k', 4 * MIB),
    img(`bitmap --add ${IMAGE} first`),
    img(`bitmap --add --disable -g 4k ${IMAGE} second`),
    io('write -P 0xa1 1M 70k'),
    img(`bitmap --add -g 2M ${IMAGE} third`),
  ),
  recipe(
    'bitmaps: left in use by a crash',
    {},
    create('cluster_size=64k', 4 * MIB),
    img(`bitmap --add ${IMAGE} first`),
    ioKilled('write -P 0xa2 1M 64k', 'flush'),
  ),
  recipe(
    'bitmaps with snapshots and 512-byte clusters',
    { snapshots: ['one'] },
    create('cluster_size=512', MIB),
    img(`bitmap --add -g 512 ${IMAGE} fine`),
    io('write -P 0xa3 5k 20k'),
    snapshot('one'),
    io('write -P 0xa4 9k 3k'),
  ),
];

const sizeRecipes: readonly Recipe[] = [
  recipe('size 0', { virtualSize: 0 }, create('cluster_size=64k', 0)),
  recipe('size 0, old version', { virtualSize: 0 }, create('compat=0.10', 0)),
  recipe('size 512, empty', { virtualSize: 512 }, create('cluster_size=64k', 512)),
  recipe(
    'size 512, written, 2M clusters',
    { virtualSize: 512 },
    create('cluster_size=2M', 512),
    io('write -P 0xb1 0 512'),
  ),
  recipe(
    'size asked for is no whole sector',
    { virtualSize: 1536 },
    create('cluster_size=512', 1025),
    io('write -P 0xb2 1000 500'),
  ),
  recipe(
    'size not a multiple of the cluster, end written',
    { virtualSize: MIB + 1536 },
    create('cluster_size=64k', MIB + 1536),
    io('write -P 0xb3 1M 1536'),
  ),
  recipe(
    'size in the header is no whole sector',
    {},
    create('cluster_size=64k', MIB + 512),
    io('write -P 0xb4 1020k 4608'),
    patch((bytes) => bytes.writeBigUInt64BE(BigInt(MIB + 100), 24)),
  ),
  recipe(
    'a large disk with little in it',
    { virtualSize: 40 * MIB },
    create('cluster_size=1k', 40 * MIB),
    io('write -P 0xb5 39M 3k', 'write -P 0xb6 20M 1k'),
  ),
];

const endRecipes: readonly Recipe[] = [
  recipe(
    'last host cluster ends early, on a sector',
    {},
    create('cluster_size=64k', MIB),
    io('write -P 0xc1 0 64k', 'write -P 0xc2 128k 64k'),
    cutEnd(60 * KIB),
  ),
  recipe(
    'last host cluster ends early, within a sector',
    {},
    create('cluster_size=64k,compat=0.10', MIB),
    io('write -P 0xc3 0 64k'),
    cutEnd(100),
  ),
  recipe(
    'compressed stream at the very end of the file',
    {},
    create('cluster_size=64k', MIB),
    io('write -c -P 0xc4 0 64k', 'write -c -P 0xc5 64k 64k'),
  ),
  recipe(
    'compressed stream of a small file, zstd',
    { virtualSize: 10 * KIB },
    raw(SOURCE, 'text', 10 * KIB, 41),
    img(`convert -c -f raw -O qcow2 -o compression_type=zstd ${SOURCE} ${IMAGE}`),
  ),
];

const layoutRecipes: readonly Recipe[] = [
  ...['metadata', 'falloc', 'full'].map((mode) =>
    recipe(
      `preallocation ${mode}`,
      { sparse: mode !== 'full' },
      create(`preallocation=${mode},cluster_size=${mode === 'full' ? '4k' : '64k'}`, MIB),
      io('write -P 0xd1 100k 4k'),
    ),
  ),
  recipe(
    'preallocation metadata, old version',
    { sparse: true },
    create('preallocation=metadata,compat=0.10', MIB + 512),
  ),
  recipe(
    'lazy refcounts, closed',
    { specific: { 'lazy-refcounts': true } },
    create('lazy_refcounts=on', MIB),
    io('write -P 0xd2 0 100k'),
  ),
  recipe(
    'lazy refcounts, dirty after a crash',
    { specific: { 'lazy-refcounts': true } },
    create('lazy_refcounts=on', MIB),
    ioKilled('write -P 0xd3 0 100k', 'write -z 200k 64k', 'flush'),
  ),
  recipe(
    'crashed without lazy refcounts',
    {},
    create('cluster_size=64k', MIB),
    ioKilled('write -P 0xd4 0 100k', 'flush'),
  ),
  recipe(
    'marked corrupt',
    { specific: { corrupt: true } },
    create('cluster_size=64k', MIB),
    io('write -P 0xd5 0 100k'),
    patch((bytes) => bytes.writeUInt8((bytes[79] ?? 0) | 2, 79)),
  ),
  recipe(
    'unknown compatible and autoclear features',
    {},
    create('cluster_size=64k', MIB),
    io('write -P 0xd6 0 64k'),
    patch((bytes) => {
      bytes.writeUInt8(0x80, 80);
      bytes.writeUInt8(0x80, 88);
    }),
  ),
  recipe(
    'grown',
    { virtualSize: 40 * MIB },
    create('cluster_size=4k', MIB),
    io('write -P 0xd7 1000k 24k'),
    img(`resize -q ${IMAGE} 40M`),
    io('write -P 0xd8 39M 8k'),
  ),
  recipe(
    'shrunk',
    { virtualSize: MIB + 512 },
    create('cluster_size=4k', 4 * MIB),
    io('write -P 0xd9 0 4M'),
    img(`resize -q --shrink ${IMAGE} ${MIB + 512}`),
  ),
  recipe(
    'amended to wider refcounts and another version',
    { specific: { compat: '1.1', 'refcount-bits': 64 } },
    create('compat=0.10', MIB),
    io('write -P 0xda 0 300k'),
    img(`amend -f qcow2 -o compat=1.1,refcount_bits=64 ${IMAGE}`),
  ),
  recipe(
    'amended to the old version',
    { specific: { compat: '0.10' } },
    create('compat=1.1', MIB),
    io('write -P 0xdb 0 300k', 'write -z 64k 64k'),
    img(`amend -f qcow2 -o compat=0.10 ${IMAGE}`),
  ),
];

const SECRET = '--object secret,id=s,data=secret';

const encryptedRecipes: readonly Recipe[] = [
  recipe(
    'encrypted with LUKS',
    { encrypted: true },
    img(
      `create -q -f qcow2 ${SECRET} -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 ${IMAGE} 1M`,
    ),
  ),
  recipe(
    'encrypted with AES',
    { encrypted: true, specific: { encrypt: { format: 'aes' } } },
    img(`create -q -f qcow2 ${SECRET} -o encrypt.format=aes,encrypt.key-secret=s ${IMAGE} 1M`),
  ),
];

/** Snapshots, bitmaps, odd sizes, early ends, preallocation, features, resizes and encryption. */
export const stateRecipes: readonly Recipe[] = [
  ...encryptedRecipes,
  ...snapshotRecipes,
  ...bitmapRecipes,
  ...sizeRecipes,
  ...endRecipes,
  ...layoutRecipes,
];
