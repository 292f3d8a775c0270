// Real clusters for the codecs: pieces of the prepared disk, text, programs and data as they come.
import { closeSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import zlib from 'node:zlib';
import { loadCodec } from '../../build/modules/codecs/load.js';
import { createKernel } from '../../build/modules/kernel/kernel.js';
import { folder, prepareImages } from '../data.mjs';
import { CLUSTER_BYTES, pack } from './batch.mjs';

const CLUSTERS = 64;
/** Between the clusters taken. */
const STEP = 37 * CLUSTER_BYTES;
const START = 64 * 1024 ** 2;
const DISK_BYTES = 4 * 1024 ** 3;
/** As QEMU compresses. */
export const DEFLATE = { level: 6, windowBits: 12, memLevel: 9 };

/**
 * The clusters, what deflate (node:zlib) and zstd (as this package compresses) make of them, without
 * those that do not shrink.
 */
export async function loadInputs(log) {
  const clusters = realClusters(log);
  const deflated = clusters.map((cluster) => zlib.deflateRawSync(cluster, DEFLATE));
  const codec = await loadCodec(1, createKernel(), { compress: true });
  const room = new Uint8Array(CLUSTER_BYTES - 1);
  const zstd = clusters.map((cluster) => room.slice(0, Math.max(codec.compress(cluster, room), 0)));
  const shrunk = ({ length }) => length > 0 && length < CLUSTER_BYTES;
  return {
    clusters: pack(clusters),
    deflated: pack(deflated.filter(shrunk)),
    zstd: pack(zstd.filter(shrunk)),
  };
}

/** Clusters that are not zero, spread over the disk. */
function realClusters(log) {
  prepareImages(log);
  const fd = openSync(join(folder, 'disk.raw'), 'r');
  const clusters = [];
  try {
    for (let at = START; clusters.length < CLUSTERS; at = (at + STEP) % DISK_BYTES) {
      const bytes = new Uint8Array(CLUSTER_BYTES);
      readSync(fd, bytes, 0, CLUSTER_BYTES, at);
      if (bytes.some((byte) => byte !== 0)) clusters.push(bytes);
    }
  } finally {
    closeSync(fd);
  }
  return clusters;
}
