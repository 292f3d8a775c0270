import { describe, expect, it } from 'vitest';
import { Image } from '../../src/image/image.ts';
import { PLAN_LIMIT, Plan } from '../../src/image/plan.ts';
import { convert } from '../../src/operations/convert.ts';
import { createQcow2 } from '../../src/operations/create.ts';
import { map } from '../../src/operations/map.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { makeContent } from '../support/data.ts';
import { craftImage } from './crafted-image.ts';

const MIB = 1 << 20;

async function qcow2Of(bytes: Uint8Array, options: object = {}): Promise<MemoryStorage> {
  const target = new MemoryStorage();
  const source = await Image.open(new MemoryStorage(bytes), { format: 'raw' });
  await convert([source], { storage: target }, { format: 'qcow2', ...options });
  return target;
}

async function listed(image: Image): Promise<unknown[]> {
  const entries: unknown[] = [];
  for await (const entry of map(image)) entries.push(entry);
  return entries;
}

/** Says it is as long as it was, and no longer has its end. */
function cutOff(bytes: Uint8Array, length: number): Storage {
  const memory = new MemoryStorage(bytes.slice(0, length), 'cut');
  return {
    name: 'cut',
    size: bytes.length,
    read: (offset, into) => memory.read(offset, into),
    close() {},
  };
}

describe('a file that ends early', () => {
  const bytes = makeContent('random', MIB);

  it('is an error when clusters are read that it no longer has', async () => {
    const { bytes: whole } = await qcow2Of(bytes);
    const image = await Image.open(cutOff(whole, whole.length - 3 * 65536));
    const part = new Uint8Array(4096);
    await image.read(0, part);
    expect(Buffer.compare(part, bytes.subarray(0, 4096))).toBe(0);
    for (const offset of [MIB - 4096, MIB - 2 * 65536, MIB - 3 * 65536])
      await expect(image.read(offset, part)).rejects.toMatchObject({ code: 'TRUNCATED' });
  });

  it('is an error when its tables are gone', async () => {
    const { bytes: whole } = await qcow2Of(bytes, { create: { clusterSize: 512 } });
    const image = await Image.open(cutOff(whole, 70_000));
    await expect(image.read(0, new Uint8Array(MIB))).rejects.toMatchObject({ code: 'TRUNCATED' });
  });

  it('is an error when a compressed stream lost its end', async () => {
    const text = makeContent('text', MIB);
    const { bytes: whole } = await qcow2Of(text, { compress: true });
    // Opened when it was short already: sizes agree, and only the stream can tell.
    for (let lost = 600; lost < 8000; lost += 997) {
      const image = await Image.open(new MemoryStorage(whole.slice(0, whole.length - lost)));
      const into = new Uint8Array(MIB);
      await expect(image.read(0, into)).rejects.toMatchObject({ code: /BAD_DATA|TRUNCATED/ });
    }
  });

  it('is an error for raw files', async () => {
    const image = await Image.open(cutOff(bytes, MIB / 2), { format: 'raw' });
    await expect(image.read(0, new Uint8Array(MIB))).rejects.toMatchObject({ code: 'TRUNCATED' });
    await expect(image.read(MIB - 512, new Uint8Array(1))).rejects.toMatchObject({
      code: 'TRUNCATED',
    });
  });

  it('reads as zeros where only the last cluster is incomplete', async () => {
    const { bytes: whole } = await qcow2Of(bytes);
    const image = await Image.open(new MemoryStorage(whole.slice(0, whole.length - 65000)));
    const last = new Uint8Array(65536);
    await image.read(MIB - 65536, last);
    expect(last.subarray(0, 536)).toEqual(bytes.subarray(MIB - 65536, MIB - 65000));
    expect(last.subarray(536).every((byte) => byte === 0)).toBe(true);
  });
});

describe('Image', () => {
  it('refuses reads beyond the disk, and reads nothing of it', async () => {
    const image = await Image.open(await qcow2Of(makeContent('text', 5120)));
    const into = new Uint8Array(10);
    for (const offset of [-1, 5111, 0.5, Number.NaN, 2 ** 53])
      await expect(image.read(offset, into)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await image.read(5120, new Uint8Array(0));
    await image.read(5110, into);
  });

  it('goes on after a read that failed', async () => {
    const bytes = makeContent('random', MIB);
    const memory = await qcow2Of(bytes);
    let fails = false;
    const image = await Image.open({
      size: memory.size,
      async read(offset, into) {
        if (fails) throw new Error('unplugged');
        return memory.read(offset, into);
      },
      close() {},
    });
    const into = new Uint8Array(MIB);
    await image.read(0, into);
    fails = true;
    const failed = image.read(0, into);
    const alsoFailed = image.read(5, into.subarray(0, 10));
    await expect(failed).rejects.toThrow('unplugged');
    await expect(alsoFailed).rejects.toThrow('unplugged');
    fails = false;
    await image.read(0, into.fill(0));
    expect(Buffer.compare(into, bytes)).toBe(0);
  });

  it('waits for reads under way before it closes its files', async () => {
    const bytes = makeContent('random', MIB);
    const memory = await qcow2Of(bytes);
    let closed = false;
    const image = await Image.open({
      size: memory.size,
      async read(offset, into) {
        await new Promise((resolve) => setImmediate(resolve));
        expect(closed).toBe(false);
        return memory.read(offset, into);
      },
      close() {
        closed = true;
      },
    });
    const into = new Uint8Array(MIB);
    const read = image.read(0, into);
    await image.close();
    expect(closed).toBe(true);
    await read;
    expect(Buffer.compare(into, bytes)).toBe(0);
  });

  it('is converted, mapped and read at the same time without mixing them up', async () => {
    const bytes = makeContent('mixed', 2 * MIB + 5120);
    const memory = await qcow2Of(bytes, { compress: true, create: { clusterSize: 512 } });
    const image = await Image.open({
      size: memory.size,
      async read(offset, into) {
        for (let turns = offset % 5; turns >= 0; turns--) await null;
        return memory.read(offset, into);
      },
      close() {},
    });
    const targets = [0, 1].map(() => new MemoryStorage());
    const into = new Uint8Array(bytes.length);
    const entries = listed(image);
    await Promise.all([
      ...targets.map((storage) => convert([image], { storage }, { format: 'raw' })),
      image.read(0, into),
      image.read(MIB, new Uint8Array(MIB)),
    ]);
    expect(Buffer.compare(into, bytes)).toBe(0);
    for (const target of targets) expect(Buffer.compare(target.bytes, bytes)).toBe(0);
    expect(await entries).toEqual(await listed(image));
  });

  it('stops a plan within a large table, so that memory does not follow it', async () => {
    const storage = new MemoryStorage();
    const size = 8192 * 65536;
    // The data file is as long as the disk, and nothing of it is ever read.
    const data: Storage = { size, read: () => 0, write() {}, truncate() {}, close() {} };
    const options = {
      size,
      extendedL2: true,
      dataFile: 'data',
      preallocation: 'metadata' as const,
    };
    await createQcow2(storage, options, data);
    // Every other subcluster is data.
    const view = new DataView(storage.bytes.buffer);
    const l1 = Number(view.getBigUint64(40));
    for (const at of [0, 8]) {
      const table = Number(view.getBigUint64(l1 + at) & 0x00ff_ffff_ffff_fe00n);
      for (let i = 0; i < 4096; i++) view.setUint32(table + i * 16 + 12, 0x55555555);
    }
    const image = await Image.open(storage, { dataFile: data });
    const plan = new Plan();
    let calls = 0;
    for (let at = 0; at < size; calls++) {
      at = await image.map(at, size, plan);
      expect(plan.count).toBeLessThanOrEqual(PLAN_LIMIT + 4096 * 32);
    }
    expect(calls).toBe(2);
  });
});

describe('a snapshot', () => {
  /** One with a disk of 64 KiB; its entry is at the returned place of the file. */
  function withSnapshot() {
    const { bytes, header } = craftImage({
      clusterBits: 9,
      extendedL2: false,
      version: 3,
      size: 65536,
      seed: 7,
      dataFile: false,
      snapshots: 1,
      backing: undefined,
    });
    const entry = header.snapshotsOffset;
    return { bytes, view: new DataView(bytes.buffer, entry) };
  }

  it('may have a larger disk than its tables, at no cost', async () => {
    const { bytes, view } = withSnapshot();
    // Disk size: in the extra data behind the 40 bytes of the entry.
    expect(Number(view.getBigUint64(48))).toBe(65536);
    view.setBigUint64(48, 2n ** 50n);
    const image = await Image.open(new MemoryStorage(bytes), { snapshot: '1' });
    expect(image.virtualSize).toBe(2 ** 50);
    const entries = (await listed(image)) as { start: number; length: number }[];
    expect(entries.at(-1)!.length).toBeGreaterThan(2 ** 49);
  });

  it.each([
    ['at the header', 0n, 'MALFORMED'],
    ['not at a cluster', 1000n, 'MALFORMED'],
    ['past the end', 2n ** 40n, 'TRUNCATED'],
  ])('with its L1 table %s is not read', async (_, offset, code) => {
    const { bytes, view } = withSnapshot();
    view.setBigUint64(0, offset);
    const image = await Image.open(new MemoryStorage(bytes), { snapshot: '1' });
    await expect(image.read(0, new Uint8Array(512))).rejects.toMatchObject({ code });
  });
});
