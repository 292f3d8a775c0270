// Tables, lists and a chart of what was measured, losses first.
import { goalText, mebibytes, missed } from './goals.mjs';

/** All that was measured, a table for each group. */
export function tables({ images = [], kernels = [], browser = [] }) {
  const parts = [];
  if (images.length > 0) parts.push(imageTable(images));
  if (kernels.length > 0) parts.push(kernelTable(kernels));
  if (browser.length > 0) parts.push(`in Chromium\n\n${kernelTable(browser)}`);
  return parts.join('\n\n');
}

const IMAGE_HEADING = [
  'work',
  'ours',
  'theirs',
  'ratio (spread)',
  'goal',
  'CPU s, ours/theirs',
  'peak MiB',
];

/** Whole processes: ratios below 1 mean ours is faster, or smaller. */
export function imageTable(rows) {
  const sorted = [...rows].sort((a, b) => worst(b) - worst(a));
  return table(IMAGE_HEADING, sorted.flatMap(imageRows));
}

function worst({ ratios }) {
  return Math.max(...Object.values(ratios).map(({ median }) => median));
}

function imageRows(row) {
  const { name, seconds, cpuSeconds, ratios, goals, sizes = {}, peakBytes } = row;
  const times = Object.entries(ratios).map(([key, ratio]) => [
    `${seconds.ours.median.toFixed(2)} s`,
    `${seconds[key].median.toFixed(2)} s ${key}`,
    `${ratio.median.toFixed(2)} (${ratio.min.toFixed(2)}-${ratio.max.toFixed(2)})`,
    verdict(goals, 'time', key),
    `${cpuText(cpuSeconds.ours)} / ${cpuText(cpuSeconds[key])}`,
  ]);
  const lengths = Object.entries(sizes).filter(([key]) => key !== 'ours');
  const packed = lengths.map(([key, bytes]) => [
    `${megabytes(sizes.ours)} MB`,
    `${megabytes(bytes)} MB ${key}`,
    `${(sizes.ours / bytes).toFixed(4)}`,
    verdict(goals, 'size', key),
    '',
  ]);
  const peak = `${mebibytes(peakBytes)}${missed({ goals }).some(isPeak) ? ' missed' : ''}`;
  return [...times, ...packed].map((cells, index) => [
    index === 0 ? name : '',
    ...cells,
    index === 0 ? peak : '',
  ]);
}

function isPeak({ kind }) {
  return kind === 'peak';
}

function cpuText({ user, system }) {
  return `${user.toFixed(2)}+${system.toFixed(2)}`;
}

function megabytes(bytes) {
  return (bytes / 1e6).toFixed(2);
}

/** The goal of one cell and whether it was reached. */
function verdict(goals, kind, of) {
  const found = goals.find((goal) => goal.kind === kind && goal.of === of);
  if (found === undefined) return '';
  const goal = kind === 'rate' ? `${found.goal / 1e9} G` : found.goal;
  return `${goal} ${found.isReached ? 'reached' : 'missed'}`;
}

const KERNEL_HEADING = [
  'kernel',
  'contender',
  'rate',
  'ours is (spread)',
  'goal',
  'size',
  'our size',
  'goal',
];

/** Kernels: times above 1 mean ours is faster, sizes below 1 that it packs tighter. */
export function kernelTable(rows) {
  const theirs = ({ ratios }) => Object.keys(ratios).filter((key) => !key.startsWith('ours'));
  const least = (row) => Math.min(...theirs(row).map((key) => row.ratios[key].median));
  return table(KERNEL_HEADING, [...rows].sort((a, b) => least(a) - least(b)).flatMap(kernelRows));
}

function kernelRows({ name, unit, perSecond, ratios, goals, sizes = {} }) {
  const ourSize = Object.values(sizes)[0];
  return Object.entries(perSecond).map(([key, { median }], index) => {
    const ratio = ratios[key];
    return [
      index === 0 ? name : '',
      key,
      `${giga(median)} ${unit === 'byte' ? 'GB' : `G ${unit}`}/s`,
      ratio ? `${ratio.median.toFixed(2)}x (${ratio.min.toFixed(2)}-${ratio.max.toFixed(2)})` : '',
      ratio ? verdict(goals, 'speed', key) : verdict(goals, 'rate'),
      sizes[key] ? `${(sizes[key] * 100).toFixed(2)} %` : '',
      sizes[key] && ratio ? `${(ourSize / sizes[key]).toFixed(4)}x` : '',
      verdict(goals, 'size', key),
    ];
  });
}

function giga(value) {
  return (value / 1e9).toPrecision(3);
}

function table(heading, rows) {
  const widths = heading.map((text, column) =>
    Math.max(text.length, ...rows.map((row) => row[column].length)),
  );
  const line = (cells) =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column])).join(' | ')} |`;
  const rule = `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`;
  return [line(heading), rule, ...rows.map(line)].join('\n');
}

/** Which rounds were made again, or kept, although others used the machine; empty if none were. */
export function noiseText({ images = [] }) {
  const lines = images
    .filter(({ repeated, noisy }) => repeated + noisy > 0)
    .map(({ name, repeated, noisy }) => `- ${name}: ${repeated} made again, ${noisy} kept`);
  return lines.length > 0 ? `rounds others used the machine in:\n${lines.join('\n')}\n\n` : '';
}

/** The rows that miss a goal, a line for each goal. */
export function missedList(results) {
  const all = Object.values(results).flat();
  const lines = all.flatMap((row) => missed(row).map((goal) => `- ${row.name}: ${goalText(goal)}`));
  const goals = all.flatMap((row) => row.goals).length;
  if (lines.length === 0) return `all ${goals} goals are reached`;
  return `${lines.length} of ${goals} goals are missed:\n${lines.join('\n')}`;
}

/**
 * Rows in which somebody is faster or packs tighter, or that miss a goal, with the causes as far as
 * they are known.
 */
export function lossList({ images, kernels }, causes) {
  const lines = [...images, ...kernels].flatMap((row) => {
    const goals = missed(row);
    // What is told as a goal that was missed is not told again.
    const isTold = (key) => goals.some(({ kind, of }) => kind !== 'size' && of === key);
    const faster = losses(row)
      .filter(([key]) => !isTold(key))
      .map(([, text]) => text);
    const all = [...goals.map((goal) => `missed: ${goalText(goal)}`), ...faster];
    const cause = causes[row.name] ? ` ${causes[row.name]}` : '';
    return all.length > 0 ? [`- **${row.name}** (${all.join('; ')}).${cause}`] : [];
  });
  return lines.length > 0 ? lines.join('\n') : 'In no row that is stored.';
}

/** Who is faster than we are, and how much; one whose spread includes 1 is not. */
function losses({ ratios, perSecond }) {
  const others = Object.entries(ratios).filter(([key]) => !key.startsWith('ours'));
  if (perSecond) {
    return others
      .filter(([, { max }]) => max < 1)
      .map(([key, { median }]) => [key, `${median.toFixed(2)}x ${key}`]);
  }
  return others
    .filter(([, { min }]) => min > 1)
    .map(([key, { median }]) => [key, `${median.toFixed(2)} of the time of ${key}`]);
}

const ROW = 22;
const LEFT = 210;
const SCALE = 260;

/** A bar a case: our time as a share of qemu-img's as typed; the line is "as fast". */
export function chart(results) {
  const bars = results
    .filter(({ ratios }) => ratios['qemu-img'])
    .sort((a, b) => a.ratios['qemu-img'].median - b.ratios['qemu-img'].median);
  const height = bars.length * ROW + 60;
  const width = LEFT + SCALE * 1.6 + 70;
  const rows = bars.map(({ name, ratios }, index) =>
    bar(name, ratios['qemu-img'], 36 + index * ROW),
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">
<title>time of qcow2 against qemu-img</title>
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="${LEFT}" y="20" fill="#333333">time of qcow2 / time of qemu-img (left of the line: qcow2 is faster)</text>
${rows.join('\n')}
<line x1="${LEFT + SCALE}" y1="28" x2="${LEFT + SCALE}" y2="${height - 20}" stroke="#333333" stroke-dasharray="3 3"/>
<text x="${LEFT + SCALE}" y="${height - 6}" text-anchor="middle" fill="#333333">1.0</text>
</svg>
`;
}

function bar(name, { median, min, max }, y) {
  const at = (ratio) => LEFT + Math.min(ratio, 1.6) * SCALE;
  const colour = median <= 1 ? '#2b7a4b' : '#b3541e';
  return `<text x="${LEFT - 8}" y="${y + 13}" text-anchor="end" fill="#333333">${name}</text>
<rect x="${LEFT}" y="${y + 2}" width="${at(median) - LEFT}" height="14" fill="${colour}"/>
<line x1="${at(min)}" y1="${y + 9}" x2="${at(max)}" y2="${y + 9}" stroke="#333333"/>
<text x="${at(Math.max(median, max)) + 6}" y="${y + 13}" fill="#333333">${median.toFixed(2)}</text>`;
}
