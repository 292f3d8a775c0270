import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { allBackends } from './backends.ts';

const BYTES = 4096;

describe.each(allBackends())('first_difference of $name', ({ kernel }) => {
  const a = kernel.arena.allocate(BYTES);
  const b = kernel.arena.allocate(BYTES);

  test('sees each byte of the range and none outside', () => {
    for (const length of [
      0, 1, 7, 8, 9, 15, 16, 31, 32, 33, 63, 64, 65, 95, 96, 97, 300, 383, 384, 385, 500, 900,
    ]) {
      for (const [left, right] of [
        [1, 1],
        [8, 16],
        [16, 23],
      ] as const) {
        for (let i = 0; i < BYTES; i++) a.bytes[i] = i * 7;
        b.bytes.fill(0);
        b.bytes.set(a.bytes.subarray(left, left + length), right);
        a.bytes[left - 1] = 1;
        b.bytes[right - 1] = 2;
        a.bytes[left + length] = 1;
        b.bytes[right + length] = 2;
        const compare = () => kernel.exports.first_difference(a.ptr + left, b.ptr + right, length);
        expect(compare()).toBe(-1);
        // From the end, so that the one that counts is the last one made.
        for (let i = length - 1; i >= 0; i--) {
          b.bytes[right + i]! ^= 0x80;
          expect(compare()).toBe(i);
        }
      }
    }
  });

  test('agrees with a model', () => {
    const places = fc.array(fc.nat(BYTES - 1), { maxLength: 4 });
    fc.assert(
      fc.property(places, fc.nat(64), fc.nat(BYTES - 64), (set, start, length) => {
        a.bytes.fill(0x5a);
        b.bytes.fill(0x5a);
        for (const at of set) a.bytes[at] = at;
        const inside = set.filter(
          (at) => at >= start && at < start + length && (at & 0xff) !== 0x5a,
        );
        const first = inside.length === 0 ? -1 : Math.min(...inside) - start;
        const { exports } = kernel;
        expect(exports.first_difference(a.ptr + start, b.ptr + start, length)).toBe(first);
        expect(exports.first_difference(b.ptr + start, a.ptr + start, length)).toBe(first);
      }),
    );
  });
});
