import fc from 'fast-check';
import { expect, test } from 'vitest';
import { AllocationMap } from '../../src/image/allocation-map.ts';

const LENGTH = 3 * 65536 + 77;

/** A position, often near the seams of pages and words. */
const position = fc.oneof(
  fc.nat(LENGTH),
  fc.constantFrom(0, 1, 31, 32, 33, 65535, 65536, 65537, 131072, 196608, LENGTH),
);

test('it says what an array of flags says', () => {
  const range = fc.tuple(position, position, fc.boolean());
  fc.assert(
    fc.property(fc.array(range, { maxLength: 8 }), fc.array(range), (fills, questions) => {
      const map = new AllocationMap(LENGTH);
      const flags = new Uint8Array(LENGTH);
      for (const [a, b, value] of fills) {
        map.fill(Math.min(a, b), Math.max(a, b), value);
        flags.fill(value ? 1 : 0, Math.min(a, b), Math.max(a, b));
      }
      for (const [a, b, value] of questions) {
        expect(map.has(a)).toBe(flags[a] === 1);
        const found = flags.indexOf(value ? 1 : 0, a);
        expect(map.next(a, value)).toBe(found < 0 ? LENGTH : found);
        let count = 0;
        for (let k = Math.min(a, b); k < Math.max(a, b); k++) count += flags[k]!;
        expect(map.count(Math.min(a, b), Math.max(a, b))).toBe(count);
      }
      expect(map.has(LENGTH + 3)).toBe(false);
    }),
    { numRuns: 60 },
  );
});

test('it refuses disks of too many blocks', () => {
  expect(() => new AllocationMap(2 ** 38 + 1)).toThrow(/too large.*choose larger blocks/);
  expect(new AllocationMap(2 ** 33).next(0)).toBe(2 ** 33);
});
