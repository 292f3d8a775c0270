// The kernel suites: what is worked on and by whom. Nothing here needs Node.
import { createKernel } from '../../build/modules/kernel/kernel.js';
import { CLUSTER_BYTES, repeated } from './batch.mjs';
import { measure } from './measure.mjs';
import * as ours from './ours.mjs';
import { extendedTables, filledClusters, l2Tables, mixedTables, zeroClusters } from './tables.mjs';

const BACKENDS = ['wasm-simd', 'wasm', 'js'];
/** More than the caches of a core and its neighbours hold. */
const OUT_OF_CACHE = 64 * 1024 ** 2;
/** More than the first level holds, and less than the second. */
const IN_L2 = 256 * 1024;

/**
 * `kind` says which contenders take part, `batch` what a call works on and `units` how much of it
 * there is in a call. Every call returns a number that is equal for all contenders, or, if `isSized`,
 * the length of what it made.
 */
const SUITES = {
  'zero detection, out of cache': {
    kind: 'zero',
    make: ours.zero,
    batch: () => zeroClusters(OUT_OF_CACHE),
  },
  'zero detection, in L2': {
    kind: 'zero',
    make: ours.zero,
    batch: () => zeroClusters(IN_L2),
    times: 64,
  },
  'first difference, in L2': {
    kind: 'difference',
    make: ours.difference,
    batch: () => filledClusters(IN_L2 / 2),
    times: 64,
  },
  'refcount compare, 16 bits': {
    kind: 'refcounts',
    make: ours.refcounts,
    unit: 'counter',
    batch: () => filledClusters(IN_L2 / 2),
    times: 64,
  },
  'L2 decode, contiguous': {
    kind: 'l2',
    make: ours.l2,
    unit: 'entry',
    batch: () => l2Tables(1),
    times: 16,
  },
  'L2 decode, fragmented': {
    kind: 'l2',
    make: ours.l2,
    unit: 'entry',
    batch: () => l2Tables(3),
    times: 4,
  },
  'L2 decode, mixed': {
    kind: 'l2',
    make: ours.l2,
    unit: 'entry',
    batch: mixedTables,
    times: 4,
  },
  'L2 decode, extended': {
    kind: 'l2Extended',
    make: ours.l2Extended,
    unit: 'entry',
    batch: extendedTables,
    times: 4,
  },
  inflate: { kind: 'inflate', make: ours.decoding(0), batch: ({ deflated }) => deflated },
  'zstd decode': { kind: 'zstd', make: ours.decoding(1), batch: ({ zstd }) => zstd },
  'deflate, fast': deflate('fast'),
  'deflate, default': deflate('default'),
  'deflate, best': deflate('best'),
  'zstd encode': {
    kind: 'zstdEncode',
    make: ours.encoding(1),
    batch: ({ clusters }) => clusters,
    isSized: true,
  },
};

function deflate(level) {
  const make = ours.encoding(0, level);
  return { kind: 'deflate', make, batch: ({ clusters }) => clusters, isSized: true };
}

const ENTRY_BYTES = { l2: 8, l2Extended: 16, refcounts: 2 };

/** Units of work in one call: entries and counters, or bytes as they are when not compressed. */
function unitsOf({ kind, times = 1 }, { bytes, lengths }) {
  if (kind in ENTRY_BYTES) return (bytes.length / ENTRY_BYTES[kind]) * times;
  return lengths.length * CLUSTER_BYTES * times;
}

/** Names of all suites, which run in Node and in a browser. */
export function suiteNames() {
  return Object.keys(SUITES);
}

/**
 * @param {object} options
 * @param {string[]} options.names of the suites to run
 * @param {object} options.inputs batches of real clusters: `clusters`, `deflated`, `zstd`
 * @param {Record<string, Record<string, (batch: object) => () => number>>} options.others by kind
 * @param {number} options.milliseconds for each contender
 * @param {(text: string) => void} options.log
 */
export async function runSuites({ names, inputs, others, milliseconds, log }) {
  const results = [];
  for (const name of names) {
    const suite = SUITES[name];
    const contenders = await contendersOf(suite, inputs, others);
    results.push(await measure({ name, ...contenders }, milliseconds, log));
  }
  return results;
}

async function contendersOf(suite, inputs, others) {
  const { kind, unit = 'byte', times = 1, isSized = false } = suite;
  const batch = suite.batch(inputs);
  const calls = {};
  for (const backend of BACKENDS) {
    calls[`ours, ${backend}`] = repeated(times, await suite.make(createKernel({ backend }), batch));
  }
  for (const [name, prepare] of Object.entries(others[kind] ?? {})) {
    calls[name] = repeated(times, prepare(batch));
  }
  return { unit, units: unitsOf(suite, batch), isSized, calls };
}
