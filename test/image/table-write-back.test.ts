import fc from 'fast-check';
import { expect, it } from 'vitest';
import { L1_TABLE, L2_TABLE, REFCOUNT_BLOCK, type TableKind } from '../../src/image/dirty-pages.ts';
import { PAGE_BYTES, TableCache } from '../../src/image/table-cache.ts';
import { createKernel } from '../../src/kernel/kernel.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';

const KINDS: readonly TableKind[] = [REFCOUNT_BLOCK, L2_TABLE, L1_TABLE];
const UNIT = 512;

/** A cache over a file of zeros, and what the file is to hold. */
function setUp(pages: number) {
  const file = new MemoryStorage(new Uint8Array(pages * PAGE_BYTES));
  const cache = new TableCache(createKernel().arena, 0);
  const storage = cache.register(file);
  const written: number[] = [];
  const write = (offset: number, bytes: Uint8Array): void => {
    written.push(offset, bytes.length);
    file.write(offset, bytes);
  };
  const makeRoom = async (): Promise<void> => {
    for (const kind of KINDS) await cache.writeBack(kind, write);
  };
  cache.allowWriting({ storage, unitBytes: UNIT, makeRoom });
  return { file, cache, written, write, makeRoom };
}

it('brings every change to the file, however little memory there is', async () => {
  const change = fc.record({
    unit: fc.nat(40 * 128 - 1),
    units: fc.integer({ min: 1, max: 300 }),
    value: fc.integer({ min: 0, max: 255 }),
    kind: fc.constantFrom(...KINDS),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(change, { maxLength: 80 }), async (changes) => {
      const { file, cache, makeRoom } = setUp(40);
      const model = new Uint8Array(40 * PAGE_BYTES);
      for (const { unit, units, value, kind } of changes) {
        const at = unit * UNIT;
        const bytes = new Uint8Array(Math.min(units * UNIT, model.length - at)).fill(value);
        if (value === 0) await cache.zero(at, bytes.length, kind);
        else await cache.put(at, bytes, kind);
        model.set(bytes, at);
      }
      await makeRoom();
      for (const kind of KINDS) expect(cache.isDirty(kind)).toBe(false);
      expect(Buffer.compare(file.bytes, model)).toBe(0);
    }),
    { numRuns: 40 },
  );
});

it('writes one kind at a time, whole units in order, and what changed only', async () => {
  const { cache, written, write } = setUp(4);
  await cache.put(3 * PAGE_BYTES + 512, new Uint8Array(1024).fill(1), L2_TABLE);
  await cache.put(100, new Uint8Array(8).fill(2), L1_TABLE);
  await cache.put(512, new Uint8Array(8).fill(3), L2_TABLE);
  await cache.writeBack(L2_TABLE, write);
  expect(written).toEqual([512, 512, 3 * PAGE_BYTES + 512, 1024]);
  expect([cache.isDirty(L2_TABLE), cache.isDirty(L1_TABLE)]).toEqual([false, true]);
});

it('keeps what could not be written, and forgets changes to what is no table any more', async () => {
  const { cache, written, write } = setUp(4);
  await cache.put(1024, new Uint8Array(2048).fill(1), L2_TABLE);
  const failing = (): never => {
    throw new Error('full');
  };
  await expect(cache.writeBack(L2_TABLE, failing)).rejects.toThrow('full');
  expect(cache.isDirty(L2_TABLE)).toBe(true);
  cache.dropDirty(1536, 512);
  await cache.writeBack(L2_TABLE, write);
  expect(written).toEqual([1024, 512, 2048, 1024]);
  await cache.put(0, new Uint8Array(512).fill(1), L1_TABLE);
  cache.dropDirty(0, PAGE_BYTES);
  expect(cache.isDirty(L1_TABLE)).toBe(false);
});
