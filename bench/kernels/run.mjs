// Kernels in one process: WebAssembly against its TypeScript twin, node:zlib and npm packages.
import zlib from 'node:zlib';
import * as fflate from 'fflate';
import * as fzstd from 'fzstd';
import { Bench } from 'tinybench';
import { loadCodec } from '../../dist/codecs/load.js';
import { createKernel } from '../../dist/kernel/kernel.js';
import { CLUSTER_BYTES, realClusters } from './clusters.mjs';
import { entriesOf, scannedMemory } from './tables.mjs';

const CLUSTERS = 64;
const BACKENDS = ['wasm-simd', 'wasm', 'js'];

/** @param {{ only: string[], milliseconds: number, log: (text: string) => void }} options */
export async function runKernelBenches({ only, milliseconds, log }) {
  const results = [];
  for (const [name, make] of Object.entries(SUITES)) {
    if (only.length > 0 && !only.some((part) => name.includes(part))) continue;
    results.push(await measure(name, await make(log), milliseconds, log));
  }
  return results;
}

/** Each makes `{ unit, work, contenders }`: what one call gets done, and the calls. */
const SUITES = {
  'zero detection, 64 KiB': () => backends('byte', CLUSTER_BYTES, scannedMemory),
  'L2 decode, contiguous': () => backends('entry', 8192, (kernel) => entriesOf(kernel, 1)),
  'L2 decode, fragmented': () => backends('entry', 8192, (kernel) => entriesOf(kernel, 3)),
  'refcount compare, 16 bits': () => backends('counter', 32768, comparedBlocks),
  inflate: (log) => inflateContenders(log),
  deflate: (log) => deflateContenders(log),
  'zstd decode': (log) => zstdContenders(log),
};

function backends(unit, work, prepare) {
  const contenders = {};
  for (const backend of BACKENDS)
    contenders[`ours, ${backend}`] = prepare(createKernel({ backend }));
  return { unit, work, contenders };
}

function comparedBlocks({ arena, exports }) {
  const [a, b] = [arena.allocate(CLUSTER_BYTES), arena.allocate(CLUSTER_BYTES)];
  for (const block of [a, b]) exports.refcount_fill(block.ptr, 4, 0, 32768, 1);
  return () => exports.refcount_compare(a.ptr, b.ptr, 4, 0, 32768);
}

/** Codecs of ours on every backend, working inside kernel memory as conversions do. */
async function ourCodecs(type, prepare) {
  const contenders = {};
  for (const backend of BACKENDS) {
    const kernel = createKernel({ backend });
    contenders[`ours, ${backend}`] = prepare(kernel, await loadCodec(type, kernel));
  }
  return contenders;
}

function decoding(streams) {
  return ({ arena }, codec) => {
    const input = arena.allocate(CLUSTER_BYTES * 2);
    const output = arena.allocate(CLUSTER_BYTES);
    return () => {
      for (const stream of streams) {
        input.bytes.set(stream);
        codec.decompress(input.bytes.subarray(0, stream.length), output.bytes);
      }
    };
  };
}

async function inflateContenders(log) {
  const options = { windowBits: 12, memLevel: 9 };
  const streams = realClusters(CLUSTERS, log)
    .map((cluster) => zlib.deflateRawSync(cluster, options))
    .filter((stream) => stream.length < CLUSTER_BYTES);
  const output = new Uint8Array(CLUSTER_BYTES);
  const contenders = await ourCodecs(0, decoding(streams));
  contenders['node:zlib'] = () => {
    for (const stream of streams) zlib.inflateRawSync(stream);
  };
  contenders.fflate = () => {
    for (const stream of streams) fflate.inflateSync(stream, { out: output });
  };
  return { unit: 'byte', work: streams.length * CLUSTER_BYTES, contenders };
}

async function deflateContenders(log) {
  const clusters = realClusters(CLUSTERS, log);
  const contenders = await ourCodecs(0, ({ arena }, codec) => {
    const input = arena.allocate(CLUSTER_BYTES);
    const output = arena.allocate(CLUSTER_BYTES);
    return () => {
      for (const cluster of clusters) {
        input.bytes.set(cluster);
        codec.compress(input.bytes, output.bytes.subarray(0, CLUSTER_BYTES - 1));
      }
    };
  });
  contenders['node:zlib'] = () => {
    for (const cluster of clusters) zlib.deflateRawSync(cluster, { windowBits: 12, memLevel: 9 });
  };
  contenders.fflate = () => {
    for (const cluster of clusters) fflate.deflateSync(cluster);
  };
  return { unit: 'byte', work: clusters.length * CLUSTER_BYTES, contenders };
}

async function zstdContenders(log) {
  const maker = await loadCodec(1, createKernel());
  const room = new Uint8Array(CLUSTER_BYTES - 1);
  const streams = [];
  for (const cluster of realClusters(CLUSTERS, log)) {
    const length = maker.compress(cluster, room);
    if (length > 0) streams.push(room.slice(0, length));
  }
  const contenders = await ourCodecs(1, decoding(streams));
  if (zlib.zstdDecompressSync)
    contenders['node:zlib'] = () => {
      for (const stream of streams) zlib.zstdDecompressSync(stream);
    };
  contenders.fzstd = () => {
    for (const stream of streams) fzstd.decompress(stream);
  };
  return { unit: 'byte', work: streams.length * CLUSTER_BYTES, contenders };
}

async function measure(name, { unit, work, contenders }, milliseconds, log) {
  const bench = new Bench({ time: milliseconds, warmupTime: milliseconds / 2, throws: true });
  for (const [key, call] of Object.entries(contenders)) bench.add(key, call);
  await bench.run();
  const perSecond = {};
  for (const { name: key, result } of bench.tasks) {
    const { p50, min, max } = result.latency;
    perSecond[key] = { median: rate(work, p50), min: rate(work, max), max: rate(work, min) };
  }
  const [[first, ours]] = Object.entries(perSecond);
  const ratios = Object.entries(perSecond)
    .filter(([key]) => key !== first)
    .map(([key, { median }]) => [key, ours.median / median]);
  log(`  ${name}: ${ratios.map(([key, ratio]) => `${ratio.toFixed(2)}x ${key}`).join(', ')}`);
  return { name, unit, perSecond, ratios: Object.fromEntries(ratios) };
}

function rate(work, latencyMilliseconds) {
  return (work / latencyMilliseconds) * 1000;
}
