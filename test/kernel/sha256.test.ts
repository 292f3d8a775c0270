import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { allBackends } from './backends.ts';

const { Sha256 } = await import('../../src/kernel/sha256.ts');

const expected = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

describe.each(allBackends())('SHA-256 of $name', ({ kernel }) => {
  test('every length around the blocks', () => {
    const bytes = Uint8Array.from({ length: 200 }, (_, i) => i * 151);
    for (let length = 0; length <= bytes.length; length++) {
      kernel.reset();
      const hash = new Sha256(kernel);
      hash.update(bytes.subarray(0, length));
      expect(hash.digest()).toBe(expected(bytes.subarray(0, length)));
    }
  });

  test('pieces of any size, more than the buffer holds, and memory that grows meanwhile', () => {
    const all = Uint8Array.from({ length: 300_000 }, (_, i) => (i * i) >>> 7);
    const cuts = fc.array(fc.nat(all.length), { maxLength: 6 });
    fc.assert(
      fc.property(cuts, (places) => {
        kernel.reset();
        const hash = new Sha256(kernel);
        const ends = [...places, all.length].sort((a, b) => a - b);
        ends.forEach((end, i) => {
          hash.update(all.subarray(ends[i - 1] ?? 0, end));
          kernel.arena.allocate(50_000);
        });
        expect(hash.digest()).toBe(expected(all));
      }),
      { numRuns: 20 },
    );
  });
});
