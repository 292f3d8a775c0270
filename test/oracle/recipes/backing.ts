import { create, IMAGE, img, io, ioOn, patch, type Recipe, raw, recipe } from './recipe.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const BACKING_FORMAT = 0xe2792aca;

const OVERLAY: readonly string[] = [
  'write -P 0x81 0 64k',
  'write -P 0x82 100k 3k',
  'write -z 192k 128k',
  'write -P 0x83 400k 64k',
  'discard 400k 64k',
];

/** Ends the header extensions where the backing format is recorded, as old tools left it out. */
function forgetFormat(bytes: Buffer): void {
  const at = bytes.readUInt32BE(100);
  if (bytes.readUInt32BE(at) !== BACKING_FORMAT) throw new Error(`no backing format at ${at}`);
  bytes.fill(0, at, at + 8);
}

function over(name: string, format: string, more = ''): string {
  return `backing_file=${name},backing_fmt=${format}${more}`;
}

const rawBase = raw('base.raw', 'mixed', MIB, 31);
const qcow2Base = img('convert -f raw -O qcow2 base.raw base.qcow2');

/** Overlays on raw and qcow2 files of every relative length, and chains of them. */
export const backingRecipes: readonly Recipe[] = [
  recipe(
    'backing raw, same length',
    {},
    rawBase,
    create(over('base.raw', 'raw'), MIB),
    io(...OVERLAY),
  ),
  recipe(
    'backing raw, shorter',
    { virtualSize: 3 * MIB },
    rawBase,
    create(over('base.raw', 'raw'), 3 * MIB),
    io(...OVERLAY, `write -P 0x84 ${MIB - 4 * KIB} 512`, 'write -P 0x85 2M 5k'),
  ),
  recipe(
    'backing raw, longer',
    { virtualSize: 700 * KIB },
    rawBase,
    create(over('base.raw', 'raw'), 700 * KIB),
    io(...OVERLAY),
  ),
  recipe(
    'backing raw of a length that is no whole sector',
    {},
    raw('base.raw', 'text', 300_001, 32),
    create(over('base.raw', 'raw'), MIB),
    io('write -P 0x86 64k 4k'),
  ),
  recipe(
    'backing qcow2, shorter, smaller clusters',
    {},
    rawBase,
    img('convert -f raw -O qcow2 -o cluster_size=4k base.raw base.qcow2'),
    create(over('base.qcow2', 'qcow2'), 2 * MIB),
    io(...OVERLAY),
  ),
  recipe(
    'backing qcow2, longer, larger clusters',
    {},
    rawBase,
    img('convert -f raw -O qcow2 -o cluster_size=256k base.raw base.qcow2'),
    create(over('base.qcow2', 'qcow2', ',cluster_size=1k,compat=0.10'), 801 * KIB),
    io(...OVERLAY),
  ),
  recipe(
    'backing qcow2, compressed below',
    {},
    rawBase,
    img('convert -c -f raw -O qcow2 -o compression_type=zstd base.raw base.qcow2'),
    create(over('base.qcow2', 'qcow2'), MIB),
    io(...OVERLAY, 'write -c -P 0x87 512k 64k'),
  ),
  recipe(
    'backing of the old version',
    {},
    rawBase,
    img('convert -c -f raw -O qcow2 -o compat=0.10 base.raw base.qcow2'),
    create(over('base.qcow2', 'qcow2', ',compat=0.10'), MIB),
    io(...OVERLAY),
  ),
  recipe(
    'backing with zeros and holes over data',
    {},
    rawBase,
    qcow2Base,
    ioOn('base.qcow2', 'write -z 0 128k', 'write -z -u 128k 64k', 'discard 256k 64k'),
    create(over('base.qcow2', 'qcow2'), MIB),
    io('write -z 512k 256k', 'write -P 0x88 600k 512'),
  ),
  recipe(
    'chain of three',
    {},
    rawBase,
    img('create -q -f qcow2 -b base.raw -F raw lower.qcow2 2M'),
    ioOn('lower.qcow2', ...OVERLAY),
    create(over('lower.qcow2', 'qcow2'), 2 * MIB),
    io('write -P 0x89 64k 64k', 'write -z 104k 4k', 'write -P 0x8a 1200k 4k'),
  ),
  recipe(
    'chain of four with lengths up and down',
    {},
    rawBase,
    img('create -q -f qcow2 -b base.raw -F raw one.qcow2 600k'),
    ioOn('one.qcow2', 'write -P 0x8b 580k 20k'),
    img('create -q -f qcow2 -o cluster_size=4k -b one.qcow2 -F qcow2 two.qcow2 2M'),
    ioOn('two.qcow2', 'write -P 0x8c 1M 8k', 'write -z 0 12k'),
    create(over('two.qcow2', 'qcow2', ',cluster_size=256k'), 1536 * KIB),
    io('write -P 0x8d 300k 4k'),
  ),
  recipe(
    'backing without a recorded format: raw',
    {},
    rawBase,
    create(over('base.raw', 'raw'), MIB),
    io(...OVERLAY),
    patch(forgetFormat),
  ),
  recipe(
    'backing without a recorded format: qcow2',
    {},
    rawBase,
    qcow2Base,
    create(over('base.qcow2', 'qcow2'), MIB),
    io(...OVERLAY),
    patch(forgetFormat),
  ),
  recipe(
    'backing qcow2 read as raw because its format says so',
    {},
    rawBase,
    qcow2Base,
    create(over('base.qcow2', 'raw'), MIB),
    io('write -P 0x8e 64k 512'),
  ),
  recipe(
    'backing by an absolute name',
    {},
    rawBase,
    create(over('{dir}/base.raw', 'raw'), MIB),
    io(...OVERLAY),
  ),
  recipe(
    'backing longer, then grown: the part below stays hidden',
    { virtualSize: MIB },
    rawBase,
    create(over('base.raw', 'raw'), 256 * KIB),
    img(`resize -q ${IMAGE} 1M`),
  ),
  recipe(
    'overlay with snapshots',
    { snapshots: ['one'] },
    rawBase,
    create(over('base.raw', 'raw'), MIB),
    io(...OVERLAY),
    img(`snapshot -c one ${IMAGE}`),
    io('write -P 0x8f 0 1M'),
  ),
  recipe('overlay, untouched', {}, rawBase, qcow2Base, create(over('base.qcow2', 'qcow2'), MIB)),
];
