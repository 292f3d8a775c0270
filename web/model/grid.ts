import { hilbertCurve, hilbertSide } from '../../src/operations/hilbert.ts';

/** Cells laid out in a square, or the upper half of one. */
export interface Grid {
  /** Side of the square in cells, a power of two, and how many of its rows are used. */
  side: number;
  rows: number;
  /** Number of cells; what lies behind them is `OUTSIDE`. */
  count: number;
  /** By row: the kind of the cell at `y * side + x`. */
  kinds: Uint8Array<ArrayBuffer>;
}

/** No cell is here. */
export const OUTSIDE = 255;

/** Lays out cells along a Hilbert curve, as `placeOf` finds them. */
export function gridOf(cells: Uint8Array): Grid {
  const side = hilbertSide(cells.length);
  const rows = side > 1 && cells.length <= (side * side) / 2 ? side / 2 : side;
  const curve = hilbertCurve(side);
  const kinds = new Uint8Array(side * rows).fill(OUTSIDE);
  const shift = Math.log2(side);
  const mask = side - 1;
  for (let i = 0; i < cells.length; i++) {
    const place = curve[i]!;
    kinds[((place & mask) << shift) | (place >>> shift)] = cells[i]!;
  }
  return { side, rows, count: cells.length, kinds };
}
