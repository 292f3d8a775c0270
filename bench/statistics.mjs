/** Median, least and greatest of some numbers. */
export function spread(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median =
    sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  return { median, min: sorted[0], max: sorted.at(-1) };
}

/** Ratios of runs that were made one after the other, so that both saw the same machine. */
export function pairedRatio(ours, theirs) {
  return spread(ours.map((value, index) => value / theirs[index]));
}
