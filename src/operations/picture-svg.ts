import { CELL_KINDS, type CellKind, type DiskPicture } from './disk-picture.ts';
import { hilbertCurve, hilbertSide } from './hilbert.ts';

/** What kinds are called in legends. */
export const KIND_LABELS: Readonly<Record<CellKind, string>> = {
  unallocated: 'unallocated',
  zero: 'zeros',
  backing: 'backing file',
  data: 'data',
  compressed: 'compressed',
  shared: 'shared with snapshots',
  damaged: 'damaged',
};

/** Told apart by people who see few colours, too, on white and on black. */
export const KIND_COLOURS: Readonly<Record<CellKind, string>> = {
  unallocated: '#8882',
  zero: '#56b4e9',
  backing: '#b8a9c9',
  data: '#0072b2',
  compressed: '#e69f00',
  shared: '#009e73',
  damaged: '#e4002b',
};

const SIDE_PIXELS = 512;
const LEGEND_TOP = SIDE_PIXELS + 60;

/**
 * A picture of a disk as an SVG file: its cells along a Hilbert curve, what is near on the disk near in
 * the picture, with a legend. It follows the reader's dark or light colours.
 * @param title shown above; any text
 * @param sizeText how sizes are written
 * @example
 * import { diskPicture, openImage, pictureSvg } from 'qcow2';
 *
 * const image = await openImage('overlay.qcow2');
 * const picture = await diskPicture(image, { maxCells: 16384 });
 * const svg = pictureSvg(picture, 'overlay.qcow2', (bytes) => `${bytes} bytes`);
 * console.log(svg.length);
 * await image.close();
 */
export function pictureSvg(
  picture: DiskPicture,
  title: string,
  sizeText: (bytes: number) => string,
): string {
  const legend = legendOf(picture, sizeText);
  const height = LEGEND_TOP + legend.length * 22 + 10;
  const cell = `each cell is ${sizeText(picture.cellBytes)} of the disk`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${SIDE_PIXELS + 40} ${height}" role="img" aria-label="${escaped(`map of ${title}`)}" font-family="system-ui, sans-serif" font-size="14">`,
    '<style>text{fill:#222}.page{fill:#fff}@media(prefers-color-scheme:dark){text{fill:#ddd}.page{fill:#161616}}</style>',
    `<rect class="page" width="100%" height="100%"/>`,
    `<text x="20" y="24" font-weight="600">${escaped(title)}</text>`,
    `<text x="${SIDE_PIXELS + 20}" y="24" text-anchor="end" font-size="12">${escaped(cell)}</text>`,
    ...squares(picture.cells),
    ...legend.flatMap(({ kind, text }, i) => {
      const y = LEGEND_TOP + i * 22;
      return [
        `<rect x="20" y="${y - 12}" width="14" height="14" fill="${KIND_COLOURS[kind]}" stroke="#8886"/>`,
        `<text x="42" y="${y}">${escaped(text)}</text>`,
      ];
    }),
    '</svg>\n',
  ].join('\n');
}

/** The kinds a picture has, the most important first, with their sizes. */
export function legendOf(
  { bytes, sharedBytes }: DiskPicture,
  sizeText: (bytes: number) => string,
): { kind: CellKind; text: string }[] {
  return CELL_KINDS.toReversed().flatMap((kind) => {
    const count = kind === 'shared' ? sharedBytes : bytes[kind];
    return count > 0 ? [{ kind, text: `${KIND_LABELS[kind]}: ${sizeText(count)}` }] : [];
  });
}

/** One path per kind; cells beside each other in a row are one rectangle of it. */
function squares(cells: Uint8Array): string[] {
  const side = hilbertSide(cells.length);
  const grid = new Uint8Array(side * side).fill(255);
  const curve = hilbertCurve(side);
  for (let i = 0; i < cells.length; i++) grid[curve[i]!] = cells[i]!;
  const paths = CELL_KINDS.map((): string[] => []);
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; ) {
      const kind = grid[y * side + x]!;
      const from = x;
      while (x < side && grid[y * side + x] === kind) x++;
      paths[kind]?.push(`M${from} ${y}h${x - from}v1H${from}z`);
    }
  }
  const scale = SIDE_PIXELS / side;
  return [
    `<g transform="translate(20 36) scale(${scale})" shape-rendering="crispEdges">`,
    ...paths.flatMap((path, i) =>
      path.length === 0
        ? []
        : [`<path fill="${KIND_COLOURS[CELL_KINDS[i]!]}" d="${path.join('')}"/>`],
    ),
    '</g>',
  ];
}

function escaped(text: string): string {
  const names: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
  // Control characters have no place in XML.
  return text.replace(/[&<>"]/g, (c) => names[c]!).replace(/\p{Cc}/gu, '\ufffd');
}
