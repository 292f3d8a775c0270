import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { allBackends } from './backends.ts';

const BYTES = 4096;

describe.each(allBackends())('zero detection of $name', ({ kernel }) => {
  const region = kernel.arena.allocate(BYTES);
  const bitmap = kernel.arena.allocate(BYTES);

  test('zero_range sees each byte of the range and none outside', () => {
    for (const length of [
      0, 1, 7, 8, 9, 15, 16, 31, 32, 33, 127, 128, 129, 300, 511, 512, 513, 650, 1100,
    ]) {
      for (const start of [1, 8, 16, 23]) {
        region.bytes.fill(0);
        region.bytes[start - 1] = 1;
        region.bytes[start + length] = 1;
        expect(kernel.exports.zero_range(region.ptr + start, length)).toBe(1);
        for (let i = 0; i < length; i++) {
          region.bytes[start + i] = 0x80;
          expect(kernel.exports.zero_range(region.ptr + start, length)).toBe(0);
          region.bytes[start + i] = 0;
        }
      }
    }
  });

  test('nonzero_bitmap agrees with a model', () => {
    const places = fc.array(fc.nat(BYTES - 1), { maxLength: 12 });
    fc.assert(
      fc.property(
        places,
        fc.nat(64),
        fc.nat(BYTES - 64),
        fc.integer({ min: 0, max: 33 }),
        (set, start, length, unitBits) => {
          region.bytes.fill(0);
          for (const at of set) region.bytes[at] = 1;
          bitmap.bytes.fill(0xaa);
          const unit = 2 ** unitBits;
          const units = Math.ceil(length / unit);
          const model = new Uint8Array(Math.ceil(units / 8));
          let total = 0;
          for (let k = 0; k < units; k++) {
            const used = set.some(
              (at) =>
                at >= start + k * unit && at < Math.min(start + length, start + (k + 1) * unit),
            );
            if (!used) continue;
            model[k >> 3] = (model[k >> 3] as number) | (1 << (k & 7));
            total++;
          }
          const { ptr } = region;
          expect(kernel.exports.nonzero_bitmap(ptr + start, length, unitBits, bitmap.ptr)).toBe(
            total,
          );
          expect(bitmap.bytes.slice(0, model.length)).toEqual(model);
          expect(bitmap.bytes[model.length]).toBe(0xaa);
        },
      ),
    );
  });
});
