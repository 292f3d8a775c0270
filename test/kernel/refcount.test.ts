import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { allBackends } from './backends.ts';

const BYTES = 512;

/** The counter as format section 6 defines it. */
function modelGet(block: Uint8Array, order: number, index: number): bigint {
  const bits = 1 << order;
  if (bits < 8) {
    const bit = index * bits;
    return BigInt(((block[bit >> 3] as number) >> (bit & 7)) & (2 ** bits - 1));
  }
  let value = 0n;
  for (const byte of block.subarray((index * bits) / 8, ((index + 1) * bits) / 8)) {
    value = value * 256n + BigInt(byte);
  }
  return value;
}

function modelSet(block: Uint8Array, order: number, index: number, value: bigint): void {
  const bits = 1 << order;
  if (bits < 8) {
    const at = (index * bits) >> 3;
    const shift = (index * bits) & 7;
    const mask = (2 ** bits - 1) << shift;
    block[at] = ((block[at] as number) & ~mask) | (Number(value) << shift);
    return;
  }
  for (let i = 0; i < bits / 8; i++) {
    block[((index + 1) * bits) / 8 - 1 - i] = Number((value >> BigInt(8 * i)) & 255n);
  }
}

const orders = fc.integer({ min: 0, max: 6 });
/** Blocks that are mostly 0, mostly full, or random. */
const blocks = fc.oneof(
  fc.uint8Array({ minLength: BYTES, maxLength: BYTES }),
  fc.array(fc.tuple(fc.nat(BYTES - 1), fc.nat(255)), { maxLength: 8 }).map((changes) => {
    const block = new Uint8Array(BYTES);
    for (const [at, value] of changes) block[at] = value;
    return block;
  }),
  fc.array(fc.tuple(fc.nat(BYTES - 1), fc.nat(255)), { maxLength: 8 }).map((changes) => {
    const block = new Uint8Array(BYTES).fill(255);
    for (const [at, value] of changes) block[at] = value;
    return block;
  }),
);
const ranges = orders.chain((order) => {
  const counters = (BYTES * 8) >> order;
  return fc
    .tuple(fc.nat(counters), fc.nat(counters))
    .map(([a, b]) => ({ order, first: Math.min(a, b), count: Math.abs(a - b) }));
});
const deltas = fc.oneof(
  fc.integer({ min: -3, max: 3 }),
  fc.integer({ min: -70000, max: 70000 }),
  fc.maxSafeInteger(),
);

describe.each(allBackends())('refcounts of $name', ({ kernel }) => {
  const { exports } = kernel;
  const block = kernel.arena.allocate(BYTES);
  const other = kernel.arena.allocate(BYTES);
  const values = kernel.arena.allocate(BYTES * 64);
  const u64 = (): BigUint64Array =>
    new BigUint64Array(values.bytes.buffer, values.ptr, values.length / 8);

  test('the worked examples of the format', () => {
    const examples: [number, string, number[]][] = [
      [0, 'ff03', [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0]],
      [1, '555d', [1, 1, 1, 1, 1, 3, 1, 1]],
      [2, '1111821201', [1, 1, 1, 1, 2, 8, 2, 1, 1, 0]],
      [3, '010101010208020101', [1, 1, 1, 1, 2, 8, 2, 1, 1]],
      [4, '00010001000100010002000800020001', [1, 1, 1, 1, 2, 8, 2, 1]],
      [5, '0000000100000002', [1, 2]],
      [6, '00000000000000010000000000000008', [1, 8]],
    ];
    for (const [order, hex, counters] of examples) {
      block.bytes.set(Buffer.from(hex, 'hex'));
      exports.refcount_unpack(block.ptr, order, 0, counters.length, values.ptr);
      expect(Array.from(u64().subarray(0, counters.length), Number)).toEqual(counters);
    }
  });

  test('unpack, and pack of the same, over any range', () => {
    fc.assert(
      fc.property(blocks, ranges, (bytes, { order, first, count }) => {
        block.bytes.set(bytes);
        exports.refcount_unpack(block.ptr, order, first, count, values.ptr);
        for (let i = 0; i < count; i++) expect(u64()[i]).toBe(modelGet(bytes, order, first + i));
        block.bytes.fill(0x5a);
        const expected = new Uint8Array(BYTES).fill(0x5a);
        for (let i = 0; i < count; i++) modelSet(expected, order, first + i, u64()[i] as bigint);
        expect(exports.refcount_pack(block.ptr, order, first, count, values.ptr)).toBe(-1);
        expect(block.bytes).toEqual(expected);
      }),
      { numRuns: 40 },
    );
  });

  test('pack writes nothing when a value does not fit', () => {
    for (let order = 0; order < 6; order++) {
      block.bytes.fill(0x5a);
      u64().fill(0n);
      u64()[5] = 1n << BigInt(1 << order);
      expect(exports.refcount_pack(block.ptr, order, 2, 6, values.ptr)).toBe(7);
      expect(block.bytes).toEqual(new Uint8Array(BYTES).fill(0x5a));
      expect(exports.refcount_pack(block.ptr, order, 2, 5, values.ptr)).toBe(-1);
    }
  });

  test('fill sets the range and only it, or refuses', () => {
    fc.assert(
      fc.property(blocks, ranges, fc.maxSafeNat(), fc.nat(53), (bytes, range, number, shift) => {
        const { order, first, count } = range;
        const value = Math.floor(number / 2 ** shift);
        block.bytes.set(bytes);
        const expected = bytes.slice();
        const fits = BigInt(value) < 1n << BigInt(1 << order);
        if (fits) {
          for (let i = first; i < first + count; i++) modelSet(expected, order, i, BigInt(value));
        }
        expect(exports.refcount_fill(block.ptr, order, first, count, value)).toBe(fits ? 0 : 1);
        expect(block.bytes).toEqual(expected);
      }),
      { numRuns: 60 },
    );
    for (const value of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 64]) {
      expect(exports.refcount_fill(block.ptr, 6, 0, 1, value)).toBe(1);
    }
  });

  test('add changes all or none', () => {
    fc.assert(
      fc.property(blocks, ranges, deltas, (bytes, { order, first, count }, delta) => {
        block.bytes.set(bytes);
        const expected = bytes.slice();
        let refused = -1;
        for (let i = first; i < first + count && refused < 0; i++) {
          const sum = modelGet(bytes, order, i) + BigInt(delta);
          if (sum < 0n || sum >= 1n << BigInt(1 << order)) refused = i;
          else modelSet(expected, order, i, sum);
        }
        expect(exports.refcount_add(block.ptr, order, first, count, delta)).toBe(refused);
        expect(block.bytes).toEqual(refused < 0 ? expected : bytes);
      }),
      { numRuns: 80 },
    );
  });

  test('compare finds the first difference in the range', () => {
    fc.assert(
      fc.property(
        blocks,
        ranges,
        fc.array(fc.nat(BYTES - 1), { maxLength: 4 }),
        fc.integer({ min: 1, max: 255 }),
        (bytes, { order, first, count }, places, flip) => {
          const changed = bytes.slice();
          for (const at of places) changed[at] = (changed[at] as number) ^ flip;
          block.bytes.set(bytes);
          other.bytes.set(changed);
          let expected = -1;
          for (let i = first; i < first + count && expected < 0; i++) {
            if (modelGet(bytes, order, i) !== modelGet(changed, order, i)) expected = i;
          }
          expect(exports.refcount_compare(block.ptr, other.ptr, order, first, count)).toBe(
            expected,
          );
        },
      ),
      { numRuns: 80 },
    );
  });

  test('scan finds the first zero and the first used counter', () => {
    fc.assert(
      fc.property(blocks, ranges, fc.nat(1), (bytes, { order, first, count }, zero) => {
        block.bytes.set(bytes);
        let expected = -1;
        for (let i = first; i < first + count && expected < 0; i++) {
          if ((modelGet(bytes, order, i) === 0n) === (zero === 1)) expected = i;
        }
        expect(exports.refcount_scan(block.ptr, order, first, count, zero)).toBe(expected);
      }),
      { numRuns: 80 },
    );
  });
});
