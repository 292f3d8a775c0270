import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PAGE_BYTES, TableCache } from '../../src/image/table-cache.ts';
import { createKernel } from '../../src/kernel/kernel.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import { makeContent } from '../support/data.ts';

const FILES = [40.5, 3.01, 0.25].map((pages, i) =>
  makeContent('random', Math.floor(pages * PAGE_BYTES), i + 1),
);

describe('TableCache', () => {
  it('shows the bytes of every file at every place, however often it has to make room', async () => {
    const anyLook = fc.record({ file: fc.nat(FILES.length - 1), at: fc.nat(), late: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(fc.array(anyLook, { maxLength: 150 }), async (looks) => {
        const { arena } = createKernel();
        const cache = new TableCache(arena);
        let late = false;
        const storages = FILES.map((bytes) => {
          const memory = new MemoryStorage(bytes);
          return {
            size: memory.size,
            read: (offset: number, into: Uint8Array) =>
              late
                ? Promise.resolve().then(() => memory.read(offset, into))
                : memory.read(offset, into),
            close() {},
          };
        });
        const numbers = storages.map((storage) => cache.register(storage));
        expect(storages.map((storage) => cache.register(storage))).toEqual(numbers);
        for (const look of looks) {
          late = look.late;
          const bytes = FILES[look.file]!;
          const offset = (look.at * 8) % bytes.length;
          const pointer = await cache.pointer(numbers[look.file]!, offset);
          const pageEnd = (Math.floor(offset / PAGE_BYTES) + 1) * PAGE_BYTES;
          const wanted = new Uint8Array(pageEnd - offset);
          wanted.set(bytes.subarray(offset, pageEnd));
          expect(Buffer.compare(arena.u8.subarray(pointer, pointer + wanted.length), wanted)).toBe(
            0,
          );
        }
      }),
      { numRuns: 25 },
    );
  });

  it('reads a page again after it was forgotten', async () => {
    const { arena } = createKernel();
    const cache = new TableCache(arena);
    const storage = new MemoryStorage(new Uint8Array(100));
    const number = cache.register(storage);
    await cache.pointer(number, 8);
    storage.write(8, Uint8Array.of(7));
    expect(arena.u8[await cache.pointer(number, 8)]).toBe(0);
    cache.clear();
    expect(arena.u8[await cache.pointer(number, 8)]).toBe(7);
  });

  it('does not take for zeros what a file no longer has, and keeps nothing of a failed read', async () => {
    const { arena } = createKernel();
    const cache = new TableCache(arena);
    let fails = true;
    const bytes = makeContent('random', PAGE_BYTES);
    const storage = {
      size: bytes.length,
      read(_: number, into: Uint8Array): number {
        into.set(fails ? bytes.subarray(0, 1000) : bytes);
        return fails ? 1000 : bytes.length;
      },
      close() {},
    };
    const number = cache.register(storage);
    expect(() => cache.pointer(number, 0)).toThrow(expect.objectContaining({ code: 'TRUNCATED' }));
    fails = false;
    const pointer = await cache.pointer(number, 2000);
    expect(arena.u8[pointer]).toBe(bytes[2000]);
  });
});
