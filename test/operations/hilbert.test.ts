import { expect, test } from 'vitest';
import { hilbertCurve, hilbertSide } from '../../src/operations/hilbert.ts';

test.each([1, 2, 4, 8, 64, 512])(
  'a curve of side %d visits each place once, in single steps',
  (side) => {
    const places = hilbertCurve(side);
    expect(places.length).toBe(side * side);
    expect(new Set(places).size).toBe(side * side);
    let longest = 0;
    for (let i = 1; i < places.length; i++) {
      const [from, to] = [places[i - 1]!, places[i]!];
      const step =
        Math.abs((from % side) - (to % side)) +
        Math.abs(Math.floor(from / side) - Math.floor(to / side));
      longest = Math.max(longest, step);
    }
    expect(longest).toBe(side === 1 ? 0 : 1);
    expect(places[0]).toBe(0);
  },
);

test('a square has room for all cells', () => {
  expect([0, 1, 2, 4, 5, 4096, 4097].map(hilbertSide)).toEqual([1, 1, 2, 2, 4, 64, 128]);
});
