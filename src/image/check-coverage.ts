/** A half-open range of table bytes or clusters. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

/** A range that `times` of the given spans cover. */
export interface Covered extends Span {
  readonly times: number;
}

/**
 * Cuts overlapping spans into disjoint ranges, ascending, each with how many spans cover it. Many
 * tables that lie over each other are so read once, and counted as often as they are used.
 */
export function coverage(spans: readonly Span[]): Covered[] {
  const starts = Float64Array.from(spans, ({ start }) => start).sort();
  const ends = Float64Array.from(spans, ({ end }) => end).sort();
  const covered: Covered[] = [];
  let from = 0;
  let opened = 0;
  for (let closed = 0; closed < ends.length; ) {
    const start = starts[opened] ?? Number.POSITIVE_INFINITY;
    const at = Math.min(start, ends[closed]!);
    if (opened > closed && at > from)
      covered.push({ start: from, end: at, times: opened - closed });
    from = at;
    if (start <= at) opened++;
    else closed++;
  }
  return covered;
}
