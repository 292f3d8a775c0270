import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BlobStorage } from '../../src/storage/blob.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';

const anyCalls = fc.array(
  fc.oneof(
    fc.record({ do: fc.constant('write' as const), at: fc.nat(300), length: fc.nat(100) }),
    fc.record({ do: fc.constant('truncate' as const), at: fc.nat(300), length: fc.constant(0) }),
    fc.record({ do: fc.constant('read' as const), at: fc.nat(500), length: fc.nat(300) }),
  ),
);

describe('MemoryStorage', () => {
  it('is what a file is: new bytes are zeros, reads are short at the end only', () => {
    fc.assert(
      fc.property(anyCalls, fc.nat(50), (calls, start) => {
        let file: number[] = new Array(start).fill(9);
        const storage = new MemoryStorage(new Uint8Array(start).fill(9));
        let value = 10;
        for (const { do: what, at, length } of calls) {
          if (what === 'truncate') {
            file = Array.from({ length: at }, (_, i) => file[i] ?? 0);
            storage.truncate(at);
          } else if (what === 'write' && length > 0) {
            value = (value % 200) + 1;
            const end = Math.max(file.length, at + length);
            file = Array.from({ length: end }, (_, i) =>
              i >= at && i < at + length ? value : (file[i] ?? 0),
            );
            storage.write(at, new Uint8Array(length).fill(value));
          } else {
            const into = new Uint8Array(length);
            const wanted = file.slice(at, at + length);
            expect(storage.read(at, into)).toBe(wanted.length);
            expect([...into.subarray(0, wanted.length)]).toEqual(wanted);
          }
          expect(storage.size).toBe(file.length);
          expect([...storage.bytes]).toEqual(file);
        }
      }),
    );
  });

  it('says what to do instead of growing without end', () => {
    expect(() => new MemoryStorage().truncate(2 ** 52)).toThrow(
      expect.objectContaining({ code: 'TOO_LARGE' }),
    );
  });
});

describe('BlobStorage', () => {
  it('reads parts, short at the end', async () => {
    const storage = new BlobStorage(new Blob([Uint8Array.of(1, 2, 3, 4, 5)]));
    const into = new Uint8Array(3);
    expect(storage.size).toBe(5);
    expect(await storage.read(1, into)).toBe(3);
    expect([...into]).toEqual([2, 3, 4]);
    expect(await storage.read(4, into)).toBe(1);
    expect(await storage.read(9, into)).toBe(0);
    expect(new BlobStorage(new File([], 'disk.img')).name).toBe('disk.img');
  });
});
