import { create, IMAGE, img, io, type Recipe, raw, recipe, SOURCE } from './recipe.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

interface Row {
  readonly cluster: number;
  readonly more: string;
}

const ROWS: readonly Row[] = [
  { cluster: 16 * KIB, more: '' },
  { cluster: 64 * KIB, more: ',compression_type=zstd' },
  { cluster: 256 * KIB, more: ',refcount_bits=1' },
  { cluster: 2 * MIB, more: ',lazy_refcounts=on' },
];

/** Written, zeroed, discarded and untouched subclusters (`s` bytes) within clusters of 32. */
function mixes(s: number): string[] {
  const c = 32 * s;
  return [
    `write -P 0x41 0 ${s}`,
    `write -P 0x42 ${3 * s} ${2 * s}`,
    `write -z ${8 * s} ${4 * s}`,
    `write -P 0x43 ${9 * s} ${s}`,
    `write -P 0x44 ${31 * s} ${2 * s}`,
    `write -P 0x45 ${2 * c} ${c}`,
    `write -z ${2 * c + 5 * s} ${3 * s}`,
    `discard ${2 * c + 20 * s} ${4 * s}`,
    `write -z -u ${2 * c + 28 * s} ${s}`,
    `write -z ${3 * c} ${c}`,
    `write -P 0x46 ${3 * c + 7 * s + s / 2} ${s / 4}`,
    `write -P 0x47 ${4 * c} ${c}`,
    `discard ${4 * c} ${c}`,
    `write -c -P 0x48 ${5 * c} ${c}`,
    `write -c -P 0x49 ${6 * c} ${c}`,
    `write -P 0x4a ${6 * c + 16 * s} ${s}`,
    `write -z ${7 * c + s} ${s}`,
    `write -z ${7 * c + 30 * s} ${2 * s}`,
  ];
}

function mixRecipe({ cluster, more }: Row): Recipe {
  return recipe(
    `subclusters: ${cluster / KIB}k clusters${more}`,
    { clusterSize: cluster, specific: { 'extended-l2': true } },
    create(`extended_l2=on,cluster_size=${cluster}${more}`, 9 * cluster + 512),
    io(...mixes(cluster / 32)),
  );
}

/** Subcluster images over backing data, alone, compressed, with a data file and with snapshots. */
export const subclusterRecipes: readonly Recipe[] = [
  ...ROWS.map(mixRecipe),
  recipe(
    'subclusters over a raw backing file',
    { clusterSize: 64 * KIB },
    raw('base.raw', 'text', MIB, 11),
    create(`extended_l2=on,backing_file=base.raw,backing_fmt=raw`, 2 * MIB),
    io(...mixes(2 * KIB), `write -z ${MIB - 32 * KIB} 64k`),
  ),
  recipe(
    'subclusters over subclusters',
    { clusterSize: 64 * KIB },
    raw('base.raw', 'mixed', 900 * KIB, 12),
    img('convert -f raw -O qcow2 -o extended_l2=on,cluster_size=32k base.raw middle.qcow2'),
    create(`extended_l2=on,backing_file=middle.qcow2,backing_fmt=qcow2`, MIB),
    io(...mixes(2 * KIB)),
  ),
  recipe(
    'subclusters, compressed from a file',
    { specific: { 'extended-l2': true, 'compression-type': 'zlib' } },
    raw(SOURCE, 'mixed', 2 * MIB, 13),
    img(`convert -c -f raw -O qcow2 -o extended_l2=on ${SOURCE} ${IMAGE}`),
    io(`write -P 0x51 2k 2k`, `write -z 70k 4k`),
  ),
  recipe(
    'subclusters with a data file',
    { specific: { 'extended-l2': true, 'data-file': 'disk.data' } },
    create(`extended_l2=on,data_file=disk.data`, MIB),
    io(...mixes(2 * KIB).filter((command) => !command.startsWith('write -c'))),
  ),
  recipe(
    'subclusters with a snapshot',
    { snapshots: ['one'] },
    create(`extended_l2=on`, MIB),
    io(...mixes(2 * KIB)),
    img(`snapshot -c one ${IMAGE}`),
    io('write -P 0x61 4k 2k', 'write -z 130k 6k', 'discard 320k 64k'),
  ),
  recipe(
    'subclusters, metadata preallocated',
    { sparse: true, specific: { 'extended-l2': true } },
    create(`extended_l2=on,preallocation=metadata`, MIB),
    io('write -P 0x62 10k 2k', 'write -z 100k 30k'),
  ),
];
