// What the fastest backend of a kernel is held to: multiples of a contender's speed, shares of its
// size, and work in a second. Contenders go by the start of their names, which end in versions.
import { goalOf } from '../goals.mjs';

const GOALS = {
  inflate: { speed: { 'C, zlib': 1.7, 'C, libdeflate': 0.8 } },
  'deflate, default': { speed: { 'C, zlib': 1.8 }, size: { 'C, zlib': 1.005 } },
  'deflate, fast': { speed: { 'C, zlib': 2.5 }, size: { 'C, zlib': 1.03 } },
  'zero detection, out of cache': { speed: { 'C, AVX2': 0.95 } },
  'L2 decode, contiguous': { rate: 2e9 },
  'L2 decode, fragmented': { rate: 0.4e9 },
  'zstd decode': { speed: { 'C, libzstd': 0.75 } },
};

/** The goals of a row, as far as those it is measured against took part. */
export function goalsOf(name, { perSecond, ratios, sizes }) {
  const { speed = {}, size = {}, rate } = GOALS[name] ?? {};
  const [[first, ours]] = Object.entries(perSecond);
  const against = (goals, measure) =>
    Object.entries(goals).flatMap(([start, goal]) =>
      Object.keys(ratios)
        .filter((key) => key.startsWith(start))
        .map((key) => measure(key, goal)),
    );
  return [
    ...against(speed, (key, goal) => goalOf('speed', key, ratios[key].median, goal)),
    ...against(size, (key, goal) => goalOf('size', key, sizes[first] / sizes[key], goal)),
    ...(rate ? [goalOf('rate', undefined, ours.median, rate)] : []),
  ];
}
