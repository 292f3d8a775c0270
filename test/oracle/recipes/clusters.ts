import { create, IMAGE, img, io, type Recipe, raw, recipe, SOURCE } from './recipe.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

interface Shape {
  readonly cluster: number;
  readonly compat: '0.10' | '1.1';
  readonly refcountBits: number;
  readonly compression: 'zlib' | 'zstd';
}

type ShapeRow = readonly [number, Shape['compat'], number, Shape['compression']];

const SHAPES: readonly ShapeRow[] = [
  [512, '0.10', 16, 'zlib'],
  [512, '1.1', 1, 'zlib'],
  [512, '1.1', 64, 'zstd'],
  [1 * KIB, '0.10', 16, 'zlib'],
  [1 * KIB, '1.1', 2, 'zlib'],
  [1 * KIB, '1.1', 32, 'zstd'],
  [4 * KIB, '0.10', 16, 'zlib'],
  [4 * KIB, '1.1', 4, 'zlib'],
  [4 * KIB, '1.1', 8, 'zstd'],
  [16 * KIB, '0.10', 16, 'zlib'],
  [16 * KIB, '1.1', 32, 'zlib'],
  [16 * KIB, '1.1', 2, 'zstd'],
  [64 * KIB, '0.10', 16, 'zlib'],
  [64 * KIB, '1.1', 16, 'zlib'],
  [64 * KIB, '1.1', 64, 'zlib'],
  [64 * KIB, '1.1', 1, 'zstd'],
  [256 * KIB, '0.10', 16, 'zlib'],
  [256 * KIB, '1.1', 8, 'zlib'],
  [256 * KIB, '1.1', 4, 'zstd'],
  [2 * MIB, '0.10', 16, 'zlib'],
  [2 * MIB, '1.1', 2, 'zlib'],
  [2 * MIB, '1.1', 32, 'zstd'],
];

function toShape([cluster, compat, refcountBits, compression]: ShapeRow): Shape {
  return { cluster, compat, refcountBits, compression };
}

function label({ cluster, compat, refcountBits, compression }: Shape): string {
  const size = cluster < KIB ? `${cluster}` : `${cluster / KIB}k`;
  return `${size} clusters, ${compat}, refcount ${refcountBits}, ${compression}`;
}

function options({ cluster, compat, refcountBits, compression }: Shape): string {
  const modern = `,refcount_bits=${refcountBits},compression_type=${compression}`;
  return `cluster_size=${cluster},compat=${compat}${compat === '1.1' ? modern : ''}`;
}

function specific({ compat, refcountBits, compression }: Shape): Record<string, unknown> {
  const modern = { 'compression-type': compression, 'lazy-refcounts': false, corrupt: false };
  return { compat, 'refcount-bits': refcountBits, ...(compat === '1.1' ? modern : {}) };
}

/** Every kind of entry once, and the seams between them; `c` is the cluster size. */
function everyKind(c: number): string[] {
  return [
    `write -P 0x11 0 ${c}`,
    `write -P 0x12 ${c + c / 2} ${c / 4}`,
    `write -P 0x13 ${2 * c} ${3 * c}`,
    `write -z ${6 * c} ${c}`,
    `write -P 0x14 ${7 * c} ${2 * c}`,
    `write -z ${7 * c} ${c}`,
    `write -P 0x15 ${9 * c} ${2 * c}`,
    `write -z -u ${9 * c} ${c}`,
    `write -P 0x16 ${11 * c} ${2 * c}`,
    `discard ${11 * c} ${c}`,
    `write -c -P 0x17 ${13 * c} ${c}`,
    `write -c -P 0x18 ${14 * c} ${c}`,
    `write -P 0x19 ${14 * c + c / 2} ${c / 4}`,
    `write -c -P 0x1a ${15 * c} ${c}`,
    `discard ${15 * c} ${c}`,
  ];
}

/** All kinds of entries at the start, and one more group around the end of the first L2 table. */
function kindsRecipe(shape: Shape): Recipe {
  const c = shape.cluster;
  const coverage = (c / 8) * c;
  const twoTables = coverage < 8 * MIB;
  const size = twoTables ? coverage + 20 * c : 17 * c;
  const seam = [
    `write -P 0x21 ${coverage - c} ${2 * c}`,
    `write -z ${coverage + 4 * c} ${2 * c}`,
    `write -c -P 0x22 ${coverage + 8 * c} ${c}`,
  ];
  return recipe(
    `kinds: ${label(shape)}`,
    { clusterSize: c, virtualSize: size, specific: specific(shape) },
    create(options(shape), size),
    io(...everyKind(c), ...(twoTables ? seam : [])),
  );
}

/** Compressed streams of real-like data, packed so that they cross host clusters. */
function compressedRecipe(shape: Shape): Recipe {
  const c = shape.cluster;
  const size = c <= 4 * KIB ? MIB + 12 * KIB : c <= 256 * KIB ? 3 * MIB + 512 : 9 * MIB;
  const overwrite = [`write -P 0x31 ${c + c / 2} 512`, `write -P 0x32 ${3 * c} ${c}`];
  return recipe(
    `compressed: ${label(shape)}`,
    { clusterSize: c, virtualSize: size, specific: specific(shape) },
    raw(SOURCE, 'mixed', size, c + shape.refcountBits),
    img(`convert -c -f raw -O qcow2 -o ${options(shape)} ${SOURCE} ${IMAGE}`),
    io(...(size > 4 * c ? overwrite : [])),
  );
}

const incompressible = (['zlib', 'zstd'] as const).map((compression) =>
  recipe(
    `incompressible data, ${compression}`,
    { virtualSize: MIB },
    raw(SOURCE, 'random', MIB, 5),
    img(
      `convert -c -f raw -O qcow2 -o compression_type=${compression},cluster_size=16k ${SOURCE} ${IMAGE}`,
    ),
  ),
);

const tailCluster = (['zlib', 'zstd'] as const).map((compression) =>
  recipe(
    `compressed cluster cut by the end of the disk, ${compression}`,
    { virtualSize: 200 * KIB },
    raw(SOURCE, 'text', 200 * KIB, 6),
    img(`convert -c -f raw -O qcow2 -o compression_type=${compression} ${SOURCE} ${IMAGE}`),
  ),
);

/** Cluster sizes, versions, refcount widths and compression types against all kinds of entries. */
export const clusterRecipes: readonly Recipe[] = [
  ...SHAPES.map(toShape).map(kindsRecipe),
  ...SHAPES.map(toShape).map(compressedRecipe),
  ...incompressible,
  ...tailCluster,
];
