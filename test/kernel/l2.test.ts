import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as abi from '../../src/kernel/abi.ts';
import { allBackends, loadScalar } from './backends.ts';
import { COMPRESSED, COPIED, L2Decoder, type Run } from './l2-support.ts';

const { RUN_UNALLOCATED, RUN_ZERO_PLAIN, RUN_ZERO_ALLOCATED, RUN_DATA } = abi;
const { RUN_COMPRESSED, RUN_INVALID, L2_DATA_FILE, L2_VERSION_2 } = abi;
const CLUSTER = 0x10000n;

/** A fault of one entry as its record. */
function invalid(code: number, host: number | bigint, first = 0): Run {
  return [RUN_INVALID, first, 1, code, Number(host)];
}

describe.each(allBackends())('standard L2 of $name', ({ kernel }) => {
  const l2 = new L2Decoder(kernel);

  test('kinds, in the order of the format', () => {
    expect(l2.decode([0n])).toEqual([[RUN_UNALLOCATED, 0, 1, 0, 0]]);
    expect(l2.decode([COPIED])).toEqual([[RUN_UNALLOCATED, 0, 1, 0, 0]]);
    expect(l2.decode([1n])).toEqual([[RUN_ZERO_PLAIN, 0, 1, 0, 0]]);
    expect(l2.decode([COPIED | 0x50001n])).toEqual([[RUN_ZERO_ALLOCATED, 0, 1, 0, 0x50000]]);
    expect(l2.decode([COPIED | 0x50000n])).toEqual([[RUN_DATA, 0, 1, 0, 0x50000]]);
    expect(l2.decode([0x50000n])).toEqual([[RUN_DATA, 0, 1, 0, 0x50000]]);
    expect(l2.decode([COPIED | COMPRESSED | 0x50001n])).toEqual([
      [RUN_COMPRESSED, 0, 1, 511, 0x50001],
    ]);
  });

  test('compressed descriptors', () => {
    const examples: [bigint, number, number, number][] = [
      [0x4000000000050000n, 16, 0x50000, 512],
      [0x400000000005004fn, 16, 0x5004f, 433],
      [0x4e000000000570f4n, 16, 0x570f4, 28940],
      [0x4e4000000005e1aan, 16, 0x5e1aa, 29270],
      [0x4000000000000a08n, 9, 0xa08, 504],
      [0x4000000000005015n, 12, 0x5015, 491],
      [0x4008000000a00000n, 21, 0xa00000, 2560],
      [0x4008000000a00802n, 21, 0xa00802, 2558],
    ];
    for (const [word, clusterBits, host, length] of examples) {
      expect(l2.decode([word], { clusterBits })).toEqual([[RUN_COMPRESSED, 0, 1, length, host]]);
    }
    expect(l2.decode([0x4000000000050000n, 0x4000000000050200n])).toHaveLength(2);
  });

  test('faults', () => {
    expect(l2.decode([0x50200n])).toEqual([invalid(abi.INVALID_UNALIGNED, 0x50200)]);
    expect(l2.decode([0x50201n])).toEqual([invalid(abi.INVALID_UNALIGNED, 0x50200)]);
    const v2 = { flags: L2_VERSION_2 };
    expect(l2.decode([1n, 0x50001n], v2)).toEqual([
      invalid(abi.INVALID_ZERO_IN_V2, 0),
      invalid(abi.INVALID_ZERO_IN_V2, 0x50000, 1),
    ]);
    expect(l2.decode([COMPRESSED | 0x50000n], { flags: L2_DATA_FILE })).toEqual([
      invalid(abi.INVALID_COMPRESSED_IN_DATA_FILE, 0x50000),
    ]);
  });

  test('the end of the file', () => {
    const hostSize = 0x50001;
    expect(l2.decode([0x50000n], { hostSize })).toEqual([[RUN_DATA, 0, 1, 0, 0x50000]]);
    expect(l2.decode([0x60000n], { hostSize })).toEqual([invalid(abi.INVALID_PAST_END, 0x60000)]);
    expect(l2.decode([0x50000n], { hostSize: 0x50000 })).toEqual([
      invalid(abi.INVALID_PAST_END, 0x50000),
    ]);
    expect(l2.decode([0x60001n], { hostSize })).toEqual([[RUN_ZERO_ALLOCATED, 0, 1, 0, 0x60000]]);
    expect(l2.decode([COMPRESSED | 0x50000n], { hostSize })).toHaveLength(1);
    expect(l2.decode([COMPRESSED | 0x50001n], { hostSize })).toEqual([
      invalid(abi.INVALID_PAST_END, 0x50001),
    ]);
    const far = 1n << 53n;
    for (const size of [2 ** 60, Number.POSITIVE_INFINITY]) {
      expect(l2.decode([far], { hostSize: size })).toEqual([invalid(abi.INVALID_PAST_END, far)]);
      const words = [COMPRESSED | far, COMPRESSED | (far - 1n)];
      expect(l2.decode(words, { hostSize: size, clusterBits: 9 })).toEqual([
        invalid(abi.INVALID_PAST_END, far),
        [RUN_COMPRESSED, 1, 1, 1, 2 ** 53 - 1],
      ]);
    }
    // A long run must stop at the end, wherever a group of entries is cut.
    for (let length = 1; length < 40; length++) {
      const words = Array.from({ length: 40 }, (_, i) => BigInt(i + 1) * CLUSTER);
      const runs = l2.decode(words, { hostSize: length * 65536 + 1 });
      expect(runs[0]).toEqual([RUN_DATA, 0, length, 0, 65536]);
      expect(runs[1]).toEqual(invalid(abi.INVALID_PAST_END, (length + 1) * 65536, length));
      expect(runs).toHaveLength(1 + 40 - length);
    }
  });

  test('data files: host is guest, and bit 63 tells offset 0', () => {
    const flags = L2_DATA_FILE;
    const raw = Array.from({ length: 30 }, (_, i) => COPIED | (BigInt(i) * CLUSTER));
    expect(l2.decode(raw, { flags })).toEqual([[RUN_DATA, 0, 30, 0, 0]]);
    expect(l2.decode(raw.slice(0, 1), { flags, guestBase: 65536 })).toEqual([
      invalid(abi.INVALID_HOST_NOT_GUEST, 0),
    ]);
    const guestBase = 10 * 65536;
    const words = raw.map((word) => (word & ~COPIED) + 10n * CLUSTER);
    words[5] = (words[5] as bigint) | COPIED;
    expect(l2.decode(words, { flags, guestBase })).toEqual([[RUN_DATA, 0, 30, 0, guestBase]]);
    words[7] = (words[7] as bigint) + CLUSTER;
    expect(l2.decode(words, { flags, guestBase })[1]).toEqual(
      invalid(abi.INVALID_HOST_NOT_GUEST, words[7], 7),
    );
    expect(l2.decode([0x20001n], { flags, guestBase })).toEqual([
      invalid(abi.INVALID_HOST_NOT_GUEST, 0x20000),
    ]);
    // Unallocated entries, then one that claims host offset 0.
    const holes = new Array<bigint>(20).fill(0n);
    holes[13] = COPIED;
    expect(l2.decode(holes, { flags, guestBase })[1]).toEqual(
      invalid(abi.INVALID_HOST_NOT_GUEST, 0, 13),
    );
    expect(l2.decode([COPIED, 0n, 0n], { flags })).toEqual([
      [RUN_DATA, 0, 1, 0, 0],
      [RUN_UNALLOCATED, 1, 2, 0, 0],
    ]);
  });

  test('attributes separate runs only when asked for', () => {
    const words = [0x10000n, COPIED | 0x20000n, 0x30002n, 0x0100000000040000n];
    expect(l2.decode(words)).toEqual([[RUN_DATA, 0, 4, 0, 0x10000]]);
    expect(l2.decode(words, { attributes: abi.RUN_ATTR_COPIED })).toEqual([
      [RUN_DATA, 0, 1, 0, 0x10000],
      [RUN_DATA, 1, 1, 1, 0x20000],
      [RUN_DATA, 2, 2, 0, 0x30000],
    ]);
    expect(l2.decode(words, { attributes: abi.RUN_ATTR_RESERVED })).toEqual([
      [RUN_DATA, 0, 2, 0, 0x10000],
      [RUN_DATA, 2, 2, 2, 0x30000],
    ]);
    // Bit 63 without a host cluster says nothing; reserved bits do.
    expect(l2.decode([0n, COPIED, 2n], { attributes: 3 })).toEqual([
      [RUN_UNALLOCATED, 0, 2, 0, 0],
      [RUN_UNALLOCATED, 2, 1, 2, 0],
    ]);
  });

  test('the highest offset does not run into the next entry', () => {
    const top = 0x00ffffffffff0000n;
    for (let lead = 0; lead < 20; lead++) {
      const words = Array.from({ length: lead }, (_, i) => (top - BigInt(lead - i) * CLUSTER) | 1n);
      words.push(top | 1n, 0x0100000000000001n, 0x0100000000010001n);
      words.push(...new Array<bigint>(10).fill(1n));
      const runs = l2.decode(words, { attributes: abi.RUN_ATTR_RESERVED });
      expect(runs[0]?.slice(0, 3)).toEqual([RUN_ZERO_ALLOCATED, 0, lead + 1]);
      expect(runs[1]).toEqual([RUN_ZERO_PLAIN, lead + 1, 1, 2, 0]);
    }
  });

  test('stops at the capacity and goes on from the last record', () => {
    const words = Array.from({ length: 60 }, (_, i) =>
      i % 3 === 0 ? 0n : BigInt(i + 1) * CLUSTER,
    );
    const whole = l2.decode(words);
    for (let capacity = 1; capacity <= whole.length; capacity++) {
      const runs: Run[] = [];
      let first = 0;
      while (first < words.length) {
        const part = l2.decode(words, { first, capacity });
        runs.push(...part);
        const last = part.at(-1) as Run;
        first = last[1] + last[2];
      }
      expect(runs).toEqual(whole);
    }
    expect(l2.decode(words, { capacity: 0 })).toEqual([]);
    expect(l2.decode(words, { first: 60 })).toEqual([]);
  });
});

// Random tables against the TypeScript twin.

const clusterBits = fc.integer({ min: 9, max: 21 });
/** Words that meet every rule: few distinct offsets, flags and reserved bits in all places. */
const word = fc.oneof(
  { weight: 2, arbitrary: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }) },
  {
    weight: 8,
    arbitrary: fc
      .tuple(
        fc.nat(20),
        fc.constantFrom(9, 12, 14, 16, 21),
        fc.constantFrom(
          0n,
          0n,
          COPIED,
          COPIED,
          COMPRESSED,
          1n << 56n,
          1n << 61n,
          1n << 55n,
          1n << 53n,
        ),
        fc.constantFrom(0n, 0n, 0n, 1n, 1n, 2n, 0x100n),
      )
      .map(([index, shift, high, low]) => (BigInt(index) << BigInt(shift)) | high | low),
  },
);
/** Stretches as real tables have them, with faults in between. */
const table = fc
  .record({
    bits: clusterBits,
    stretches: fc.array(
      fc.tuple(
        fc.constantFrom('contiguous', 'repeat', 'words'),
        word,
        fc.integer({ min: 1, max: 40 }),
        fc.array(word, { maxLength: 6 }),
      ),
      { minLength: 1, maxLength: 12 },
    ),
  })
  .map(({ bits, stretches }) => {
    const words: bigint[] = [];
    for (const [shape, start, length, others] of stretches) {
      if (shape === 'words') words.push(...others);
      else {
        const step = shape === 'repeat' ? 0n : 1n << BigInt(bits);
        for (let i = 0n; i < length; i++) words.push((start + i * step) & (2n ** 64n - 1n));
      }
    }
    return { bits, words };
  });
const options = fc.record({
  first: fc.nat(3),
  flags: fc.nat(3),
  attributes: fc.nat(3),
  guest: fc.nat(40),
  hostSize: fc.oneof(
    fc.constantFrom(
      0,
      1,
      2 ** 20 + 1,
      2 ** 53 - 1,
      2 ** 53,
      Number.POSITIVE_INFINITY,
      Number.NaN,
      -1,
    ),
    fc.nat(2 ** 24),
  ),
  capacity: fc.oneof(fc.constant(4000), fc.nat(30)),
});

test('every backend decodes any table as the twin does', () => {
  const twin = new L2Decoder(loadScalar());
  const others = allBackends().map(({ name, kernel }) => ({ name, l2: new L2Decoder(kernel) }));
  fc.assert(
    fc.property(table, options, ({ bits, words }, { guest, ...rest }) => {
      const all = { ...rest, clusterBits: bits, guestBase: guest * 2 ** bits };
      if (all.first > words.length) all.first = 0;
      const expected = twin.decode(words, all);
      for (const { name, l2 } of others) {
        expect({ name, runs: l2.decode(words, all) }).toEqual({ name, runs: expected });
      }
    }),
    { numRuns: 250 },
  );
});

test('records cover the entries without gap, each kind as the entry says', () => {
  const twin = new L2Decoder(loadScalar());
  fc.assert(
    fc.property(table, fc.nat(3), ({ bits, words }, attributes) => {
      let next = 0;
      for (const [kind, first, units] of twin.decode(words, { clusterBits: bits, attributes })) {
        expect(first).toBe(next);
        for (let i = first; i < first + units; i++) {
          const [single] = twin.decode(words, { clusterBits: bits, first: i });
          expect(single?.[0]).toBe(kind);
        }
        next += units;
      }
      expect(next).toBe(words.length);
    }),
    { numRuns: 30 },
  );
});
