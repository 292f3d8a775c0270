import {
  create,
  IMAGE,
  img,
  io,
  type Recipe,
  raw,
  recipe,
  SOURCE,
} from '../oracle/recipes/recipe.ts';

const MIB = 1 << 20;
const OVER_RAW = 'backing_file=base.raw,backing_fmt=raw';

function converted(options: string, compress = ''): readonly Recipe['steps'][number][] {
  return [
    raw(SOURCE, 'mixed', 3 * MIB, 41),
    img(`convert ${compress} -f raw -O qcow2 -o ${options} ${SOURCE} ${IMAGE}`),
  ];
}

/** Written, partly zeroed and partly discarded subclusters of 2 KiB. */
const SUBCLUSTERS = [
  'write -P 0x41 0 64k',
  'write -z 8k 4k',
  'write -P 0x42 64k 2k',
  'write -P 0x43 128k 64k',
  'discard 140k 4k',
];

/** Images as every reader of the format meets them, one kind each; `base.raw` lies below some. */
export const kinds: readonly Recipe[] = [
  recipe('version 3', {}, ...converted('compat=1.1')),
  recipe('version 2', {}, ...converted('compat=0.10')),
  recipe('clusters of 4 KiB', {}, ...converted('cluster_size=4k')),
  recipe('clusters of 2 MiB', {}, ...converted('cluster_size=2M')),
  recipe('disk that ends within a cluster', {}, create('compat=1.1', 200_704), io('write 0 196k')),
  recipe('preallocated metadata', {}, create('preallocation=metadata', MIB), io('write 100k 50k')),
  recipe(
    'with an internal snapshot',
    {},
    ...converted('compat=1.1'),
    img(`snapshot -c s ${IMAGE}`),
    io('write -P 9 1M 128k'),
  ),
  recipe(
    'zero clusters without a place',
    {},
    ...converted('compat=1.1'),
    io('write -z -u 1M 512k'),
  ),
  recipe('zero clusters with a place', {}, ...converted('compat=1.1'), io('write -z 1M 512k')),
  recipe('compressed, deflate', {}, ...converted('compat=1.1', '-c')),
  recipe('compressed, deflate, version 2', {}, ...converted('compat=0.10', '-c')),
  recipe('compressed, zstd', {}, ...converted('compression_type=zstd', '-c')),
  recipe('extended L2 entries', {}, ...converted('extended_l2=on')),
  recipe('extended L2 entries, subclusters', {}, create('extended_l2=on', MIB), io(...SUBCLUSTERS)),
  recipe(
    'external data file',
    {},
    create('data_file=disk.data', MIB),
    io('write -P 1 0 128k', 'write -P 2 300k 50k'),
  ),
  recipe(
    'external raw data file',
    {},
    create('data_file=disk.data,data_file_raw=on', MIB),
    io('write -P 1 0 128k'),
  ),
  recipe(
    'backing file',
    {},
    raw('base.raw', 'text', MIB, 42),
    create(OVER_RAW, MIB),
    io('write -P 3 64k 128k'),
  ),
  recipe(
    'backing file, zero clusters over it',
    {},
    raw('base.raw', 'text', MIB, 43),
    create(OVER_RAW, MIB),
    io('write -z 128k 128k'),
  ),
  recipe(
    'backing file, subclusters over it',
    {},
    raw('base.raw', 'text', MIB, 44),
    create(`extended_l2=on,${OVER_RAW}`, MIB),
    io('write -P 4 66k 2k'),
  ),
  recipe(
    'backing file that is shorter',
    {},
    raw('base.raw', 'text', MIB / 2 + 512, 45),
    create(OVER_RAW, MIB),
    io('write -P 5 900k 64k'),
  ),
];
