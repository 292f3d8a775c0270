import { describe, expect, it } from 'vitest';
import { INCOMPATIBLE_CORRUPT, INCOMPATIBLE_DIRTY } from '../../src/format/feature-bits.ts';
import { parseHeader } from '../../src/format/header.ts';
import { Image } from '../../src/image/image.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { findingsOf, newImage, openWritable } from './writable-image.ts';

const CLUSTER = 65536;
const DATA = new Uint8Array(CLUSTER).fill(9);

function isCorrupt(storage: MemoryStorage): boolean {
  return (parseHeader(storage.bytes).incompatibleFeatures & INCOMPATIBLE_CORRUPT) !== 0n;
}

function setWord(storage: MemoryStorage, at: number, value: bigint): void {
  new DataView(storage.bytes.buffer, storage.bytes.byteOffset).setBigUint64(at, value);
}

function getWord(storage: MemoryStorage, at: number): bigint {
  return new DataView(storage.bytes.buffer, storage.bytes.byteOffset).getBigUint64(at);
}

/** A storage over memory whose members can be made to fail. */
class Faulty implements Storage {
  readonly name = 'faulty';
  readonly memory: MemoryStorage;
  failWrite: ((offset: number) => boolean) | undefined;
  failFlush = false;
  flushes = 0;

  constructor(memory: MemoryStorage) {
    this.memory = memory;
  }

  get size(): number {
    return this.memory.size;
  }

  read(offset: number, into: Uint8Array): number {
    return this.memory.read(offset, into);
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    if (this.failWrite?.(offset)) throw new Error('No space left on device');
    this.memory.write(offset, bytes);
  }

  async flush(): Promise<void> {
    this.flushes++;
    if (this.failFlush) throw new Error('Input/output error');
  }

  close(): void {}
}

describe('what cannot be written is refused when it is opened', () => {
  it('an image that is marked corrupt', async () => {
    const storage = await newImage({ size: 1 << 20 });
    setWord(storage, 72, INCOMPATIBLE_CORRUPT);
    await expect(openWritable(storage)).rejects.toMatchObject({
      code: 'READ_ONLY',
      message: expect.stringMatching(/marked corrupt.*repair/),
    });
    await (await Image.open(storage)).close();
  });

  it('an image that was not closed and cannot be repaired', async () => {
    const storage = await newImage({ size: 1 << 20, refcountBits: 1 });
    const image = await openWritable(storage);
    await image.write(0, new Uint8Array(1 << 20).fill(1));
    await image.close();
    const l1 = Number(getWord(storage, 40));
    const l2 = Number(getWord(storage, l1) & 0x00ff_ffff_ffff_fe00n);
    // Two references to a cluster, of which a counter of one bit holds one.
    setWord(storage, l2, getWord(storage, l2 + 8));
    setWord(storage, 72, INCOMPATIBLE_DIRTY);
    await expect(openWritable(storage)).rejects.toMatchObject({
      code: 'REFUSED',
      message: expect.stringMatching(/not closed, and cannot be repaired .*widen the counters/),
    });
  });

  it('a storage without write, and an image that was opened to be read', async () => {
    const { bytes } = await newImage({ size: 1 << 20 });
    const storage = { name: 'fixed', size: bytes.length, read: () => 0, close() {} };
    const reading = {
      ...storage,
      read: (at: number, into: Uint8Array) => new MemoryStorage(bytes).read(at, into),
    };
    await expect(Image.open(reading, { writable: true })).rejects.toMatchObject({
      code: 'READ_ONLY',
    });
    const image = await Image.open(bytes);
    for (const call of [
      image.write(0, DATA),
      image.discard(0, 1),
      image.writeZeroes(0, 1),
      image.flush(),
    ])
      await expect(call).rejects.toMatchObject({ code: 'READ_ONLY' });
    await image.close();
  });

  it('a range that is not on the disk', async () => {
    const image = await openWritable(await newImage({ size: 1 << 20 }));
    for (const [offset, length] of [
      [1 << 20, 1],
      [-1, 1],
      [0.5, 1],
      [2 ** 53, 1],
    ] as const)
      await expect(image.writeZeroes(offset, length)).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      });
    await image.write(1 << 20, new Uint8Array(0));
    await image.close();
  });
});

describe('autoclear bits', () => {
  it('that are unknown go before anything is written, and stay if nothing is', async () => {
    const storage = await newImage({ size: 1 << 20 });
    setWord(storage, 88, 0x8001n);
    const untouched = await openWritable(storage);
    await untouched.close();
    expect(parseHeader(storage.bytes).autoclearFeatures).toBe(0x8001n);
    const image = await openWritable(storage);
    await image.write(0, DATA);
    expect(parseHeader(storage.bytes).autoclearFeatures).toBe(0n);
    expect(image.metadata?.header.autoclearFeatures).toBe(0n);
    await image.close();
  });
});

describe('a write that would land on metadata', () => {
  // Clusters of a new image with one data cluster: header, refcount table, block, L1, L2, data.
  it.each([
    [0, 'header'],
    [1, 'refcount table'],
    [2, 'refcount block'],
    [3, 'active L1 table'],
    [4, 'L2 table'],
  ])('in place: cluster %i, the %s', async (cluster, structure) => {
    const storage = await newImage({ size: 1 << 20 });
    const before = await openWritable(storage);
    await before.write(0, DATA);
    await before.close();
    setWord(storage, 4 * CLUSTER, (1n << 63n) | BigInt(cluster * CLUSTER));
    // An entry without an offset is no reference at all.
    if (cluster === 0) setWord(storage, 4 * CLUSTER, (1n << 63n) | 1n);
    const image = await openWritable(storage);
    const write = image.write(0, DATA);
    if (cluster === 0) {
      await write;
      await image.close();
      return;
    }
    await expect(write).rejects.toMatchObject({
      code: 'BAD_ENTRY',
      message: expect.stringContaining(`would overwrite the ${structure}`),
      details: { structure },
    });
    expect(isCorrupt(storage)).toBe(true);
    await expect(image.write(CLUSTER, DATA)).rejects.toMatchObject({ code: 'BAD_ENTRY' });
    await expect(image.flush()).rejects.toMatchObject({ code: 'BAD_ENTRY' });
    await expect(image.close()).rejects.toMatchObject({ code: 'BAD_ENTRY' });
  });

  it.each([1, 2, 3, 4])('by a counter that is 0: cluster %i is not handed out', async (cluster) => {
    const storage = await newImage({ size: 1 << 20 });
    const before = await openWritable(storage);
    await before.write(0, DATA);
    await before.close();
    storage.bytes.fill(0, 2 * CLUSTER + cluster * 2, 2 * CLUSTER + cluster * 2 + 2);
    const copy = storage.bytes.slice();
    const image = await openWritable(storage);
    await expect(image.write(CLUSTER, DATA)).rejects.toMatchObject({ code: 'BAD_ENTRY' });
    expect(isCorrupt(storage)).toBe(true);
    await image.close().catch(() => {});
    // Nothing but the header has changed.
    expect(Buffer.compare(storage.bytes.subarray(80), copy.subarray(80))).toBe(0);
  });

  it('in version 2 nothing can be recorded, and nothing is written', async () => {
    const storage = await newImage({ size: 1 << 20, compat: '0.10' });
    storage.bytes.fill(0, 2 * CLUSTER + 2, 2 * CLUSTER + 8);
    const copy = storage.bytes.slice();
    const image = await openWritable(storage);
    await expect(image.write(0, DATA)).rejects.toMatchObject({ code: 'BAD_ENTRY' });
    await expect(image.write(0, DATA)).rejects.toMatchObject({ code: 'BAD_ENTRY' });
    await image.close().catch(() => {});
    expect(Buffer.compare(storage.bytes, copy)).toBe(0);
  });

  it('an entry that breaks a rule marks the image corrupt', async () => {
    for (const word of [0x50200n, (1n << 63n) | 0x51200n]) {
      const storage = await newImage({ size: 1 << 20 });
      const before = await openWritable(storage);
      await before.write(0, DATA);
      await before.close();
      setWord(storage, 4 * CLUSTER, word);
      const image = await openWritable(storage);
      await expect(image.discard(0, CLUSTER)).rejects.toMatchObject({ code: 'BAD_ENTRY' });
      expect(isCorrupt(storage)).toBe(true);
      await image.close().catch(() => {});
    }
  });
});

describe('a file that was cut off', () => {
  it.each([
    ['refcount table', CLUSTER],
    ['L1 entry', 3 * CLUSTER],
  ])('a table past its end does not pass for an empty one: %s', async (structure, at) => {
    const storage = await newImage({ size: 1 << 20 });
    const before = await openWritable(storage);
    await before.write(0, DATA);
    await before.close();
    setWord(storage, at, (at === CLUSTER ? 0n : 1n << 63n) | BigInt(100 * CLUSTER));
    const image = await openWritable(storage);
    await expect(image.write(CLUSTER, DATA)).rejects.toMatchObject({
      code: 'TRUNCATED',
      details: { structure },
    });
    await image.close();
  });
});

describe('lazy refcounts', () => {
  it('set the dirty bit before the first change of a table, and clear it when closed', async () => {
    const storage = await newImage({ size: 1 << 20, lazyRefcounts: true });
    const dirty = (): boolean =>
      (parseHeader(storage.bytes).incompatibleFeatures & INCOMPATIBLE_DIRTY) !== 0n;
    const image = await openWritable(storage, { cacheBytes: 1 << 20 });
    await image.read(0, new Uint8Array(10));
    await image.discard(0, 1 << 20);
    expect(dirty()).toBe(false);
    await image.write(0, DATA);
    await image.flush();
    expect(dirty()).toBe(true);
    // The mapping is there, the counters are not.
    expect((await findingsOf(storage)).length).toBeGreaterThan(0);
    await image.close();
    expect(dirty()).toBe(false);
    expect(await findingsOf(storage)).toEqual([]);
    const again = await openWritable(storage);
    await again.write(100, DATA.subarray(0, 100));
    await again.flush();
    expect(dirty()).toBe(false);
    await again.close();
  });
});

describe('lazy refcounts: a failed write of the dirty bit', () => {
  const dirtyBitAt = 79;
  const isDirty = ({ bytes }: MemoryStorage): boolean =>
    (parseHeader(bytes).incompatibleFeatures & INCOMPATIBLE_DIRTY) !== 0n;

  it.each([false, true])('that sets it is tried again (bit written: %s)', async (written) => {
    const memory = await newImage({ size: 1 << 20, lazyRefcounts: true });
    const storage = new Faulty(memory);
    const image = await Image.open(storage, { writable: true });
    storage.failWrite = (offset) => {
      if (written && offset === dirtyBitAt) memory.bytes[offset]! |= 1;
      return offset === dirtyBitAt;
    };
    await expect(image.write(0, DATA)).rejects.toThrow('No space left on device');
    expect(image.metadata?.header.incompatibleFeatures).toBe(0n);
    await expect(image.write(0, DATA)).rejects.toThrow('No space left on device');
    storage.failWrite = undefined;
    await image.write(0, DATA);
    await image.flush();
    expect(isDirty(memory)).toBe(true);
    await image.close();
    expect([isDirty(memory), await findingsOf(memory)]).toEqual([false, []]);
  });

  it('that set it without saying so is undone when the image is closed', async () => {
    const memory = await newImage({ size: 1 << 20, lazyRefcounts: true });
    const storage = new Faulty(memory);
    const image = await Image.open(storage, { writable: true });
    storage.failWrite = (offset) => {
      memory.bytes[dirtyBitAt]! |= 1;
      return offset === dirtyBitAt;
    };
    await expect(image.write(0, DATA)).rejects.toThrow('No space left on device');
    storage.failWrite = undefined;
    await image.close();
    expect([isDirty(memory), await findingsOf(memory)]).toEqual([false, []]);
  });

  it('that clears it leaves it set, and the error is told', async () => {
    const memory = await newImage({ size: 1 << 20, lazyRefcounts: true });
    const storage = new Faulty(memory);
    const image = await Image.open(storage, { writable: true });
    await image.write(0, DATA);
    storage.failWrite = (offset) => offset === dirtyBitAt;
    await expect(image.close()).rejects.toThrow('No space left on device');
    expect(isDirty(memory)).toBe(true);
    expect(image.metadata?.header.incompatibleFeatures).toBe(INCOMPATIBLE_DIRTY);
  });
});

describe('a storage that fails', () => {
  it('a write: that call is refused, what it took is given back, and others go on', async () => {
    const memory = await newImage({ size: 1 << 20 });
    const storage = new Faulty(memory);
    const image = await Image.open(storage, { writable: true });
    await image.write(0, DATA);
    await image.flush();
    storage.failWrite = (offset) => offset >= 6 * CLUSTER;
    await expect(image.write(CLUSTER, DATA)).rejects.toThrow('No space left on device');
    storage.failWrite = undefined;
    const read = new Uint8Array(2 * CLUSTER);
    await image.read(0, read);
    expect(read.subarray(CLUSTER).every((byte) => byte === 0)).toBe(true);
    await image.write(3 * CLUSTER, DATA);
    await image.close();
    expect(await findingsOf(memory)).toEqual([]);
    expect(memory.size).toBe(7 * CLUSTER);
  });

  it('a write of tables: they are written by a later flush', async () => {
    const memory = await newImage({ size: 1 << 20 });
    const storage = new Faulty(memory);
    const image = await Image.open(storage, { writable: true });
    await image.write(0, DATA);
    storage.failWrite = (offset) => offset < 5 * CLUSTER;
    await expect(image.flush()).rejects.toThrow('No space left on device');
    storage.failWrite = undefined;
    await image.close();
    expect(await findingsOf(memory)).toEqual([]);
  });

  it('a flush: it is final', async () => {
    const memory = await newImage({ size: 1 << 20 });
    const storage = new Faulty(memory);
    const image = await Image.open(storage, { writable: true });
    await image.write(0, DATA);
    storage.failFlush = true;
    await expect(image.flush()).rejects.toMatchObject({ code: 'IO' });
    storage.failFlush = false;
    const { flushes } = storage;
    for (const call of [
      image.write(0, DATA),
      image.discard(0, CLUSTER),
      image.flush(),
      image.close(),
    ])
      await expect(call).rejects.toMatchObject({
        code: 'IO',
        message: expect.stringMatching(/could not be made durable.*Input\/output error/),
      });
    expect(storage.flushes).toBe(flushes);
  });
});

describe('calls at the same time', () => {
  it('take turns, and each sees what those before it wrote', async () => {
    const storage = await newImage({ size: 1 << 20, clusterSize: 4096 });
    const image = await openWritable(storage);
    const seen: Promise<void>[] = [];
    for (let i = 0; i < 100; i++) {
      const bytes = new Uint8Array(3000).fill(i + 1);
      const read = new Uint8Array(3000);
      void image.write((i % 10) * 1500, bytes);
      seen.push(
        image.read((i % 10) * 1500, read).then(() => expect(Buffer.compare(read, bytes)).toBe(0)),
      );
    }
    await Promise.all(seen);
    await image.close();
    expect(await findingsOf(storage)).toEqual([]);
  });
});
