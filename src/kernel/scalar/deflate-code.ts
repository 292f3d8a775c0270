/** Number of codewords of each length: of an optimal code, cut to a greatest length. */
function lengthCounts(weights: readonly number[], limit: number): number[] {
  const leaves = weights.length;
  const inner: { weight: number; leaves: number; parent: number; depth: number }[] = [];
  let leaf = 0;
  let node = 0;
  while (inner.length < leaves - 1) {
    const made = { weight: 0, leaves: 0, parent: -1, depth: 1 };
    for (let k = 0; k < 2; k++) {
      const older = inner[node];
      if (leaf < leaves && (!older || (weights[leaf] as number) <= older.weight)) {
        made.weight += weights[leaf++] as number;
        made.leaves++;
      } else if (older) {
        made.weight += older.weight;
        older.parent = inner.length;
        node++;
      }
    }
    inner.push(made);
  }
  const counts = new Array<number>(limit + 1).fill(0);
  let kraft = 0;
  for (const made of inner.reverse()) {
    if (made.parent >= 0) made.depth = (inner[leaves - 2 - made.parent]?.depth as number) + 1;
    const length = Math.min(made.depth, limit);
    counts[length] = (counts[length] as number) + made.leaves;
    kraft += made.leaves * 2 ** (limit - length);
  }
  // Too many codewords: a leaf one level up becomes the parent of itself and of one at the limit.
  for (; kraft > 2 ** limit; kraft--) {
    let length = limit - 1;
    while (counts[length] === 0) length--;
    counts[length] = (counts[length] as number) - 1;
    counts[length + 1] = (counts[length + 1] as number) + 2;
    counts[limit] = (counts[limit] as number) - 1;
  }
  return counts;
}

/** Lengths of Huffman codewords for the given frequencies, cut to `limit`; always a complete code. */
export function buildLengths(frequencies: readonly number[], limit: number): number[] {
  const lengths = new Array<number>(frequencies.length).fill(0);
  const sorted = frequencies
    .map((frequency, symbol) => ({ frequency, symbol }))
    .filter(({ frequency }) => frequency > 0)
    .sort((a, b) => a.frequency - b.frequency || a.symbol - b.symbol);
  if (sorted.length < 2) {
    const symbol = sorted[0]?.symbol ?? 0;
    lengths[symbol] = 1;
    lengths[symbol === 0 ? 1 : 0] = 1;
    return lengths;
  }
  const counts = lengthCounts(
    sorted.map(({ frequency }) => frequency),
    limit,
  );
  let at = 0;
  for (let length = limit; length > 0; length--) {
    for (let left = counts[length] as number; left > 0; left--) {
      lengths[(sorted[at++] as { symbol: number }).symbol] = length;
    }
  }
  return lengths;
}

/** Canonical codewords (RFC 1951, 3.2.2), with their bits in the order of the stream. */
export function assignCodewords(lengths: readonly number[]): number[] {
  const codewords = new Array<number>(lengths.length).fill(0);
  let next = 0;
  for (let length = 1; length <= 15; length++) {
    next *= 2;
    for (let symbol = 0; symbol < lengths.length; symbol++) {
      if (lengths[symbol] !== length) continue;
      let bits = 0;
      for (let i = 0; i < length; i++) bits |= ((next >> i) & 1) << (length - 1 - i);
      codewords[symbol] = bits;
      next++;
    }
  }
  return codewords;
}
