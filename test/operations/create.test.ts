import { describe, expect, it } from 'vitest';
import { Image } from '../../src/image/image.ts';
import { convert } from '../../src/operations/convert.ts';
import { createQcow2, createRaw } from '../../src/operations/create.ts';
import { map } from '../../src/operations/map.ts';
import type { WritableStorage } from '../../src/operations/target.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import type { Storage } from '../../src/storage/storage.ts';

const MIB = 1 << 20;
const PIB = 2 ** 50;

describe('createQcow2', () => {
  it.each([0, 512, 513, 65536, PIB])('makes an empty disk of %d bytes', async (size) => {
    const storage = new MemoryStorage();
    await createQcow2(storage, { size });
    const image = await Image.open(storage);
    expect(image.virtualSize).toBe(Math.ceil(size / 512) * 512);
    expect(storage.size).toBeLessThan(20 * MIB);
    if (size > 0) {
      const into = Uint8Array.of(1, 2, 3);
      await image.read(image.virtualSize - 3, into);
      expect([...into]).toEqual([0, 0, 0]);
    }
  });

  it('reserves space for a data file alone when there is one', async () => {
    const [storage, data] = [new MemoryStorage(), new MemoryStorage()];
    const options = { size: 3 * MIB, dataFile: 'data', preallocation: 'full' as const };
    await createQcow2(storage, options, data);
    expect(data.size).toBe(3 * MIB);
    expect(storage.size).toBeLessThan(MIB);
  });

  it('refuses a data file without storage and the reverse', async () => {
    const storage = new MemoryStorage();
    for (const [options, data] of [
      [{ size: MIB, dataFile: 'data' }, undefined],
      [{ size: MIB }, new MemoryStorage()],
    ] as const)
      await expect(createQcow2(storage, options, data)).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      });
    expect(storage.size).toBe(0);
  });
});

describe('createRaw', () => {
  it('has whole sectors', async () => {
    const storage = new MemoryStorage();
    await createRaw(storage, 513, 'full');
    expect(storage.size).toBe(1024);
    for (const size of [-1, Number.NaN, 2 ** 53])
      await expect(createRaw(storage, size)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await expect(createRaw(storage, 1024, 'metadata')).rejects.toThrow('Unsupported preallocation');
  });
});

/** Takes everything and keeps nothing. */
function nowhere(): WritableStorage & { written: number } {
  return {
    size: 0,
    written: 0,
    read: () => 0,
    write(_, from) {
      this.written += from.length;
    },
    truncate() {},
    close() {},
  };
}

describe('huge empty disks', () => {
  it('of 1 PiB are mapped and converted in a moment', async () => {
    const storage = new MemoryStorage();
    await createQcow2(storage, { size: PIB });
    const image = await Image.open(storage);
    const entries = [];
    for await (const entry of map(image)) entries.push(entry);
    expect(entries).toEqual([
      {
        start: 0,
        length: PIB,
        depth: 0,
        present: false,
        zero: true,
        data: false,
        compressed: false,
      },
    ]);
    const target = nowhere();
    const began = performance.now();
    await convert([image], { storage: target }, { format: 'raw' });
    expect(target.written).toBe(0);
    expect(performance.now() - began).toBeLessThan(10_000);
  });

  it('of 64 GiB with little data need little memory', async () => {
    const GIB = 2 ** 30;
    const source: Storage = {
      size: 64 * GIB,
      // A page of data each 64 MiB.
      read(_, into) {
        into.fill(1);
        return into.length;
      },
      extents(offset, length) {
        const extents = [];
        for (let at = offset; at < offset + length && extents.length < 1000; ) {
          const data = at % (64 * MIB) < 4096;
          const end = Math.min(
            offset + length,
            Math.floor(at / (64 * MIB)) * 64 * MIB + (data ? 4096 : 64 * MIB),
          );
          extents.push({ offset: at, length: end - at, data });
          at = end;
        }
        return extents;
      },
      close() {},
    };
    const image = await Image.open(source, { format: 'raw' });
    const before = process.memoryUsage().rss;
    let most = 0;
    const control = {
      onProgress: () => {
        most = Math.max(most, process.memoryUsage().rss - before);
      },
    };
    const target = nowhere();
    await convert(image, target, { format: 'qcow2', ...control });
    expect(target.written).toBeGreaterThan(1024 * 65536);
    expect(most).toBeLessThan(150 * MIB);
  });
});
