// Makes the demo's images: what can be asked of the package's own writer by converting raw files in one
// batch, the rest cluster by cluster.
import { createHash } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { changeClusters, makeContents } from './contents.mjs';
import { CLUSTER, ImageBuilder } from './image-builder.mjs';

const MIB = 1024 * 1024;

/**
 * @typedef {object} Sample
 * @property {string} file name of the image
 * @property {string} what what is special about it
 * @property {string} sha256 of the disk
 * @property {number} size of the disk in bytes
 * @property {string} [snapshot] the state of the disk that is meant, instead of the current one
 */

/** Images of the package's own writer. */
const WRITTEN = [
  { file: 'plain.qcow2', what: 'clusters of 64 KiB', mib: 40, create: {} },
  { file: 'deflate.qcow2', what: 'compressed with deflate', mib: 32, create: {}, compress: true },
  {
    file: 'zstd.qcow2',
    what: 'compressed with zstd',
    mib: 32,
    create: { compressionType: 'zstd' },
    compress: true,
  },
  {
    file: 'subclusters.qcow2',
    what: 'extended L2: 32 subclusters',
    mib: 32,
    create: { extendedL2: true, clusterSize: 131072 },
  },
  { file: 'small.qcow2', what: 'clusters of 4 KiB', mib: 24, create: { clusterSize: 4096 } },
  { file: 'large.qcow2', what: 'clusters of 2 MiB', mib: 40, create: { clusterSize: 2 * MIB } },
  { file: 'version2.qcow2', what: 'version 2 of the format', mib: 32, create: { compat: '0.10' } },
  {
    file: 'data-file.qcow2',
    what: 'external data file',
    mib: 24,
    create: { dataFile: 'data-file.data' },
  },
  {
    file: 'raw-data.qcow2',
    what: 'external data file that is raw',
    mib: 24,
    create: { dataFile: 'raw-data.raw', dataFileRaw: true },
  },
  {
    file: 'lazy.qcow2',
    what: 'lazy refcounts, 64 bits each',
    mib: 24,
    create: { lazyRefcounts: true, refcountBits: 64 },
  },
  { file: 'one-bit.qcow2', what: 'refcounts of 1 bit', mib: 24, create: { refcountBits: 1 } },
  {
    file: 'odd.qcow2',
    what: 'size not a multiple of a cluster',
    mib: 24,
    extra: 1536,
    create: {},
  },
];

function sha256(bytes) {
  return createHash('sha256').update(bytes).digest('hex');
}

function clusterOf(bytes, index) {
  return bytes.subarray(index * CLUSTER, (index + 1) * CLUSTER);
}

/**
 * Makes the images in the working directory.
 * @param {(jobs: any[], what: string) => Promise<void>} convert runs a batch that must succeed
 * @returns {Promise<Sample[]>}
 */
export async function makeSamples(convert) {
  /** @type {Sample[]} */
  const samples = [];
  const jobs = WRITTEN.map(({ file, what, mib, extra = 0, create, compress = false }, index) => {
    const bytes = makeContents(index + 1, mib * MIB + extra);
    const source = `${file}.source`;
    writeFileSync(source, bytes);
    samples.push({ file, what, size: bytes.length, sha256: sha256(bytes) });
    const inputs = [{ path: source, format: 'raw' }];
    return { inputs, target: file, targetFormat: 'qcow2', create, compress };
  });
  await convert(jobs, 'making');
  for (const { inputs } of jobs) for (const { path } of inputs) rmSync(path);
  samples.push(makeChain(), makeMix(), ...makeSnapshot());
  return samples;
}

/** Two overlays, the second on the first, over an image of clusters of every kind. */
function makeChain() {
  let bytes = makeContents(101, 32 * MIB);
  const base = new ImageBuilder('chain-0.qcow2', bytes.length);
  for (let i = 0; i * CLUSTER < bytes.length; i++) base.data(i, clusterOf(bytes, i));
  base.finish();
  for (let depth = 1; depth <= 2; depth++) {
    const path = `chain-${depth}.qcow2`;
    const overlay = new ImageBuilder(path, bytes.length, `chain-${depth - 1}.qcow2`);
    bytes = applyChanges(overlay, bytes, 110 + depth);
    overlay.finish();
  }
  const what = 'chain of three: 2 overlays';
  return { file: 'chain-2.qcow2', what, size: bytes.length, sha256: sha256(bytes) };
}

/** Changes a disk and enters the changed clusters; returns the new contents. */
function applyChanges(image, before, seed) {
  const { bytes, changes } = changeClusters(before, CLUSTER, seed);
  changes.forEach((change, i) => {
    if (change === 'replace' && i % 2 === 0) image.compressed(i, clusterOf(bytes, i));
    else if (change === 'replace') image.data(i, clusterOf(bytes, i));
    else if (change === 'zero') image.zero(i);
  });
  return bytes;
}

/** Every kind of cluster in one image; what zero entries hide is not zero. */
function makeMix() {
  const bytes = makeContents(201, 24 * MIB);
  const image = new ImageBuilder('mix.qcow2', bytes.length);
  const hidden = Buffer.alloc(CLUSTER, 0xaa);
  for (let i = 0; i * CLUSTER < bytes.length; i++) {
    const cluster = clusterOf(bytes, i);
    const kind = i % 7;
    if (kind < 2) image.data(i, cluster);
    else if (kind < 4) image.compressed(i, cluster);
    else cluster.fill(0);
    if (kind === 4) image.zero(i);
    if (kind === 5) image.zeroAllocated(i, hidden);
  }
  image.finish();
  const what = 'clusters of all kinds mixed';
  return { file: 'mix.qcow2', what, size: bytes.length, sha256: sha256(bytes) };
}

/** An image with an internal snapshot, which is converted as well as its current state. */
function makeSnapshot() {
  const before = makeContents(301, 24 * MIB);
  const file = 'snapshot.qcow2';
  const image = new ImageBuilder(file, before.length);
  for (let i = 0; i * CLUSTER < before.length; i++)
    if (i % 3 === 0) image.compressed(i, clusterOf(before, i));
    else image.data(i, clusterOf(before, i));
  image.snapshot('1', 'before');
  const after = applyChanges(image, before, 302);
  image.finish();
  const size = before.length;
  return [
    { file, what: 'changed since a snapshot', size, sha256: sha256(after) },
    {
      file,
      what: 'that internal snapshot',
      size,
      sha256: sha256(before),
      snapshot: 'before',
    },
  ];
}
