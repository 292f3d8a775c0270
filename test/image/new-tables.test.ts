import { expect, it } from 'vitest';
import { geometryOf } from '../../src/format/geometry.ts';
import { NewTables } from '../../src/image/new-tables.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';

/** Tables of 2 MiB: only two are kept. */
const CLUSTER_BITS = 21;
const TABLE = 2 ** CLUSTER_BITS;
const L1 = 4096;

it('gathers entries in any order, though few tables are kept, and names each table in the L1 table', async () => {
  const geometry = geometryOf({
    clusterBits: CLUSTER_BITS,
    refcountOrder: 4,
    incompatibleFeatures: 0n,
  });
  const storage = new MemoryStorage();
  const tables = new NewTables(storage, L1, geometry);
  const offsets = [TABLE, 3 * TABLE, 5 * TABLE, 7 * TABLE];
  const expected = offsets.map(() => new Uint8Array(TABLE));
  const enter = async (l1Index: number, first: number, value: number): Promise<void> => {
    const entries = new Uint8Array(24).fill(value);
    expected[l1Index]!.set(entries, first * 8);
    await tables.enter({ l1Index, offset: offsets[l1Index]!, first, entries });
  };
  // The third displaces the first, which then is entered into again.
  for (const [index, l1Index] of [0, 1, 2, 0, 3, 1, 0, 3].entries())
    await enter(l1Index, index * 100, index + 1);
  await tables.flush();
  const read = (offset: number, length: number): Buffer =>
    Buffer.from(storage.bytes.subarray(offset, offset + length));
  offsets.forEach((offset, l1Index) => {
    expect(read(offset, TABLE).equals(expected[l1Index]!)).toBe(true);
    expect(read(L1 + l1Index * 8, 8).readBigUint64BE()).toBe((1n << 63n) | BigInt(offset));
  });
});
