// Contenders from npm that run everywhere, by the kind of work.
import * as fflate from 'fflate';
import * as fzstd from 'fzstd';
import { CLUSTER_BYTES, sampleOf, unpack } from './batch.mjs';

/** Runs `decode` on every stream. */
export function decodingWith(decode) {
  return (batch) => {
    const streams = unpack(batch);
    return () => {
      let sum = 0;
      for (const stream of streams) sum += sampleOf(decode(stream));
      return sum;
    };
  };
}

/** Runs `encode` on every cluster; a cluster that does not shrink counts whole. */
export function encodingWith(encode) {
  return (batch) => {
    const clusters = unpack(batch);
    return () => {
      let total = 0;
      for (const cluster of clusters) total += Math.min(encode(cluster).length, CLUSTER_BYTES);
      return total;
    };
  };
}

const out = new Uint8Array(CLUSTER_BYTES);

export const packages = {
  inflate: { fflate: decodingWith((stream) => fflate.inflateSync(stream, { out })) },
  deflate: { fflate: encodingWith((cluster) => fflate.deflateSync(cluster, { level: 6 })) },
  zstd: { fzstd: decodingWith((stream) => fzstd.decompress(stream)) },
};
