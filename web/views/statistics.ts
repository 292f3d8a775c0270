import { alertLine, facts, h, note, svg, table } from '../dom.ts';
import { FILE_KINDS, type FileKind } from '../model/file-picture.ts';
import { countText, plural, shareText, sizeText } from '../model/sizes.ts';
import { BINS, type Statistics } from '../model/statistics.ts';
import { FILE_COLOURS } from './kinds.ts';
import type { View } from './session.ts';

/** How the data lies in the file, how well it is compressed, what the file is made of. */
export const showStatistics: View = async (panel, { client, opened }) => {
  const statistics = await client.ask('statistics');
  const { compressedClusters, runs, dataBytes, longestRun, damage } = statistics;
  const mean = runs === 0 ? undefined : sizeText(Math.round(dataBytes / runs));
  const breakdown =
    opened.format === 'raw' ? [] : await sizes(client.ask('filePicture'), opened.fileSize);
  panel.replaceChildren(
    h('h3', {}, 'Fragmentation'),
    facts([
      ['Data', sizeText(dataBytes)],
      ['Runs', countText(runs)],
      ['Mean run', mean],
      ['Longest run', runs === 0 ? undefined : sizeText(longestRun)],
    ]),
    note('A run is data that lies together on the disk and in the file: it is read in one go.'),
    ...(damage === undefined ? [] : [alertLine(`Damaged entries are left out. ${damage}`)]),
    h('h3', {}, 'Compression'),
    ...(compressedClusters > 0 ? compression(statistics) : [note('No cluster is compressed.')]),
    ...breakdown,
  );
};

function compression(statistics: Statistics): HTMLElement[] {
  const { compressedClusters, compressedGuest, compressedStored, ratios } = statistics;
  return [
    facts([
      ['Compressed', plural(compressedClusters, 'cluster')],
      ['Of the disk', sizeText(compressedGuest)],
      ['Stored', sizeText(compressedStored)],
      ['Ratio', shareText(compressedStored, compressedGuest)],
    ]),
    histogram(ratios),
  ];
}

const WIDTH = 640;
const HEIGHT = 180;

/** Clusters by stored over guest bytes. */
function histogram(ratios: readonly number[]): HTMLElement {
  const most = Math.max(...ratios);
  const step = WIDTH / BINS;
  const bars = ratios.flatMap((count, i) => {
    if (count === 0) return [];
    const height = Math.max(2, (count / most) * (HEIGHT - 10));
    const label = `${i * 5} to ${(i + 1) * 5} %: ${plural(count, 'cluster')}`;
    const place = { x: i * step + 1, y: HEIGHT - height, width: step - 2, height, rx: 2 };
    return [svg('rect', { ...place, class: 'bar' }, svg('title', {}, label))];
  });
  const ticks = [0, 25, 50, 75, 100].map((percent) =>
    svg(
      'text',
      {
        x: (percent / 100) * WIDTH,
        y: HEIGHT + 18,
        'text-anchor': percent === 0 ? 'start' : percent === 100 ? 'end' : 'middle',
      },
      `${percent} %`,
    ),
  );
  const top = ratios.indexOf(most) * 5;
  const label = `Clusters by how much of their size is stored; most have ${top} to ${top + 5} %`;
  return h(
    'figure',
    { class: 'chart' },
    svg(
      'svg',
      { viewBox: `0 0 ${WIDTH} ${HEIGHT + 24}`, role: 'img', 'aria-label': label },
      ...bars,
      svg('line', { x1: 0, x2: WIDTH, y1: HEIGHT + 0.5, y2: HEIGHT + 0.5 }),
      ...ticks,
    ),
    h('figcaption', {}, 'Clusters by stored size over full size, in whole sectors'),
  );
}

const GROUPS: readonly [name: string, kinds: readonly FileKind[]][] = [
  ['Data', ['data', 'shared', 'snapshot']],
  ['Compressed data', ['compressed']],
  ['Tables of the mapping', ['L2', 'L1']],
  ['Refcounts', ['refcount']],
  ['Header, snapshots, bitmaps', ['header', 'snapshot table', 'bitmap']],
  ['Leaked', ['leaked']],
  ['Free', ['free']],
];

async function sizes(
  picture: Promise<{ bytes: Record<FileKind, number> }>,
  fileSize: number,
): Promise<HTMLElement[]> {
  const { bytes } = await picture;
  const whole = FILE_KINDS.reduce((sum, kind) => sum + bytes[kind], 0);
  const rows = GROUPS.map(([name, kinds]) => ({
    name,
    kinds,
    bytes: kinds.reduce((sum, kind) => sum + bytes[kind], 0),
  })).filter((row) => row.bytes > 0);
  const parts = rows.map(({ kinds, bytes: size, name }) => {
    const part = h('span', { title: `${name}, ${sizeText(size)}` });
    part.style.flexGrow = String(size / whole);
    part.style.background = FILE_COLOURS[kinds[0]!];
    return part;
  });
  const named = ({ kinds, name }: (typeof rows)[number]) => {
    const swatch = h('span', { class: 'swatch' });
    swatch.style.background = FILE_COLOURS[kinds[0]!];
    return h('span', { class: 'part' }, swatch, name);
  };
  return [
    h('h3', {}, 'What the file is made of'),
    h('div', { class: 'breakdown', 'aria-hidden': 'true' }, ...parts),
    table(
      'What the file is made of',
      ['Part', 'Size', 'Share'],
      rows.map((row) => [named(row), sizeText(row.bytes), shareText(row.bytes, whole)]),
    ),
    note(`The file is ${sizeText(fileSize)} long; sizes are in whole clusters.`),
  ];
}
