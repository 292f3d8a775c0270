// What one call of a contender works on: pieces packed in one buffer, so that a call into C costs
// nothing against the work. Nothing here needs Node: the page of bench/browser uses it too.
export const CLUSTER_BYTES = 65536;

/**
 * @typedef {object} Batch
 * @property {Uint8Array} bytes the pieces, one behind the other
 * @property {Uint32Array} lengths of the pieces
 * @property {number} outputBytes room one call needs for what it makes of one piece
 * @property {number} limit file length, for tables that are checked against one
 */

/** @returns {Batch} */
export function pack(pieces, outputBytes = CLUSTER_BYTES, limit = 0) {
  const lengths = Uint32Array.from(pieces, ({ length }) => length);
  const bytes = new Uint8Array(lengths.reduce((sum, length) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return { bytes, lengths, outputBytes, limit };
}

/** Views of the pieces. */
export function unpack({ bytes, lengths }) {
  let at = 0;
  return Array.from(lengths, (length) => {
    at += length;
    return bytes.subarray(at - length, at);
  });
}

/** What a decoder returns of one cluster, so that contenders can be compared. */
export function sampleOf(cluster) {
  return cluster[0] + cluster[CLUSTER_BYTES / 2] * 256 + cluster[CLUSTER_BYTES - 1] * 65536;
}

/** Calls so many times that a coarse clock does not matter; the last result. */
export function repeated(times, call) {
  return () => {
    let result = 0;
    for (let i = 0; i < times; i++) result = call();
    return result;
  };
}
