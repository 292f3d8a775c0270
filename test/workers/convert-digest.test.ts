import * as fs from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { checksum } from '../../src/node/checksum.ts';
import type { ChecksumAlgorithm } from '../../src/node/disk-digest.ts';
import { openImage } from '../../src/node/open-image.ts';
import type { ConvertFileOptions, ConvertFileResult } from '../../src/workers/convert-file.ts';
import { makeContent } from '../support/data.ts';
import { sha256File } from '../support/digest.ts';
import { RangeServer } from '../support/http-server.ts';
import { runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

const MIB = 2 ** 20;
/** Threads load the built worker, so the built package is what is tested here. */
const DIST = fileURLToPath(new URL('../../dist/', import.meta.url));
const ALGORITHMS = ['sha256', 'sha256-sparse'] as const;
const CREATE = { backingFile: 'below.qcow2', backingFormat: 'qcow2' };

let convertFile: (options: ConvertFileOptions) => Promise<ConvertFileResult>;
let dir: string;
let count = 0;
let out: string;
const at = (name: string): string => join(dir, name);

beforeAll(async () => {
  ({ convertFile } = await import(/* @vite-ignore */ join(DIST, 'node.js')));
  dir = makeTempDir('convert-digest');
  // Holes, zeros that are stored, what shrinks and what does not; it ends within a block of the tree.
  const fd = fs.openSync(at('disk.raw'), 'w');
  fs.writeSync(fd, makeContent('mixed', 9 * MIB + 512, 1), 0, null, 0);
  fs.writeSync(fd, makeContent('text', 11 * MIB, 2), 0, null, 13 * MIB);
  fs.writeSync(fd, new Uint8Array(5 * MIB), 0, null, 24 * MIB);
  fs.writeSync(fd, makeContent('random', 8 * MIB, 3), 0, null, 40 * MIB + 4096);
  fs.ftruncateSync(fd, 53 * MIB + 1536);
  fs.closeSync(fd);
  fs.writeFileSync(at('disk.raw.gz'), gzipSync(fs.readFileSync(at('disk.raw')), { level: 1 }));
  const qemu = (...args: string[]) => runOk('qemu-img', args, dir);
  const made = ['convert', '-f', 'raw', '-O', 'qcow2'];
  await qemu(...made, 'disk.raw', 'plain.qcow2');
  await qemu(...made, '-c', 'disk.raw', 'deflate.qcow2');
  await qemu(...made, 'disk.raw', 'below.qcow2');
  await qemu('create', '-q', '-f', 'qcow2', '-b', 'below.qcow2', '-F', 'qcow2', 'top.qcow2');
  await runOk('qemu-io', ['-c', 'write -P 7 20M 9M', '-c', 'write -z 2M 3M', 'top.qcow2'], dir);
  await qemu('convert', '-O', 'raw', 'top.qcow2', 'top.raw');
  await qemu('create', '-q', '-f', 'qcow2', 'empty.qcow2', '768M');
  await runOk('qemu-io', ['-c', 'write -P 9 1M 20M', '-c', 'write 256M 64k', 'empty.qcow2'], dir);
});
afterAll(() => removeTempDir(dir));
beforeEach(() => {
  out = at(`out${count++}`);
});

/** Of a raw disk, by a pass of its own. */
async function digestOf(name: string, algorithm: ChecksumAlgorithm): Promise<string> {
  if (algorithm === 'sha256') return sha256File(at(name));
  const image = await openImage(at(name), { format: 'raw' });
  const digest = await checksum(image, { algorithm });
  await image.close();
  return digest;
}

const run = (source: string, options: Partial<ConvertFileOptions>): Promise<ConvertFileResult> => {
  const settings = { targetFormat: 'raw', durable: false, ...options } as const;
  return convertFile({ inputs: [{ path: at(source) }], target: out, ...settings });
};

describe.each(ALGORITHMS)('%s, taken while converting', (algorithm) => {
  it.each<[string, string, string, Partial<ConvertFileOptions>]>([
    ['compressed to raw', 'deflate.qcow2', 'disk.raw', {}],
    ['to raw without holes', 'plain.qcow2', 'disk.raw', { sparseSize: 0 }],
    ['to qcow2', 'plain.qcow2', 'disk.raw', { targetFormat: 'qcow2' }],
    ['to compressed', 'disk.raw', 'disk.raw', { targetFormat: 'qcow2', compress: true }],
    ['a chain', 'top.qcow2', 'top.raw', {}],
    ['to an overlay', 'top.qcow2', 'top.raw', { targetFormat: 'qcow2', create: CREATE }],
    ['a packed disk', 'disk.raw.gz', 'disk.raw', { targetFormat: 'qcow2' }],
  ])('is that of the disk, on any number of threads: %s', async (_, source, raw, options) => {
    const digest = await digestOf(raw, algorithm);
    for (const threads of [1, 2, 3])
      for (const blocking of [false, true]) {
        const settings = { ...options, checksum: algorithm, threads, blocking };
        expect([threads, blocking, await run(source, settings)]).toEqual([
          threads,
          blocking,
          { digest },
        ]);
      }
  });

  it('is that of a disk at a URL', async () => {
    const names = ['plain.qcow2', 'deflate.qcow2'];
    const server = new RangeServer(
      Object.fromEntries(names.map((name) => [name, fs.readFileSync(at(name))])),
    );
    await server.open();
    const digest = await digestOf('disk.raw', algorithm);
    for (const name of names)
      for (const threads of [1, 3]) {
        const inputs = [{ path: server.url(name) }];
        expect(await run(name, { inputs, checksum: algorithm, threads })).toEqual({ digest });
      }
    await server.close();
  });

  it('is that of a range, and of a longer disk', async () => {
    const bytes = fs.readFileSync(at('disk.raw'));
    const [offset, length] = [3 * MIB + 512, 41 * MIB];
    fs.writeFileSync(at('part.raw'), bytes.subarray(offset, offset + length));
    const digest = await digestOf('part.raw', algorithm);
    const range = { offset, length };
    const common = { checksum: algorithm, threads: 2 };
    expect(await run('deflate.qcow2', { ...common, range })).toEqual({ digest });
    fs.copyFileSync(at('disk.raw'), at('longer.raw'));
    fs.truncateSync(at('longer.raw'), 200 * MIB);
    const longer = await digestOf('longer.raw', algorithm);
    const create = { size: 200 * MIB };
    expect(await run('deflate.qcow2', { ...common, create })).toEqual({ digest: longer });
  });

  it.each(['raw', 'qcow2'] as const)('is that of what overwrites a %s', async (targetFormat) => {
    const digest = await digestOf('top.raw', algorithm);
    await runOk('qemu-img', ['create', '-q', '-f', targetFormat, out, '60M'], dir);
    const options = { targetFormat, noCreate: true, checksum: algorithm, threads: 2 };
    expect(await run('top.qcow2', options)).toEqual({ digest });
  });

  it('is told before the target has its name', async () => {
    const digest = await digestOf('disk.raw', algorithm);
    const told: unknown[] = [];
    const beforePublish = async (written: object): Promise<void> => {
      told.push(written, fs.existsSync(out));
    };
    for (const source of ['plain.qcow2', 'disk.raw.gz']) {
      await run(source, { checksum: algorithm, beforePublish });
      expect(told.splice(0)).toEqual([expect.objectContaining({ format: 'raw', digest }), false]);
      fs.rmSync(out);
    }
  });

  it('ends with an error of any thread, and leaves nothing', async () => {
    fs.copyFileSync(at('deflate.qcow2'), at('broken.qcow2'));
    const fd = fs.openSync(at('broken.qcow2'), 'r+');
    fs.writeSync(fd, new Uint8Array(70_000).fill(0xff), 0, 70_000, 6 * MIB);
    fs.closeSync(fd);
    for (const threads of [1, 2, 4])
      for (const blocking of [false, true]) {
        const options = { checksum: algorithm, threads, blocking };
        await expect(run('broken.qcow2', options)).rejects.toMatchObject({ code: 'BAD_DATA' });
      }
    expect(fs.existsSync(out)).toBe(false);
  });
});

describe('zeros that no thread reads', () => {
  it.each([1, 3])(
    'are hashed while progress goes on, and can be aborted (%i)',
    async (threads) => {
      const steps: number[] = [];
      const onProgress = (done: number): void => void steps.push(done);
      const options = { checksum: 'sha256', threads, blocking: true } as const;
      const { digest } = await run('empty.qcow2', { ...options, onProgress });
      expect(digest).toBe(sha256File(out));
      expect(steps).toEqual([...steps].sort((a, b) => a - b));
      expect(steps.at(-1)).toBe(768 * MIB);
      const largest = Math.max(...steps.map((step, i) => step - (steps[i - 1] ?? 0)));
      expect(largest).toBeLessThanOrEqual(64 * MIB);
      fs.rmSync(out);
      const controller = new AbortController();
      const abort = (done: number): void => {
        if (done > 400 * MIB) controller.abort();
      };
      const { signal } = controller;
      const aborted = run('empty.qcow2', { ...options, onProgress: abort, signal });
      await expect(aborted).rejects.toMatchObject({ code: 'ABORTED' });
      expect(fs.existsSync(out)).toBe(false);
    },
    30_000,
  );
});
