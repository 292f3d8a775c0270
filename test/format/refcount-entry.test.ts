import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { geometryOf } from '../../src/format/geometry.ts';
import {
  decodeRefcountTableEntry,
  getRefcount,
  setRefcount,
  writeRefcountTableEntry,
} from '../../src/format/refcount-entry.ts';

const geometry = geometryOf({ clusterBits: 16, refcountOrder: 4, incompatibleFeatures: 0n });

describe('refcount table entry', () => {
  it.each([
    [0x20000n, 0x20000, 0n, undefined],
    [0x201ffn, 0x20000, 0x1ffn, undefined],
    [0x20200n, 0x20200, 0n, 'unaligned'],
    [0x8000000000020000n, 2 ** 63 + 0x20000, 0n, 'offset-too-large'],
  ])('%s', (word, blockOffset, reservedBits, invalid) => {
    expect(decodeRefcountTableEntry(word, geometry)).toEqual({
      word,
      blockOffset,
      reservedBits,
      invalid,
    });
  });
  it('refuses offsets it cannot store', () => {
    const view = new DataView(new ArrayBuffer(8));
    for (const offset of [-512, 1, 2 ** 53]) {
      expect(() => writeRefcountTableEntry(view, 0, offset)).toThrow(/cannot be stored/);
    }
  });
});

describe('counters', () => {
  it.each([
    [4, '1111821201'.slice(0, 8), 2, [1, 1, 1, 1, 2, 8, 2, 1]],
    [1, 'ff03', 0, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0]],
    [2, '555d', 1, [1, 1, 1, 1, 1, 3, 1, 1]],
  ])('of %i bits', (_, bytes, order, counters) => {
    const block = Uint8Array.from(Buffer.from(bytes, 'hex'));
    expect(counters.map((_, index) => getRefcount(block, index, order))).toEqual(counters);
  });
  it('refuses what does not fit', () => {
    const block = new Uint8Array(512);
    expect(() => setRefcount(block, 0, 0, 2)).toThrow(/1-bit counters hold 0 to 1/);
    expect(() => setRefcount(block, 0, 4, 65536)).toThrow(/hold 0 to 65535/);
    expect(() => setRefcount(block, 0, 6, 2 ** 53)).toThrow(/cannot be stored/);
    expect(() => setRefcount(block, 0, 4, -1)).toThrow(/cannot be stored/);
    expect(() => setRefcount(block, 256, 4, 1)).toThrow(/no counter 256/);
    expect(() => getRefcount(block, 4096, 0)).toThrow(/no counter 4096/);
    expect(() => getRefcount(block, 0, 7)).toThrow(/order 7/);
  });
  it('refuses to round a 64-bit counter', () => {
    const block = new Uint8Array(8).fill(0xff);
    expect(() => getRefcount(block, 0, 6)).toThrow(/counter 0 is 0xffffffffffffffff/);
  });
  it('do not disturb their neighbours, in all widths', () => {
    const order = fc.integer({ min: 0, max: 6 });
    const content = fc.uint8Array({ minLength: 64, maxLength: 64 });
    fc.assert(
      fc.property(order, content, fc.nat(), fc.maxSafeNat(), (order, block, at, value) => {
        if (order === 6) block.fill(0);
        const counters = (64 * 8) / 2 ** order;
        const index = at % counters;
        const wanted = order === 6 ? value : value % 2 ** (2 ** order);
        const all = () => Array.from({ length: counters }, (_, i) => getRefcount(block, i, order));
        const before = all();
        setRefcount(block, index, order, wanted);
        expect(all()).toEqual(before.with(index, wanted));
      }),
    );
  });
});
