import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isQcow2Error } from '../../src/errors.ts';
import { Image } from '../../src/image/image.ts';
import { createKernel } from '../../src/kernel/kernel.ts';
import { openChain } from '../../src/node/open-image.ts';
import { type CompareOptions, compare } from '../../src/operations/compare.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { makeContent } from '../support/data.ts';
import { run, runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

const MIB = 1 << 20;
let dir: string;
let content: Uint8Array;
const qemuImg = (...args: string[]) => runOk('qemu-img', args, dir);

beforeAll(async () => {
  dir = makeTempDir('compare');
  content = makeContent('mixed', 6 * MIB, 5);
  content.fill(0, MIB, 2 * MIB);
  content.fill(0, 5 * MIB);
  writeFileSync(join(dir, 'raw'), content);
  for (const [name, ...options] of [
    ['plain'],
    ['compressed', '-c'],
    ['zstd', '-c', '-o', 'compression_type=zstd,cluster_size=16k'],
    ['small', '-o', 'cluster_size=512'],
    ['subclusters', '-o', 'extended_l2=on'],
  ] as const)
    await qemuImg('convert', '-f', 'raw', '-O', 'qcow2', ...options, 'raw', name);
  await qemuImg('create', '-q', '-f', 'qcow2', '-b', 'plain', '-F', 'qcow2', 'overlay');
}, 30_000);
afterAll(() => removeTempDir(dir));

const NAMES = ['plain', 'compressed', 'zstd', 'small', 'subclusters', 'overlay'] as const;

/** Compares two files with one kernel, the way the command line does. */
async function compareFiles(first: string, second: string, options: CompareOptions = {}) {
  const kernel = createKernel();
  const open = (name: string) =>
    openChain(join(dir, name), {
      kernel,
      sync: true,
      ...(/raw|changed/.test(name) && { format: 'raw' }),
    });
  await using a = await open(first);
  await using b = await open(second);
  return await compare(a, b, options);
}

async function codeOf(action: Promise<unknown>): Promise<string> {
  try {
    await action;
  } catch (error) {
    if (isQcow2Error(error)) return error.code;
    throw error;
  }
  return 'none';
}

describe('compare', () => {
  it.each(NAMES)('finds %s identical to its source', async (name) => {
    const same = { identical: true, sizesDiffer: false, commonBytes: 6 * MIB };
    expect(await compareFiles(name, 'raw')).toEqual(same);
    expect(await compareFiles('compressed', name)).toEqual(same);
  });

  it('finds the sector of any one byte that differs, as qemu-img does', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat(6 * MIB - 1),
        fc.integer({ min: 1, max: 255 }),
        fc.constantFrom(...NAMES),
        fc.boolean(),
        async (at, flip, name, swap) => {
          const changed = content.slice();
          changed[at]! ^= flip;
          writeFileSync(join(dir, 'changed'), changed);
          const formats = swap ? ['-F', 'raw'] : ['-f', 'raw'];
          const order: [string, string] = swap ? [name, 'changed'] : ['changed', name];
          const { difference } = await compareFiles(...order);
          expect(difference).toEqual({ kind: 'content', offset: at - (at % 512) });
          const told = await run('qemu-img', ['compare', ...formats, ...order], dir);
          expect(told.stdout).toBe(`Content mismatch at offset ${at - (at % 512)}!\n`);
        },
      ),
      { numRuns: 60 },
    );
  }, 30_000);

  it('tells the first of several differences', async () => {
    for (const places of [
      [5_900_000, 600_000, 3_000_000],
      [2_097_152, 2_097_151],
      [1_500_000, 1_500_511, 1_500_512],
    ]) {
      const changed = content.slice();
      for (const at of places) changed[at]! ^= 1;
      writeFileSync(join(dir, 'changed'), changed);
      const first = Math.min(...places);
      for (const name of NAMES)
        expect((await compareFiles(name, 'changed')).difference).toEqual({
          kind: 'content',
          offset: first - (first % 512),
        });
    }
  });

  it('reads nothing that both images find in one place', async () => {
    const kernel = createKernel();
    await using a = await openChain(join(dir, 'plain'), { kernel, sync: true });
    await using b = await openChain(join(dir, 'overlay'), { kernel, sync: true });
    const reads: number[] = [];
    const { layers } = await b.chain();
    const { dataStorage } = layers[1]!.layer;
    const read = dataStorage.read.bind(dataStorage);
    dataStorage.read = (offset, into) => {
      reads.push(into.length);
      return read(offset, into);
    };
    expect((await compare(a, b)).identical).toBe(true);
    expect(Math.max(...reads)).toBeLessThanOrEqual(65536);
    expect(reads.length).toBeLessThan(8);
  });
});

/** Images in memory, with kernels of their own, read without blocking. */
describe('compare of images that are no files', () => {
  const slow = (bytes: Uint8Array): Storage => {
    const memory = new MemoryStorage(bytes);
    return {
      size: bytes.length,
      read: async (offset, into) => {
        await new Promise((resolve) => setImmediate(resolve));
        return memory.read(offset, into);
      },
      close: () => {},
    };
  };
  const open = (bytes: Uint8Array) => Image.open(slow(bytes), { format: 'raw' });

  it('takes what is behind the end of the shorter disk for zeros', async () => {
    const long = new Uint8Array(3 * MIB);
    long.set(content.subarray(0, MIB));
    const [a, b] = [await open(long), await open(long.slice(0, MIB))];
    expect(await compare(a, b)).toEqual({ identical: true, sizesDiffer: true, commonBytes: MIB });
    const strict = await compare(b, a, { strict: true });
    expect(strict.difference).toEqual({ kind: 'size' });
    long[2 * MIB + 700] = 1;
    for (const images of [
      [a, b],
      [b, a],
    ] as const)
      expect((await compare(...images)).difference).toEqual({
        kind: 'content',
        offset: 2 * MIB + 512,
      });
  });

  it('reads qcow2 on both sides at once', async () => {
    const bytes = new Uint8Array(readFileSync(join(dir, 'compressed')));
    const image = () => Image.open(slow(bytes), { format: 'qcow2' });
    expect((await compare(await image(), await open(content))).identical).toBe(true);
    const one = await image();
    expect((await compare(one, one)).identical).toBe(true);
  });

  it('reports progress and stops when asked', async () => {
    const done: number[] = [];
    const onProgress = (at: number, total: number): void => {
      expect(total).toBe(6 * MIB);
      done.push(at);
    };
    const changed = content.slice();
    expect(
      (await compare(await open(content), await open(changed), { onProgress })).identical,
    ).toBe(true);
    expect(done.at(-1)).toBe(6 * MIB);
    expect(done.toSorted((a, b) => a - b)).toEqual(done);
    const controller = new AbortController();
    const stopping = compare(await open(content), await open(changed), {
      signal: controller.signal,
      onProgress: () => controller.abort(),
    });
    expect(await codeOf(stopping)).toBe('ABORTED');
    const { signal } = controller;
    expect(await codeOf(compare(await open(content), await open(changed), { signal }))).toBe(
      'ABORTED',
    );
  });
});

describe('compare of broken images', () => {
  /** `plain` with the L2 entry of a guest offset replaced. */
  async function withEntry(guest: number, entry: bigint): Promise<string> {
    const bytes = readFileSync(join(dir, 'plain'));
    const l1 = Number(bytes.readBigUInt64BE(40));
    const l2 = Number(bytes.readBigUInt64BE(l1) & 0x00ff_ffff_ffff_fe00n);
    bytes.writeBigUInt64BE(entry, l2 + (guest / 65536) * 8);
    writeFileSync(join(dir, 'broken'), bytes);
    return 'broken';
  }

  it('finds a difference in front of an entry that is invalid, and fails at the entry', async () => {
    const broken = await withEntry(4 * MIB, 0x8000_0000_0005_0200n);
    expect(await codeOf(compareFiles(broken, 'raw'))).toBe('BAD_ENTRY');
    expect(await codeOf(compareFiles('raw', broken, { strict: false }))).toBe('BAD_ENTRY');
    const changed = content.slice();
    changed[4 * MIB - 1]! ^= 1;
    writeFileSync(join(dir, 'changed'), changed);
    const { difference } = await compareFiles(broken, 'changed');
    expect(difference).toEqual({ kind: 'content', offset: 4 * MIB - 512 });
  });
});
