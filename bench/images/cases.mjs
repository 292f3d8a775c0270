// What is measured as whole processes. `ours` and `typed` are what a person types; `best` is qemu-img
// with every option that makes it faster.
import zlib from 'node:zlib';

/**
 * @typedef {object} Case
 * @property {string} name
 * @property {string} inputs files that are read, for the shell
 * @property {string} [prepare] a shell command that makes what a run changes; not measured
 * @property {string[]} [ours]
 * @property {{ verb: string, path: string }} [started] ours in a process already started
 * @property {string[]} typed
 * @property {string[]} [best]
 * @property {string[]} [copies] what a plain loop in C copies, and where to
 * @property {boolean} [isInfo] against a Node that does nothing, too
 * @property {boolean} [isShort] measured in more rounds
 * @property {boolean} [writes] whether much memory is taken for what is written
 * @property {string} [output] whose length is compared
 * @property {Record<string, number>} [goals] most of the time of each contender
 * @property {number} [sizeGoal] most of the size of what the others make
 */

const BEST = ['-m', '16', '-W'];
const LOOP_GOAL = 1.2;

/** A conversion: the same words for both tools. */
function convert(name, inputs, [typedGoal, bestGoal], words, more = {}) {
  const typed = ['convert', ...words];
  const goals = {
    ...(typedGoal && { 'qemu-img': typedGoal }),
    ...(bestGoal && { 'qemu-img -m 16 -W': bestGoal }),
    ...(more.copies && { 'a C loop': LOOP_GOAL }),
  };
  const best = ['convert', ...BEST, ...words];
  return { name, inputs, ours: typed, typed, best, writes: true, ...more, goals };
}

function toRaw(name, goals, inputs, more = {}) {
  const { options = [], ...others } = more;
  const words = ['-O', 'raw', ...options, inputs.split(' ')[0], 'out.raw'];
  return convert(`${name} to raw`, inputs, goals, words, others);
}

function toQcow2(name, goals, options, more) {
  const words = ['-O', 'qcow2', ...options, 'disk.raw', 'out.qcow2'];
  return convert(name, 'disk.raw', goals, words, more);
}

function toCompressed(name, type, goals, sizeGoal, input) {
  const words = ['-O', 'qcow2', '-c', '-o', `compression_type=${type}`, input, 'out.qcow2'];
  return convert(name, input, goals, words, { writes: false, output: 'out.qcow2', sizeGoal });
}

/** A verb that both tools have; ours and theirs are told the same. */
function same(name, inputs, words, more = {}) {
  return { name, inputs, ours: words, typed: words, ...more };
}

function short(name, words, more = {}) {
  return same(name, 'small.qcow2', [...words, 'small.qcow2'], { isShort: true, ...more });
}

function started(verb, ...options) {
  const more = { started: { verb, path: 'small.qcow2' }, goals: { 'qemu-img': 1 } };
  return short(`${verb}, process already started`, [verb, ...options], more);
}

const DISK_BYTES = 4 * 2 ** 30;

/**
 * Writes all over an empty disk: the step is an odd number of requests, so that no place comes twice,
 * and a golden section of the disk, so that places next to each other come far apart in time.
 */
function scattered(name, size, count) {
  const step = (Math.floor((DISK_BYTES / size) * 0.381966) | 1) * size;
  const request = ['-c', String(count), '-d', '64', '-s', String(size), '-S', String(step)];
  const words = ['bench', '-w', '-t', 'unsafe', ...request, '-f', 'qcow2', 'out.qcow2'];
  const prepare = `qemu-img create -q -f qcow2 out.qcow2 ${DISK_BYTES}`;
  return same(name, '/dev/null', words, { prepare, writes: true, goals: { 'qemu-img': 1 } });
}

/** Part of the disk, for qemu-img takes a minute to deflate all of it twice. */
const THIRD = 'third.raw';
const CHAIN = 'top.qcow2 middle.qcow2 plain.qcow2';
const COPIES = { copies: ['disk.raw', 'out.raw'] };
/** Node 22.15 and later compress with zstd themselves. */
const ZSTD_GOAL = 'zstdCompressSync' in zlib ? 1.0 : 1.5;

/** @type {Case[]} */
export const CASES = [
  toRaw('qcow2', [1.0, 1.1], 'plain.qcow2', COPIES),
  toQcow2('raw to qcow2', [0.9, 1.0], [], COPIES),
  toRaw('deflate', [0.35, 0.45], 'deflate.qcow2'),
  toRaw('zstd', [0.6, 0.8], 'zstd.qcow2'),
  toCompressed('raw to deflate', 'zlib', [0.25, 0.45], 1.005, THIRD),
  toCompressed('raw to zstd', 'zstd', [0.5, ZSTD_GOAL], 1.01, 'disk.raw'),
  toRaw('data file', [0.9], 'outside.qcow2 outside.data'),
  toQcow2('raw to data file', [], ['-o', 'data_file=out.data']),
  toRaw('chain of 3', [0.9], CHAIN),
  toRaw('snapshot', [0.9], 'snapshot.qcow2', { options: ['-l', 'before'] }),
  toRaw('2 MiB clusters', [1.0], 'large.qcow2'),
  toRaw('4 KiB clusters', [1.0], 'small.qcow2'),
  toRaw('extended L2', [1.0], 'extended.qcow2'),
  same('compare, plain', 'plain.qcow2 large.qcow2', ['compare', 'plain.qcow2', 'large.qcow2'], {
    goals: { 'qemu-img': 1.0 },
  }),
  same(
    'compare, deflate',
    'deflate.qcow2 plain.qcow2',
    ['compare', 'deflate.qcow2', 'plain.qcow2'],
    { goals: { 'qemu-img': 0.4 } },
  ),
  short('check', ['check']),
  // Only its tables are read: to read all of a sparse file takes longer than the rounds.
  same('check 1 TiB', '/dev/null', ['check', 'terabyte.qcow2'], {
    isShort: true,
    goals: { 'qemu-img': 1 },
  }),
  same('snapshot 1 TiB', '/dev/null', ['snapshot', '-c', 'now', 'out.qcow2'], {
    prepare: 'cp --sparse=always terabyte.qcow2 out.qcow2',
    isShort: true,
    goals: { 'qemu-img': 1 },
  }),
  scattered('random 4 KiB writes', 4096, 30_000),
  scattered('random 64 KiB writes', 65536, 20_000),
  convert('convert -n', 'plain.qcow2', [1.0], ['-n', '-O', 'qcow2', 'plain.qcow2', 'out.qcow2'], {
    prepare: `qemu-img create -q -f qcow2 out.qcow2 ${DISK_BYTES}`,
  }),
  same('rebase', CHAIN, ['rebase', '-F', 'qcow2', '-b', 'plain.qcow2', 'out.qcow2'], {
    prepare: 'cp top.qcow2 out.qcow2',
    goals: { 'qemu-img': 1 },
  }),
  same('commit', CHAIN, ['commit', '-q', 'out.qcow2'], {
    prepare:
      'cp middle.qcow2 out-base.qcow2 && cp top.qcow2 out.qcow2 && qemu-img rebase -u -F qcow2 -b out-base.qcow2 out.qcow2',
    goals: { 'qemu-img': 1 },
  }),
  short('map', ['map', '--output=json']),
  short('measure', ['measure', '-O', 'qcow2']),
  short('info', ['info'], { goals: { 'node -e 0': 1.3 }, isInfo: true }),
  started('check'),
  started('map', '--output=json'),
];

/** A hundred images: one process of ours against what people put around qemu-img. */
export const BATCH = {
  name: 'batch of 100 images to raw',
  inputs: 'batch/*.qcow2',
  ours: ['batch', '-q', '-O', 'raw', '-d', 'out', 'batch/*.qcow2'],
  loop: 'for f in batch/*.qcow2; do qemu-img convert -O raw "$f" "out/$(basename "$f" .qcow2).raw"; done',
  xargs:
    'ls batch/*.qcow2 | xargs -P2 -I{} sh -c \'qemu-img convert -O raw "$1" "out/$(basename "$1" .qcow2).raw"\' _ {}',
  writes: true,
  goals: { 'a shell loop': 0.33, 'xargs -P2': 0.67 },
};

/** Conversions from a URL of a web server on this machine. */
export const URL_CASES = [
  fromUrl('url of raw to raw', 'web.raw', 'raw'),
  fromUrl('url of qcow2 to qcow2', 'web.qcow2', 'qcow2'),
  fromUrl('url of deflate to raw', 'web-deflate.qcow2', 'raw'),
];

function fromUrl(name, url, format) {
  const goals = { 'curl, then ours': 1, 'qemu-img -m 1': 1 };
  return { name, url, format, inputs: url, writes: true, goals };
}

/** The case with all of the disk where it takes a third. */
export function wholeDisk(item) {
  if (item.inputs !== THIRD) return item;
  const whole = (words) => words.map((word) => (word === THIRD ? 'disk.raw' : word));
  const { ours, typed, best } = item;
  const words = { ours: whole(ours), typed: whole(typed), best: whole(best) };
  return { ...item, ...words, inputs: 'disk.raw' };
}
