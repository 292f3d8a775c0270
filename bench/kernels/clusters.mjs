// Real clusters for the codec benches: pieces of the prepared disk, text, programs and data as they come.
import { closeSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { folder, prepareImages } from '../data.mjs';

export const CLUSTER_BYTES = 65536;

/** @returns {Uint8Array[]} `count` clusters that are not zero, spread over the disk */
export function realClusters(count, log) {
  prepareImages(log);
  const fd = openSync(join(folder, 'disk.raw'), 'r');
  const clusters = [];
  try {
    const step = 37 * CLUSTER_BYTES;
    for (let at = 64 * 1024 ** 2; clusters.length < count; at = (at + step) % (4 * 1024 ** 3)) {
      const bytes = new Uint8Array(CLUSTER_BYTES);
      readSync(fd, bytes, 0, CLUSTER_BYTES, at - (at % CLUSTER_BYTES));
      if (bytes.some((byte) => byte !== 0)) clusters.push(bytes);
    }
  } finally {
    closeSync(fd);
  }
  return clusters;
}
