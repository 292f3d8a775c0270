import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Image } from '../../src/image/image.ts';
import type { NewImageOptions } from '../../src/image/new-image.ts';
import { createKernel, type KernelBackend } from '../../src/kernel/kernel.ts';
import { convert } from '../../src/operations/convert.ts';
import type { ConvertOptions } from '../../src/operations/convert-options.ts';
import type { WritableStorage } from '../../src/operations/target.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { makeContent } from '../support/data.ts';
import { runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

const MIB = 1 << 20;
let dir: string;

beforeAll(() => {
  dir = makeTempDir('convert');
});
afterAll(() => removeTempDir(dir));

/** A disk with holes between pieces at odd places, up to a little over two chunks. */
const anyDisk = fc
  .record({
    size: fc.oneof(fc.constantFrom(0, 1, 512, 65536, 2 * MIB), fc.nat(5 * MIB)),
    pieces: fc.array(
      fc.record({
        kind: fc.constantFrom('text' as const, 'random' as const, 'mixed' as const),
        at: fc.double({ min: 0, max: 1, noNaN: true }),
        length: fc.oneof(fc.integer({ min: 1, max: 3000 }), fc.nat(400_000)),
      }),
      { maxLength: 5 },
    ),
    seed: fc.nat(),
  })
  .map(({ size, pieces, seed }) => {
    const disk = new Uint8Array(size);
    for (const { kind, at, length } of pieces) {
      const from = Math.floor(at * size);
      const part = disk.subarray(from, from + length);
      part.set(makeContent(kind, part.length, seed + from));
    }
    return disk;
  });

/** Options that go together. */
const anyTarget: fc.Arbitrary<ConvertOptions> = fc
  .record({
    bits: fc.integer({ min: 9, max: 21 }),
    old: fc.integer({ min: 0, max: 4 }),
    refcountBits: fc.constantFrom(1, 2, 4, 8, 16, 32, 64),
    extendedL2: fc.boolean(),
    lazyRefcounts: fc.boolean(),
    compressionType: fc.constantFrom('zlib' as const, 'zstd' as const),
    compress: fc.boolean(),
    data: fc.constantFrom('none', 'none', 'none', 'plain', 'raw'),
    backing: fc.integer({ min: 0, max: 3 }),
    ahead: fc.constantFrom('off', 'off', 'off', 'metadata', 'falloc', 'full'),
    larger: fc.constantFrom(0, 0, 512, 3 * MIB + 512),
    dense: fc.integer({ min: 0, max: 4 }),
  })
  .map((any) => {
    const version2 = any.old === 0;
    const dataFile = !version2 && any.data !== 'none';
    const backing = any.backing === 0 && any.data !== 'raw';
    const preallocation = any.compress || backing ? 'off' : any.ahead;
    const create: Partial<NewImageOptions> = {
      clusterSize: 2 ** any.bits,
      compat: version2 ? '0.10' : '1.1',
      ...(!version2 && {
        refcountBits: any.refcountBits,
        extendedL2: any.extendedL2 && any.bits >= 14,
        lazyRefcounts: any.lazyRefcounts,
        compressionType: any.compressionType,
      }),
      ...(dataFile && { dataFile: 'data', dataFileRaw: any.data === 'raw' }),
      ...(backing && { backingFile: 'below', backingFormat: 'raw' }),
      preallocation: preallocation as NonNullable<NewImageOptions['preallocation']>,
    };
    return {
      format: 'qcow2',
      create: create as NonNullable<ConvertOptions['create']>,
      compress: any.compress && !dataFile,
      larger: any.larger,
      ...(any.dense === 0 && { sparseSize: 0 }),
    };
  });

/** Only what the contract asks for, late, and each buffer is spoiled when the call has settled. */
function lateTarget(memory: MemoryStorage): WritableStorage {
  const late = () => new Promise<void>((resolve) => queueMicrotask(resolve));
  return {
    get size() {
      return memory.size;
    },
    async read(offset, into) {
      await late();
      return memory.read(offset, into);
    },
    async write(offset, from) {
      const length = from.length;
      await late();
      expect(from.length).toBe(length);
      memory.write(offset, from);
    },
    async truncate(size) {
      await late();
      memory.truncate(size);
    },
    close() {},
  };
}

async function readAll(image: Image): Promise<Uint8Array> {
  const bytes = new Uint8Array(image.virtualSize);
  await image.read(0, bytes);
  return bytes;
}

function padded(bytes: Uint8Array, length: number): Uint8Array {
  const longer = new Uint8Array(length);
  longer.set(bytes);
  return longer;
}

const sectors = (length: number): number => Math.ceil(length / 512) * 512;

async function openRaw(bytes: Uint8Array, backend: KernelBackend = 'wasm-simd'): Promise<Image> {
  return Image.open(new MemoryStorage(bytes), { format: 'raw', kernel: createKernel({ backend }) });
}

/** Converts and opens what came out; where it has a backing file, over bytes that must not show. */
async function roundTrip(
  disk: Uint8Array,
  options: ConvertOptions & { larger?: number },
  late: boolean,
) {
  const { larger = 0, ...settings } = options;
  const size = sectors(disk.length) + larger;
  const target = new MemoryStorage();
  const data = settings.create?.dataFile === undefined ? undefined : new MemoryStorage();
  const storages = {
    storage: late ? lateTarget(target) : target,
    ...(data && { dataStorage: late ? lateTarget(data) : data }),
  };
  const create = { ...settings.create, size };
  await convert([await openRaw(disk)], storages, { ...settings, create });
  const below = new MemoryStorage(new Uint8Array(sectors(disk.length)).fill(0xbb));
  const image = await Image.open(target, {
    resolver: ({ role }) => (role === 'data file' ? data! : below),
  });
  return { image, target, data, size };
}

describe('convert to qcow2', () => {
  it('keeps every byte, whatever the disk and the options', async () => {
    await fc.assert(
      fc.asyncProperty(anyDisk, anyTarget, fc.boolean(), async (disk, options, late) => {
        const { image, data, size } = await roundTrip(disk, options, late);
        expect(image.virtualSize).toBe(size);
        expect(Buffer.compare(await readAll(image), padded(disk, size))).toBe(0);
        if (options.create?.dataFileRaw)
          expect(Buffer.compare(data!.bytes, padded(disk, size))).toBe(0);
      }),
      { numRuns: 60 },
    );
  });

  it('makes images that qemu-img finds sound and the same', async () => {
    const noOthers = anyTarget.filter(
      ({ create }) => create?.dataFile === undefined && create?.backingFile === undefined,
    );
    const samples = fc.sample(fc.tuple(anyDisk, noOthers), { numRuns: 6, seed: 20 });
    for (const [index, [disk, options]] of samples.entries()) {
      const { target, size } = await roundTrip(disk, options, false);
      const [raw, qcow2] = [`${index}.raw`, `${index}.qcow2`];
      writeFileSync(join(dir, raw), padded(disk, size));
      writeFileSync(join(dir, qcow2), target.bytes);
      await runOk('qemu-img', ['check', '-q', '-f', 'qcow2', qcow2], dir);
      await runOk('qemu-img', ['compare', '-q', '-f', 'raw', '-F', 'qcow2', raw, qcow2], dir);
    }
  });

  it('puts several disks one behind the other, at any offset', async () => {
    const anyParts = fc.array(
      fc.oneof(fc.constantFrom(0, 512, 2 * MIB), fc.nat(MIB)).map((length) => sectors(length)),
      { minLength: 1, maxLength: 5 },
    );
    await fc.assert(
      fc.asyncProperty(anyParts, fc.boolean(), fc.boolean(), async (lengths, compress, toRaw) => {
        const disks = lengths.map((length, i) =>
          makeContent(i % 2 ? 'mixed' : 'text', length, i + 1),
        );
        const images = await Promise.all(
          disks.map(async (disk, i) => {
            if (i % 2 === 0) return openRaw(disk, 'js');
            const { image } = await roundTrip(disk, { format: 'qcow2', compress }, false);
            return image;
          }),
        );
        const target = new MemoryStorage();
        const format = toRaw ? 'raw' : 'qcow2';
        await convert(images, { storage: target }, { format, compress: compress && !toRaw });
        const whole = await readAll(await Image.open(target, { format }));
        expect(Buffer.compare(whole, Buffer.concat(disks))).toBe(0);
      }),
      { numRuns: 25 },
    );
  });

  it('writes the same bytes whatever the kernel and the storage', async () => {
    const disk = makeContent('mixed', 3 * MIB + 1000);
    const create = { clusterSize: 1024, refcountBits: 4 };
    const results = await Promise.all(
      (['wasm-simd', 'wasm', 'js'] as const).map(async (backend, i) => {
        const target = new MemoryStorage();
        const storage = i === 1 ? lateTarget(target) : target;
        const kernel = createKernel({ backend });
        const options = { format: 'qcow2' as const, compress: true, create };
        await convert([await openRaw(disk, backend)], storage, { ...options, kernel });
        return Buffer.from(target.bytes);
      }),
    );
    expect(results[1]!.equals(results[0]!)).toBe(true);
    expect(results[2]!.equals(results[0]!)).toBe(true);
  });
});

describe('convert over a backing file', () => {
  /** An overlay whose clusters are smaller, or larger, than those of the target. */
  async function overlay(below: Uint8Array, own: Uint8Array, clusterSize: number): Promise<Image> {
    const target = new MemoryStorage();
    const create = { clusterSize, size: 4 * MIB };
    await convert([await openRaw(own)], { storage: target }, { format: 'qcow2', create });
    // The same tables, with a backing file: what was not written is left to it.
    const header = new DataView(target.bytes.buffer, 0, 1024);
    header.setBigUint64(8, 1000n);
    header.setUint32(16, 5);
    target.write(1000, Buffer.from('below'));
    const file = { format: 'raw' as const, source: new MemoryStorage(below) };
    return Image.open(target, { backingFile: file });
  }

  it.each([4096, 65536, 1 << 20])(
    'copies own clusters only, from clusters of %d bytes',
    async (clusterSize) => {
      const below = makeContent('random', 3 * MIB, 5);
      const own = new Uint8Array(4 * MIB);
      own.set(makeContent('random', 5000, 6), MIB + 65536 * 3 + 4096);
      own.set(makeContent('random', 5000, 7), 3 * MIB + 512);
      const source = await overlay(below, own, clusterSize);
      const wanted = await readAll(source);
      for (const extendedL2 of [false, true]) {
        const target = new MemoryStorage();
        const create = { extendedL2, backingFile: 'below', backingFormat: 'raw' };
        await convert([source], { storage: target }, { format: 'qcow2', create });
        expect(target.size).toBeLessThan(2 * MIB);
        const resolver = () => new MemoryStorage(below);
        expect(Buffer.compare(await readAll(await Image.open(target, { resolver })), wanted)).toBe(
          0,
        );
      }
    },
  );
});

describe('convert to raw', () => {
  it('keeps every byte, and skips zeros of the length asked for', async () => {
    const anySparse = fc.constantFrom(undefined, 0, 512, 4096, 8192, 65536, MIB);
    await fc.assert(
      fc.asyncProperty(anyDisk, anySparse, async (disk, sparseSize) => {
        const memory = new MemoryStorage();
        let written = 0;
        const storage: WritableStorage = {
          get size() {
            return memory.size;
          },
          read: (offset, into) => memory.read(offset, into),
          write(offset, from) {
            written += from.length;
            memory.write(offset, from);
          },
          truncate: (size) => memory.truncate(size),
          close() {},
        };
        const options = { format: 'raw' as const, ...(sparseSize !== undefined && { sparseSize }) };
        await convert([await openRaw(disk)], { storage }, options);
        const length = sectors(disk.length);
        expect(Buffer.compare(memory.bytes, padded(disk, length))).toBe(0);
        if (sparseSize === 0) expect(written).toBe(length);
        else if (disk.every((byte) => byte === 0)) expect(written).toBe(0);
      }),
      { numRuns: 50 },
    );
  });

  it('replaces what an existing target holds, and nothing behind it', async () => {
    const disk = padded(makeContent('text', 700_000), 3 * MIB);
    const target = new MemoryStorage(new Uint8Array(4 * MIB).fill(7));
    await convert([await openRaw(disk)], { storage: target }, { format: 'raw', overwrite: true });
    expect(Buffer.compare(target.bytes.subarray(0, 3 * MIB), disk)).toBe(0);
    expect(target.bytes.subarray(3 * MIB).every((byte) => byte === 7)).toBe(true);
  });

  it.each([
    ['in chunks and between them', undefined, 0],
    ['none where all zeros are to be stored', 0, 9 * MIB],
  ])('makes holes in an existing target: %s', async (_, sparseSize, stored) => {
    const disk = new Uint8Array(9 * MIB);
    for (const offset of [3 * MIB + 512, 5 * MIB, 5 * MIB + 65536])
      disk.fill(9, offset, offset + 100);
    const memory = new MemoryStorage(new Uint8Array(10 * MIB).fill(7));
    const holes: [number, number][] = [];
    let written = 0;
    const storage = {
      get size() {
        return memory.size;
      },
      read: (offset: number, into: Uint8Array) => memory.read(offset, into),
      write(offset: number, from: Uint8Array) {
        written += from.length;
        memory.write(offset, from);
      },
      async punchHole(offset: number, length: number) {
        holes.push([offset, length]);
        memory.write(offset, new Uint8Array(length));
      },
      truncate: (size: number) => memory.truncate(size),
      close() {},
    };
    const options = {
      format: 'raw',
      overwrite: true,
      ...(sparseSize === 0 && { sparseSize }),
    } as const;
    await convert([await openRaw(disk)], { storage }, options);
    expect(Buffer.compare(memory.bytes.subarray(0, 9 * MIB), disk)).toBe(0);
    expect(memory.bytes.subarray(9 * MIB).every((byte) => byte === 7)).toBe(true);
    expect(written).toBe(stored || 3 * 4096);
    expect(holes.reduce((sum, [, length]) => sum + length, 0)).toBe(9 * MIB - written);
  });
});

describe('convert refuses', () => {
  it.each<[string, ConvertOptions, string]>([
    ['a smaller qcow2 target', { format: 'qcow2', create: { size: 512 } }, 'INVALID_ARGUMENT'],
    ['a smaller raw target', { format: 'raw', create: { size: 512 } }, 'INVALID_ARGUMENT'],
    ['raw and compressed', { format: 'raw', compress: true }, 'REFUSED'],
    [
      'a data file without its storage',
      { format: 'qcow2', create: { dataFile: 'd' } },
      'INVALID_ARGUMENT',
    ],
    [
      'compressing what is laid out',
      { format: 'qcow2', compress: true, create: { preallocation: 'metadata' } },
      'REFUSED',
    ],
  ])('%s', async (_, options, code) => {
    const target = new MemoryStorage();
    const images = [await openRaw(new Uint8Array(MIB))];
    await expect(convert(images, { storage: target }, options)).rejects.toMatchObject({ code });
    expect(target.size).toBe(0);
  });

  it('a storage for a data file without its name', async () => {
    const [storage, dataStorage] = [new MemoryStorage(), new MemoryStorage()];
    const images = [await openRaw(new Uint8Array(MIB))];
    const failing = convert(images, { storage, dataStorage }, { format: 'qcow2' });
    await expect(failing).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });
});

describe('a conversion that fails', () => {
  const disk = makeContent('mixed', 5 * MIB);

  it('tells the error of whichever write fails, and no image is there', async () => {
    let total = 0;
    const counting = new MemoryStorage();
    const write = counting.write.bind(counting);
    counting.write = (offset, from) => {
      total++;
      write(offset, from);
    };
    const options = { format: 'qcow2' as const, create: { clusterSize: 4096 } };
    await convert([await openRaw(disk)], { storage: counting }, options);
    for (let failing = 0; failing < total; failing += 1 + Math.floor(total / 40)) {
      const target = new MemoryStorage();
      const before = target.write.bind(target);
      let calls = 0;
      target.write = (offset, from) => {
        if (calls++ === failing) throw new Error('disk full');
        before(offset, from);
      };
      const late = failing % 2 === 0 ? lateTarget(target) : target;
      const failed = convert([await openRaw(disk)], { storage: late }, options);
      await expect(failed).rejects.toThrow('disk full');
      // The header is written last: nobody takes this for an image.
      await expect(Image.open(target, { format: 'qcow2' })).rejects.toMatchObject({
        code: 'NOT_QCOW2',
      });
    }
  });

  it('tells the error of whichever read fails', async () => {
    for (let failing = 0; failing < 4; failing++) {
      const memory = new MemoryStorage(disk);
      let calls = 0;
      const storage: Storage = {
        size: disk.length,
        async read(offset, into) {
          if (calls++ === failing) throw new Error('bad sector');
          return memory.read(offset, into);
        },
        close() {},
      };
      const images = [await Image.open(storage, { format: 'raw' })];
      const target = { storage: new MemoryStorage() };
      const failed = convert(images, target, { format: 'qcow2' });
      if (failing < 3) await expect(failed).rejects.toThrow('bad sector');
      else await failed;
    }
  });

  it('stops between two chunks when it is aborted', async () => {
    for (const after of [0, 1, 2, 3]) {
      const controller = new AbortController();
      if (after === 0) controller.abort();
      let calls = 0;
      const control = {
        signal: controller.signal,
        onProgress: () => {
          if (++calls === after) controller.abort();
        },
      };
      const target = new MemoryStorage();
      const aborted = convert([await openRaw(disk)], target, { format: 'qcow2', ...control });
      await expect(aborted).rejects.toMatchObject({ code: 'ABORTED' });
      expect(calls).toBe(after);
      expect(target.bytes.subarray(0, 4).every((byte) => byte === 0)).toBe(true);
      if (after === 0) expect(target.size).toBe(0);
    }
  });
});
