/**
 * Places on a Hilbert curve: points that follow one another along it are neighbours, and what is near on
 * a disk is near in the picture.
 */

/** Side of the smallest square, a power of two, whose curve has room for `cells` points. */
export function hilbertSide(cells: number): number {
  let side = 1;
  while (side * side < cells) side *= 2;
  return side;
}

/** For each point along the curve its place in the square, of a power of two: `y * side + x`. */
export function hilbertCurve(side: number): Uint32Array {
  const places = new Uint32Array(side * side);
  // A curve of twice the side is four of them: the first and last mirrored on the diagonals.
  let points = 1;
  for (let half = 1; half < side; half *= 2, points *= 4) {
    for (let i = 0; i < points; i++) {
      const place = places[i]!;
      const x = place % side;
      const y = (place - x) / side;
      places[i] = x * side + y;
      places[points + i] = (y + half) * side + x;
      places[2 * points + i] = (y + half) * side + x + half;
      places[3 * points + i] = (half - 1 - x) * side + (2 * half - 1 - y);
    }
  }
  return places;
}
