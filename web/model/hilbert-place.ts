/**
 * Single points of the curve of `hilbertCurve` (src/operations/hilbert.ts), which gives all of them at
 * once. As there, a curve of twice the side is four of them; pictures here have x and y changed about, so
 * that half a square is a landscape.
 */

/** A place in a picture, in cells. */
export interface Place {
  x: number;
  y: number;
}

/** Where cell `index` is in a square of `side`, a power of two. */
export function placeOf(side: number, index: number): Place {
  let column = 0;
  let row = 0;
  let rest = index;
  for (let half = 1; half < side; half *= 2) {
    const quarter = rest % 4;
    rest = Math.floor(rest / 4);
    if (quarter === 0) [column, row] = [row, column];
    else if (quarter === 1) row += half;
    else if (quarter === 2) {
      row += half;
      column += half;
    } else [column, row] = [2 * half - 1 - row, half - 1 - column];
  }
  return { x: row, y: column };
}

/** The cell at a place of the square. */
export function indexAt(side: number, place: Place): number {
  let column = place.y;
  let row = place.x;
  let index = 0;
  for (let half = side / 2; half >= 1; half /= 2) {
    const isRight = column >= half;
    const isBelow = row >= half;
    const quarter = isBelow ? (isRight ? 2 : 1) : isRight ? 3 : 0;
    index = index * 4 + quarter;
    if (quarter === 0) [column, row] = [row, column];
    else if (quarter === 1) row -= half;
    else if (quarter === 2) {
      row -= half;
      column -= half;
    } else [column, row] = [half - 1 - row, 2 * half - 1 - column];
  }
  return index;
}
