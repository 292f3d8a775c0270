import { describe, expect, it } from 'vitest';
import { BITMAP_TABLE_RESERVED_MASK } from '../../src/format/bitmap-table.ts';
import {
  KNOWN_AUTOCLEAR,
  KNOWN_COMPATIBLE,
  KNOWN_INCOMPATIBLE,
} from '../../src/format/feature-bits.ts';
import { bitMask, reservedMask } from '../../src/format/fields.ts';
import { L1_COPIED, L1_OFFSET_MASK, L1_RESERVED_MASK } from '../../src/format/l1-entry.ts';
import {
  L2_COMPRESSED,
  L2_EXTENDED_RESERVED_MASK,
  L2_OFFSET_MASK,
  L2_RESERVED_MASK,
  L2_ZERO,
} from '../../src/format/l2-entry.ts';
import {
  REFCOUNT_TABLE_OFFSET_MASK,
  REFCOUNT_TABLE_RESERVED_MASK,
} from '../../src/format/refcount-entry.ts';
import { VECTORS, wordOf } from './vector.ts';

describe('masks, written out by hand', () => {
  it('L1: bit 0 is reserved', () => {
    expect(L1_OFFSET_MASK).toBe(0x00fffffffffffe00n);
    expect(L1_COPIED).toBe(0x8000000000000000n);
    expect(L1_RESERVED_MASK).toBe(0x7f000000000001ffn);
  });
  it('L2: bit 0 is the zero flag of standard entries', () => {
    expect(L2_OFFSET_MASK).toBe(0x00fffffffffffe00n);
    expect([L2_ZERO, L2_COMPRESSED]).toEqual([1n, 0x4000000000000000n]);
    expect(L2_RESERVED_MASK).toBe(0x3f000000000001fen);
    expect(L2_EXTENDED_RESERVED_MASK).toBe(0x3f000000000001ffn);
  });
  it('refcount table: the offset goes up to bit 63', () => {
    expect(REFCOUNT_TABLE_OFFSET_MASK).toBe(0xfffffffffffffe00n);
    expect(REFCOUNT_TABLE_RESERVED_MASK).toBe(0x1ffn);
  });
  it('bitmap table', () => expect(BITMAP_TABLE_RESERVED_MASK).toBe(0xff000000000001fen));
  it('known feature bits', () => {
    expect([KNOWN_INCOMPATIBLE, KNOWN_COMPATIBLE, KNOWN_AUTOCLEAR]).toEqual([31n, 1n, 3n]);
  });
  it('of a whole table and of none', () => {
    expect(bitMask([0, 63])).toBe(2n ** 64n - 1n);
    expect(reservedMask({})).toBe(2n ** 64n - 1n);
  });
});

describe('no recorded entry has a reserved bit set', () => {
  const masks: Record<string, bigint> = {
    l1_entry: L1_RESERVED_MASK,
    refcount_table_entry: REFCOUNT_TABLE_RESERVED_MASK,
    bitmap_table_entry: BITMAP_TABLE_RESERVED_MASK,
  };
  it.each(Object.entries(masks))('%s', (kind, mask) => {
    const words = VECTORS.filter((vector) => vector.kind === kind).map(wordOf);
    expect(words.length).toBeGreaterThan(0);
    expect(words.filter((word) => (word & mask) !== 0n)).toEqual([]);
  });
});
