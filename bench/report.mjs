// Tables and a chart of what was measured, losses first.

/** Whole processes as a table: ratios below 1 mean ours is faster. */
export function imageTable(results) {
  const rows = [...results].sort((a, b) => worst(b) - worst(a)).map(imageRow);
  return table(['work', 'ours, s', 'theirs, s', 'ratio (spread)', 'peak MiB'], rows.flat());
}

function worst({ ratios }) {
  return Math.max(...Object.values(ratios).map(({ median }) => median));
}

function imageRow({ name, seconds, ratios, peakBytes }) {
  return Object.entries(ratios).map(([key, ratio], index) => [
    index === 0 ? name : '',
    index === 0 ? seconds.ours.median.toFixed(2) : '',
    `${seconds[key].median.toFixed(2)} ${key}`,
    `${ratio.median.toFixed(2)} (${ratio.min.toFixed(2)}-${ratio.max.toFixed(2)})`,
    index === 0 ? (peakBytes / 2 ** 20).toFixed(0) : '',
  ]);
}

/** Kernels as a table: times above 1 mean ours is faster, sizes below 1 that it packs tighter. */
export function kernelTable(results) {
  const theirs = ({ ratios }) => Object.keys(ratios).filter((key) => !key.startsWith('ours'));
  const least = (result) => Math.min(...theirs(result).map((key) => result.ratios[key]));
  const rows = [...results].sort((a, b) => least(a) - least(b)).flatMap(kernelRows);
  return table(['kernel', 'contender', 'rate', 'ours is', 'size', 'our size'], rows);
}

function kernelRows({ name, unit, perSecond, ratios, sizes = {} }) {
  const ourSize = Object.values(sizes)[0];
  return Object.entries(perSecond).map(([key, { median }], index) => [
    index === 0 ? name : '',
    key,
    `${giga(median)} ${unit === 'byte' ? 'GB' : `G ${unit}`}/s`,
    index === 0 ? '' : `${ratios[key].toFixed(2)}x`,
    sizes[key] ? `${(sizes[key] * 100).toFixed(2)} %` : '',
    sizes[key] && index > 0 ? `${(ourSize / sizes[key]).toFixed(3)}x` : '',
  ]);
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
