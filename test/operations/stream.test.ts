import { createWriteStream, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ReadableStream as NodeStream } from 'node:stream/web';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Image } from '../../src/image/image.ts';
import { check } from '../../src/operations/check.ts';
import { convert } from '../../src/operations/convert.ts';
import { create } from '../../src/operations/create.ts';
import { measure } from '../../src/operations/measure.ts';
import { type ReadableOptions, toReadable } from '../../src/operations/stream.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { makeContent } from '../support/data.ts';
import { runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

const MIB = 1 << 20;
/** Of a disk that reaches over the end of its backing file. */
const SECTORS = 2500;
let dir: string;

beforeAll(() => {
  dir = makeTempDir('stream');
});
afterAll(() => removeTempDir(dir));

/** A disk with holes between pieces at odd places. */
const anyDisk = fc
  .record({
    size: fc.oneof(fc.constantFrom(0, 512, 65536, 2 * MIB), fc.nat(5 * MIB)),
    pieces: fc.array(
      fc.record({
        kind: fc.constantFrom('text' as const, 'random' as const, 'mixed' as const),
        at: fc.double({ min: 0, max: 1, noNaN: true }),
        length: fc.oneof(fc.integer({ min: 1, max: 3000 }), fc.nat(600_000)),
      }),
      { maxLength: 6 },
    ),
    seed: fc.nat(),
  })
  .map(({ size, pieces, seed }) => {
    const disk = new Uint8Array(Math.ceil(size / 512) * 512);
    for (const { kind, at, length } of pieces) {
      const from = Math.floor(at * size);
      const part = disk.subarray(from, from + length);
      part.set(makeContent(kind, part.length, seed + from));
    }
    return disk;
  });

const anyTarget: fc.Arbitrary<ReadableOptions & { format: 'qcow2' }> = fc
  .record({
    bits: fc.integer({ min: 9, max: 21 }),
    old: fc.integer({ min: 0, max: 4 }),
    refcountBits: fc.constantFrom(1, 2, 4, 8, 16, 32, 64),
    extendedL2: fc.boolean(),
    compressionType: fc.constantFrom('zlib' as const, 'zstd' as const),
    compress: fc.boolean(),
    zeros: fc.constantFrom(
      'mapped' as const,
      'mapped' as const,
      'found' as const,
      'stored' as const,
    ),
  })
  .map(({ bits, old, zeros, compress, ...any }) => ({
    format: 'qcow2',
    compress,
    zeros,
    create: {
      clusterSize: 2 ** bits,
      compat: old === 0 ? '0.10' : '1.1',
      ...(old !== 0 && { ...any, extendedL2: any.extendedL2 && bits >= 14 }),
    },
  }));

/** All bytes of a stream, as many as it said. */
async function gather(image: Image, options: ReadableOptions): Promise<Uint8Array> {
  const { length, stream } = await toReadable(image, options);
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  expect(bytes.length).toBe(length);
  return bytes;
}

async function diskOf(bytes: Uint8Array, below?: Uint8Array): Promise<Uint8Array> {
  const given = below && { backingFile: { source: below, format: 'raw' as const } };
  const image = await Image.open(bytes, { ...given });
  const disk = new Uint8Array(image.virtualSize);
  await image.read(0, disk);
  await image.close();
  return disk;
}

async function expectClean(bytes: Uint8Array, below?: Uint8Array): Promise<void> {
  const given = below && { backingFile: { source: below, format: 'raw' as const } };
  const image = await Image.open(bytes, { ...given });
  const { findings, corruptions, leaks } = await check(image);
  expect({ findings, corruptions, leaks }).toEqual({ findings: [], corruptions: 0, leaks: 0 });
  await image.close();
}

/** A qcow2 image of the disk, so that there are holes. */
async function sparse(disk: Uint8Array): Promise<Image> {
  const target = new MemoryStorage();
  const raw = await Image.open(disk, { format: 'raw' });
  await convert(raw, target, { format: 'qcow2', create: { clusterSize: 4096 } });
  return Image.open(target);
}

describe('an image as a stream', () => {
  it('is the same disk, clean, and as long as it said', async () => {
    await fc.assert(
      fc.asyncProperty(anyDisk, anyTarget, fc.boolean(), async (disk, target, isSparse) => {
        const image = isSparse ? await sparse(disk) : await Image.open(disk, { format: 'raw' });
        const bytes = await gather(image, target);
        expect(Buffer.compare(await diskOf(bytes), disk)).toBe(0);
        await expectClean(bytes);
        if (target.zeros !== 'stored') {
          const { required } = await measure(image, {
            format: 'qcow2',
            create: target.create ?? {},
          });
          expect(bytes.length).toBeLessThanOrEqual(required + lostToAlignment(target, disk.length));
        }
        await image.close();
      }),
      { numRuns: 60 },
    );
  });

  it('takes exactly what measure says where every L2 table is needed', async () => {
    const disk = makeContent('random', 5 * MIB + 512, 3);
    const image = await Image.open(disk, { format: 'raw' });
    for (const clusterSize of [512, 4096, 65536, 2 * MIB]) {
      const { required } = await measure(image, { format: 'qcow2', create: { clusterSize } });
      const { length } = await toReadable(image, { format: 'qcow2', create: { clusterSize } });
      expect(length, `${clusterSize}`).toBe(required);
    }
    expect((await toReadable(image, { format: 'raw' })).length).toBe(disk.length);
  });

  it('leaves to the backing file what the source leaves to its own, or copies it', async () => {
    const below = makeContent('mixed', MIB, 8);
    const other = new Uint8Array(2 * MIB).fill(7);
    const overlay = { backingFile: 'below', backingFormat: 'raw' };
    const change = fc.record({
      at: fc.nat(SECTORS - 1),
      sectors: fc.integer({ min: 1, max: 300 }),
      kind: fc.constantFrom('text' as const, 'random' as const, 'zero' as const),
    });
    const changes = fc.array(change, { maxLength: 10 });
    const sourceBits = fc.constantFrom(9, 12, 16);
    await fc.assert(
      fc.asyncProperty(changes, sourceBits, anyTarget, async (made, bits, target) => {
        const storage = new MemoryStorage();
        const size = SECTORS * 512;
        await create(storage, { format: 'qcow2', size, clusterSize: 2 ** bits, ...overlay });
        const backingFile = { source: below, format: 'raw' as const };
        const image = await Image.open(storage, { backingFile, writable: true });
        for (const { at, sectors, kind } of made) {
          const length = Math.min(sectors, SECTORS - at) * 512;
          if (kind === 'zero') await image.writeZeroes(at * 512, length);
          else await image.write(at * 512, makeContent(kind, length, at));
        }
        const disk = new Uint8Array(size);
        await image.read(0, disk);
        const options = { ...target, create: { ...target.create, ...overlay } };
        const bytes = await gather(image, options);
        expect(Buffer.compare(await diskOf(bytes, below), disk)).toBe(0);
        await expectClean(bytes, below);
        const all = await gather(image, { ...options, copyBacking: true });
        expect(Buffer.compare(await diskOf(all, other), disk)).toBe(0);
        await expectClean(all, other);
        await image.close();
      }),
      { numRuns: 60 },
    );
  });

  it('is small where little was changed', async () => {
    const storage = new MemoryStorage();
    const overlay = { backingFile: 'below', backingFormat: 'raw' };
    await create(storage, { format: 'qcow2', size: 3 * MIB, ...overlay });
    const backingFile = { source: makeContent('text', 3 * MIB, 8), format: 'raw' as const };
    const image = await Image.open(storage, { backingFile, writable: true });
    await image.write(70_000, makeContent('random', 9000, 4));
    for (const compress of [false, true]) {
      const { length } = await toReadable(image, { format: 'qcow2', create: overlay, compress });
      expect(length).toBeLessThanOrEqual(6 * 65536);
    }
  });

  it('is what qemu-img calls clean and the same', async () => {
    const disk = new Uint8Array(40 * MIB + 1536);
    disk.set(makeContent('mixed', 17 * MIB, 1), 3 * MIB);
    disk.set(makeContent('random', 5 * MIB, 2), 30 * MIB + 700);
    const raw = join(dir, 'disk.raw');
    writeFileSync(raw, disk);
    const cases: [string, ReadableOptions][] = [
      ['plain', { format: 'qcow2' }],
      ['found', { format: 'qcow2', zeros: 'found', create: { clusterSize: 4096 } }],
      ['extended', { format: 'qcow2', create: { extendedL2: true } }],
      ['deflate', { format: 'qcow2', compress: true }],
      [
        'blocks',
        { format: 'qcow2', compress: true, create: { clusterSize: 512, refcountBits: 64 } },
      ],
      ['one', { format: 'qcow2', compress: true, create: { clusterSize: 4096, refcountBits: 1 } }],
      ['old', { format: 'qcow2', compress: true, create: { clusterSize: 1024, compat: '0.10' } }],
      [
        'zstd',
        { format: 'qcow2', compress: true, create: { compressionType: 'zstd', extendedL2: true } },
      ],
      ['raw', { format: 'raw' }],
    ];
    for (const [name, options] of cases) {
      const image = await Image.open(disk, { format: 'raw' });
      const path = join(dir, name);
      const { stream } = await toReadable(image, options);
      await pipeline(Readable.fromWeb(stream as NodeStream), createWriteStream(path));
      const { format } = options;
      if (format === 'qcow2') await runOk('qemu-img', ['check', '-q', '-f', format, path], dir);
      await runOk('qemu-img', ['compare', '-f', format, '-F', 'raw', path, raw], dir);
    }
  });
});

/** Of a compressed image: streams do not share a cluster with what lies behind them. */
function lostToAlignment({ compress, create }: ReadableOptions, size: number): number {
  if (!compress) return 0;
  const clusterSize = create?.clusterSize ?? 65536;
  // A refcount table for the worst case, and its last block.
  return clusterSize * 3 + size / 64;
}

describe('a stream that cannot be', () => {
  const bytes = makeContent('text', 6 * MIB, 6);

  it('is refused before anything is read', async () => {
    const image = await Image.open(bytes, { format: 'raw' });
    const refused = (options: ReadableOptions) => expect(toReadable(image, options)).rejects;
    await refused({ format: 'raw', compress: true }).toMatchObject({ code: 'REFUSED' });
    const create = { dataFile: 'data' } as object;
    await refused({ format: 'qcow2', create }).toMatchObject({ code: 'REFUSED' });
    const ahead = { preallocation: 'full' } as object;
    await refused({ format: 'qcow2', create: ahead }).toMatchObject({ code: 'REFUSED' });
    const small = { clusterSize: 700 };
    await refused({ format: 'qcow2', create: small }).toMatchObject({ code: 'INVALID_ARGUMENT' });
    const signal = AbortSignal.abort();
    await refused({ format: 'qcow2', signal }).toMatchObject({ code: 'ABORTED' });
  });

  it('fails midway when it is aborted or reading fails, and stops when nobody reads on', async () => {
    for (const compress of [false, true]) {
      let reads = 0;
      let fails = false;
      const storage: Storage = {
        size: bytes.length,
        read(offset, into) {
          reads++;
          if (fails) throw new Error('gone');
          into.set(bytes.subarray(offset, offset + into.length));
          return Math.min(into.length, bytes.length - offset);
        },
        close() {},
      };
      const image = await Image.open(storage, { format: 'raw' });
      const abort = new AbortController();
      const options = { format: 'qcow2', compress, signal: abort.signal } as const;
      const aborted = (await toReadable(image, options)).stream.getReader();
      await aborted.read();
      abort.abort();
      await expect(readAll(aborted)).rejects.toMatchObject({ code: 'ABORTED' });
      const broken = (await toReadable(image, { format: 'qcow2', compress })).stream.getReader();
      await broken.read();
      fails = true;
      await expect(readAll(broken)).rejects.toThrow('gone');
      fails = false;
      const left = (await toReadable(image, { format: 'qcow2', compress })).stream.getReader();
      await left.read();
      await left.cancel();
      const before = reads;
      await new Promise((resolve) => setTimeout(resolve, 20));
      expect(reads).toBe(before);
    }
  });

  it('fails when the source has changed between two readings', async () => {
    const changing = bytes.slice();
    const image = await Image.open(changing, { format: 'raw' });
    const { stream } = await toReadable(image, { format: 'qcow2', compress: true });
    changing.set(makeContent('random', 2 * MIB, 77), 2 * MIB);
    await expect(readAll(stream.getReader())).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringContaining('the source has changed'),
    });
  });

  it('tells its progress to the end', async () => {
    for (const options of [{}, { compress: true }, { zeros: 'found' as const }]) {
      const seen: number[] = [];
      const image = await Image.open(bytes, { format: 'raw' });
      await gather(image, {
        format: 'qcow2',
        ...options,
        onProgress: (done, total) => void seen.push(done / total),
      });
      expect(seen).toEqual([...seen].sort((a, b) => a - b));
      expect(seen.at(-1)).toBe(1);
    }
  });
});

async function readAll(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<void> {
  while (!(await reader.read()).done);
}
