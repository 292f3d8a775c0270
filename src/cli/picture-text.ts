import { CELL_KINDS, type DiskPicture } from '../operations/disk-picture.ts';
import { legendOf } from '../operations/picture-svg.ts';
import { sizeText } from './print-human.ts';

/** Characters of a row, and rows. */
const COLUMNS = 64;
const ROWS = 24;
/** Most cells a picture for a terminal has use for. */
export const TEXT_CELLS = COLUMNS * ROWS;

const MARKS: Readonly<Record<(typeof CELL_KINDS)[number], string>> = {
  unallocated: '·',
  zero: '░',
  backing: '▒',
  data: '█',
  compressed: '▓',
  shared: '▚',
  damaged: '!',
};

/** A picture of a disk in block characters: rows from its beginning to its end, and a legend. */
export function pictureText(picture: DiskPicture): string {
  const { cells, cellBytes } = picture;
  const rows: string[] = [];
  for (let at = 0; at < cells.length; at += COLUMNS) {
    const marks = Array.from(cells.subarray(at, at + COLUMNS), (kind) => MARKS[CELL_KINDS[kind]!]);
    rows.push(`${sizeText(at * cellBytes).padStart(9)} ${marks.join('')}`);
  }
  const legend = legendOf(picture, sizeText).map(({ kind, text }) => `${MARKS[kind]} ${text}`);
  return `${[...rows, '', `a character is ${sizeText(cellBytes)} of the disk`, ...legend].join('\n')}\n`;
}
