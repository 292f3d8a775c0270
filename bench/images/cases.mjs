// What is measured as whole processes. `ours` and `typed` are what a person types; `best` is qemu-img
// with every option that makes it faster. `out` names are removed before each run.

/** @typedef {{ name: string, ours: string[], typed: string[], best?: string[], goal?: number, goalBest?: number, shell?: boolean }} Case */

const BEST = ['-m', '16', '-W'];

/** A conversion: the same words for both tools. */
function convert(name, goal, goalBest, ...words) {
  const typed = ['convert', ...words];
  return { name, ours: typed, typed, best: ['convert', ...BEST, ...words], goal, goalBest };
}

const toRaw = (input) => ['-O', 'raw', input, 'out.raw'];
const toQcow2 = (...words) => ['-O', 'qcow2', ...words, 'disk.raw', 'out.qcow2'];

/** @type {Case[]} */
export const CASES = [
  convert('qcow2 to raw', 1.0, 1.1, ...toRaw('plain.qcow2')),
  convert('raw to qcow2', 0.9, 1.0, ...toQcow2()),
  convert('deflate to raw', 0.35, 0.45, ...toRaw('deflate.qcow2')),
  convert('zstd to raw', 0.6, 0.8, ...toRaw('zstd.qcow2')),
  convert('raw to deflate', 0.25, 0.45, ...toQcow2('-c')),
  convert('raw to zstd', 0.5, 1.5, ...toQcow2('-c', '-o', 'compression_type=zstd')),
  convert('data file to raw', 0.9, undefined, ...toRaw('outside.qcow2')),
  convert('raw to data file', undefined, undefined, ...toQcow2('-o', 'data_file=out.data')),
  convert('chain of 3 to raw', 0.9, undefined, ...toRaw('top.qcow2')),
  convert('snapshot to raw', 0.9, undefined, '-l', 'before', ...toRaw('snapshot.qcow2')),
  convert('2 MiB clusters to raw', 1.0, undefined, ...toRaw('large.qcow2')),
  convert('4 KiB clusters to raw', 1.0, undefined, ...toRaw('small.qcow2')),
  convert('extended L2 to raw', 1.0, undefined, ...toRaw('extended.qcow2')),
  same('compare, plain', 1.0, 'compare', 'plain.qcow2', 'large.qcow2'),
  same('compare, deflate', 0.4, 'compare', 'deflate.qcow2', 'plain.qcow2'),
  same('check', undefined, 'check', 'small.qcow2'),
  same('map', undefined, 'map', '--output=json', 'small.qcow2'),
  same('info', undefined, 'info', 'plain.qcow2'),
  same('measure', undefined, 'measure', '-O', 'qcow2', 'small.qcow2'),
];

function same(name, goal, ...words) {
  return { name, ours: words, typed: words, goal };
}

/** A hundred images: one process of ours against what people put around qemu-img. */
export const BATCH = {
  name: 'batch of 100 images to raw',
  ours: ['batch', '-q', '-O', 'raw', '-d', 'out', 'batch/*.qcow2'],
  loop: 'for f in batch/*.qcow2; do qemu-img convert -O raw "$f" "out/$(basename "$f" .qcow2).raw"; done',
  xargs:
    'ls batch/*.qcow2 | xargs -P2 -I{} sh -c \'qemu-img convert -O raw "$1" "out/$(basename "$1" .qcow2).raw"\' _ {}',
  goal: 0.33,
  goalBest: 0.67,
};
