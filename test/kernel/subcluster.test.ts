import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as abi from '../../src/kernel/abi.ts';
import { allBackends, loadScalar } from './backends.ts';
import { COMPRESSED, COPIED, L2Decoder, type Run } from './l2-support.ts';

const { RUN_UNALLOCATED, RUN_ZERO_PLAIN, RUN_ZERO_ALLOCATED, RUN_DATA } = abi;
const { RUN_COMPRESSED, RUN_INVALID, RUN_UNALLOCATED_SUBCLUSTER, L2_DATA_FILE } = abi;
const ALL = 0xffffffffn;

function invalid(code: number, host: number, first = 0): Run {
  return [RUN_INVALID, first, 32, code, host];
}

/** Kinds of the 32 subclusters as the letters of the format's examples. */
function letters(runs: readonly Run[]): string {
  const names = ['U', 'Z', 'Z', 'N', 'C', '!', 'U'];
  return runs.map(([kind, , units]) => (names[kind] as string).repeat(units)).join('');
}

describe.each(allBackends())('extended L2 of $name', ({ kernel }) => {
  const l2 = new L2Decoder(kernel);

  test('the examples of the format', () => {
    const examples: [bigint, bigint, string][] = [
      [0x8000000000050000n, 1n, 'N'.padEnd(32, 'U')],
      [0x8000000000060000n, 0x0000000800000004n, 'UUNZ'.padEnd(32, 'U')],
      [0x8000000000070000n, 0x00000006fffffff9n, 'NZZ'.padEnd(32, 'N')],
      [0n, 0xffffffff00000000n, 'Z'.repeat(32)],
      [0x8000000000080000n, 0xffffffff00000000n, 'Z'.repeat(32)],
      [0n, 0x0000000200000000n, 'UZ'.padEnd(32, 'U')],
      [0x8000000000050000n, 0n, 'U'.repeat(32)],
      [0x4000000000090000n, 0n, 'C'.repeat(32)],
      [0x8000000000050000n, 0x00000c0000000020n, 'UUUUUNUUUUZZ'.padEnd(32, 'U')],
    ];
    for (const [entry, bitmap, expected] of examples) {
      expect(letters(l2.decodeExtended([entry, bitmap]))).toBe(expected);
    }
  });

  test('hosts are those of the subclusters', () => {
    expect(l2.decodeExtended([COPIED | 0x60000n, 0x0000000800000004n])).toEqual([
      [RUN_UNALLOCATED_SUBCLUSTER, 0, 2, 0, 0x60000],
      [RUN_DATA, 2, 1, 0, 0x61000],
      [RUN_ZERO_ALLOCATED, 3, 1, 0, 0x61800],
      [RUN_UNALLOCATED_SUBCLUSTER, 4, 28, 0, 0x62000],
    ]);
    expect(l2.decodeExtended([0n, 0x80000000n << 32n])).toEqual([
      [RUN_UNALLOCATED, 0, 31, 0, 0],
      [RUN_ZERO_PLAIN, 31, 1, 0, 0],
    ]);
  });

  test('runs join across clusters where the host continues', () => {
    const words = [0x10000n, 0xfffffff0n, 0x20000n, ALL, 0x30000n, 0x0fn, 0x50000n, ALL];
    expect(l2.decodeExtended(words)).toEqual([
      [RUN_UNALLOCATED_SUBCLUSTER, 0, 4, 0, 0x10000],
      [RUN_DATA, 4, 28 + 32 + 4, 0, 0x12000],
      [RUN_UNALLOCATED_SUBCLUSTER, 68, 28, 0, 0x32000],
      [RUN_DATA, 96, 32, 0, 0x50000],
    ]);
    expect(l2.decodeExtended([0n, 0n, 0n, 0n])).toEqual([[RUN_UNALLOCATED, 0, 64, 0, 0]]);
  });

  test('faults poison the cluster', () => {
    expect(l2.decodeExtended([0x50000n, 0x100000001n])).toEqual([
      invalid(abi.INVALID_ALLOC_AND_ZERO, 0x50000),
    ]);
    expect(l2.decodeExtended([COPIED, 1n])).toEqual([invalid(abi.INVALID_ALLOC_WITHOUT_OFFSET, 0)]);
    expect(l2.decodeExtended([COMPRESSED | 0x50000n, 1n << 40n])).toEqual([
      invalid(abi.INVALID_BITMAP_ON_COMPRESSED, 0x50000),
    ]);
    expect(l2.decodeExtended([0x50200n, 0n])).toEqual([invalid(abi.INVALID_UNALIGNED, 0x50200)]);
    const short = { hostSize: 0x50000 };
    expect(l2.decodeExtended([0x50000n, 1n], short)).toEqual([
      invalid(abi.INVALID_PAST_END, 0x50000),
    ]);
    expect(l2.decodeExtended([0x50000n, ALL << 32n], short)).toHaveLength(1);
    expect(letters(l2.decodeExtended([0x50000n, 0n], short))).toBe('U'.repeat(32));
    // The file may end inside the last cluster.
    expect(letters(l2.decodeExtended([0x50000n, ALL], { hostSize: 0x50001 }))).toBe('N'.repeat(32));
    expect(l2.decodeExtended([COMPRESSED | 0x50000n, 0n], short)).toEqual([
      invalid(abi.INVALID_PAST_END, 0x50000),
    ]);
  });

  test('bit 0 of the first word has no effect', () => {
    expect(l2.decodeExtended([0x50001n, 1n], { flags: abi.L2_VERSION_2, attributes: 3 })).toEqual(
      l2.decodeExtended([0x50000n, 1n], { attributes: 3 }),
    );
  });

  test('data files', () => {
    const flags = L2_DATA_FILE;
    expect(letters(l2.decodeExtended([COPIED, ALL], { flags }))).toBe('N'.repeat(32));
    expect(l2.decodeExtended([COPIED, 0n], { flags, guestBase: 65536 })).toEqual([
      invalid(abi.INVALID_HOST_NOT_GUEST, 0),
    ]);
    expect(l2.decodeExtended([COMPRESSED | 0x50000n, 0n], { flags })).toEqual([
      invalid(abi.INVALID_COMPRESSED_IN_DATA_FILE, 0x50000),
    ]);
    expect(l2.decodeExtended([COPIED | 0x10000n, ALL], { flags, guestBase: 65536 })).toEqual([
      [RUN_DATA, 0, 32, 0, 65536],
    ]);
  });

  test('compressed entries are 32 units', () => {
    expect(l2.decodeExtended([0n, 0n, 0x400000000005004fn, 0n])).toEqual([
      [RUN_UNALLOCATED, 0, 32, 0, 0],
      [RUN_COMPRESSED, 32, 32, 433, 0x5004f],
    ]);
  });

  test('stops between clusters', () => {
    const words: bigint[] = [];
    for (let i = 1; i <= 9; i++) words.push(BigInt(i) << 20n, 0x55555555n);
    for (const capacity of [64, 65, 95, 96, 127]) {
      const runs: Run[] = [];
      for (let first = 0; first < 9; ) {
        const part = l2.decodeExtended(words, { first, capacity });
        runs.push(...part);
        const last = part.at(-1) as Run;
        first = (last[1] + last[2]) / 32;
        expect(Number.isInteger(first)).toBe(true);
      }
      expect(runs).toEqual(l2.decodeExtended(words));
    }
  });
});

const bitmap = fc.oneof(
  fc.constantFrom(0n, ALL, ALL << 32n, 1n, 0x80000000n, 0x100000001n, 1n << 63n),
  fc.tuple(fc.nat(0xffffffff), fc.nat(0xffffffff)).map(([mask, zeros]) => {
    const alloc = BigInt((mask & ~zeros) >>> 0);
    return (BigInt((zeros & ~mask) >>> 0) << 32n) | alloc;
  }),
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
);
const entry = fc.oneof(
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  fc
    .tuple(
      fc.nat(12),
      fc.constantFrom(9, 14, 16, 21),
      fc.constantFrom(0n, 0n, COPIED, COPIED, COMPRESSED, 1n << 57n, 1n << 55n),
      fc.constantFrom(0n, 0n, 1n, 2n),
    )
    .map(([index, shift, high, low]) => (BigInt(index) << BigInt(shift)) | high | low),
);
/** Entries at random, and stretches of contiguous clusters. */
const table = fc
  .tuple(
    fc.integer({ min: 14, max: 21 }),
    fc.array(fc.tuple(entry, bitmap, fc.integer({ min: 1, max: 5 })), { maxLength: 20 }),
  )
  .map(([bits, parts]) => {
    const words: bigint[] = [];
    for (const [start, map, length] of parts) {
      for (let i = 0n; i < length; i++) {
        words.push((start + (i << BigInt(bits))) & (2n ** 64n - 1n), map);
      }
    }
    return { bits, words };
  });

test('every backend decodes any table as the twin does', () => {
  const twin = new L2Decoder(loadScalar());
  const others = allBackends().map(({ name, kernel }) => ({ name, l2: new L2Decoder(kernel) }));
  const options = fc.record({
    flags: fc.nat(3),
    attributes: fc.nat(3),
    guest: fc.nat(12),
    hostSize: fc.constantFrom(0, 2 ** 20 + 1, 2 ** 24, 2 ** 53 - 1, Number.POSITIVE_INFINITY),
    capacity: fc.constantFrom(0, 31, 64, 100, 4000),
  });
  fc.assert(
    fc.property(table, options, ({ bits, words }, { guest, ...rest }) => {
      const all = { ...rest, clusterBits: bits, guestBase: guest * 2 ** bits };
      const expected = twin.decodeExtended(words, all);
      for (const { name, l2 } of others) {
        expect({ name, runs: l2.decodeExtended(words, all) }).toEqual({ name, runs: expected });
      }
    }),
    { numRuns: 250 },
  );
});
