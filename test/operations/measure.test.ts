import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isQcow2Error } from '../../src/errors.ts';
import { openChain } from '../../src/node/open-image.ts';
import { type MeasureOptions, measure } from '../../src/operations/measure.ts';
import { run, runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

let dir: string;
beforeAll(() => {
  dir = makeTempDir('measure');
});
afterAll(() => removeTempDir(dir));

const shapes = fc.record({
  clusterBits: fc.integer({ min: 9, max: 21 }),
  refcountOrder: fc.integer({ min: 0, max: 6 }),
  extendedL2: fc.boolean(),
  compat: fc.constantFrom('0.10' as const, '1.1' as const),
  preallocation: fc.constantFrom('off', 'metadata', 'falloc', 'full') as fc.Arbitrary<
    'off' | 'metadata' | 'falloc' | 'full'
  >,
  backing: fc.boolean(),
});
type Shape = typeof shapes extends fc.Arbitrary<infer T> ? T : never;

/** The same options for both: ours, and as `-o`. */
function optionsOf(shape: Shape): { options: MeasureOptions; list: string } {
  const { extendedL2, compat, preallocation } = shape;
  const clusterSize = 2 ** shape.clusterBits;
  const refcountBits = 2 ** shape.refcountOrder;
  const create = { clusterSize, refcountBits, extendedL2, compat, preallocation };
  const words = [
    `cluster_size=${clusterSize}`,
    `refcount_bits=${refcountBits}`,
    `extended_l2=${extendedL2 ? 'on' : 'off'}`,
    `compat=${compat}`,
    `preallocation=${preallocation}`,
    ...(shape.backing ? ['backing_file=base', 'backing_fmt=raw'] : []),
  ];
  const backing = shape.backing ? { backingFile: 'base', backingFormat: 'raw' } : {};
  return { options: { format: 'qcow2', create: { ...create, ...backing } }, list: words.join() };
}

/** What qemu-img tells, in our words; undefined if it refuses. */
async function oracle(...args: string[]): Promise<object | undefined> {
  const { status, stdout } = await run('qemu-img', ['measure', '--output=json', ...args], dir);
  if (status !== 0) return undefined;
  const { required, 'fully-allocated': fullyAllocated, bitmaps } = JSON.parse(stdout);
  return { required, fullyAllocated, ...(bitmaps !== undefined && { bitmaps }) };
}

async function ours(measuring: Promise<object>): Promise<object | undefined> {
  try {
    return await measuring;
  } catch (error) {
    if (isQcow2Error(error)) return undefined;
    throw error;
  }
}

describe('measure', () => {
  it('of a size is what qemu-img tells, for any options', async () => {
    const sizes = fc.oneof(
      fc.integer({ min: 0, max: 2 ** 24 }),
      fc.integer({ min: 0, max: 2 ** 40 }),
      fc.integer({ min: 0, max: 2 ** 52 }),
    );
    await fc.assert(
      fc.asyncProperty(sizes, shapes, async (size, shape) => {
        const { options, list } = optionsOf(shape);
        const told = await oracle('-O', 'qcow2', '-o', list, '--size', String(size));
        expect(await ours(measure(size, options))).toEqual(told);
      }),
      { numRuns: 200 },
    );
  }, 30_000);

  it('of an image is what qemu-img tells, for any contents and options', async () => {
    const writes = fc.array(
      fc.record({
        command: fc.constantFrom('write', 'write -z', 'write -zu', 'discard', 'write -c'),
        cluster: fc.nat(255),
        clusters: fc.integer({ min: 1, max: 20 }),
      }),
      { maxLength: 6 },
    );
    const sources = fc.constantFrom('raw', 'qcow2', 'overlay', 'preallocated');
    let turn = 0;
    await fc.assert(
      fc.asyncProperty(sources, writes, fc.tuple(shapes, shapes), async (kind, list, targets) => {
        const name = `image-${turn++}`;
        const format = kind === 'raw' ? 'raw' : 'qcow2';
        const create = ['create', '-q', '-f', format];
        if (kind === 'preallocated') create.push('-o', 'preallocation=metadata');
        if (kind === 'overlay') {
          await runOk('qemu-img', ['create', '-q', '-f', 'qcow2', `${name}-base`, '900k'], dir);
          await runOk('qemu-io', ['-c', 'write 64k 200k', `${name}-base`], dir);
          create.push('-b', `${name}-base`, '-F', 'qcow2');
        }
        await runOk('qemu-img', [...create, name, '1034k'], dir);
        const io = list.flatMap(({ command, cluster, clusters }) => {
          const unit = command === 'write -c' ? 65536 : 4096;
          const at = (cluster % (((1034 * 1024) / unit) | 0)) * unit;
          const length = Math.min(clusters * unit, Math.floor((1034 * 1024 - at) / unit) * unit);
          return ['-c', `${command} ${at} ${command === 'write -c' ? unit : length}`];
        });
        // Some make no sense on some images: what is left is an image all the same.
        if (io.length > 0) await run('qemu-io', ['-f', format, ...io, name], dir);
        // What preallocated space is, data or a hole, depends on whether it was read before.
        for (const file of [name, `${name}-base`]) await run('cat', [file], dir);
        for (const shape of targets) {
          const { options, list: words } = optionsOf(shape);
          await using image = await openChain(join(dir, name), { format, sync: true });
          const told = await oracle('-f', format, '-O', 'qcow2', '-o', words, name);
          expect(await ours(measure(image, options))).toEqual(told);
        }
      }),
      { numRuns: 30 },
    );
  }, 30_000);

  it('rounds a raw image up to whole sectors', async () => {
    expect(await measure(1, { format: 'raw' })).toEqual({ required: 512, fullyAllocated: 512 });
  });

  it('refuses sizes that are none, and stops when asked', async () => {
    for (const size of [-1, 0.5, Number.NaN, 2 ** 53])
      await expect(measure(size, { format: 'raw' })).rejects.toThrow(/out of range/);
    await expect(measure(1, { format: 'qcow2', signal: AbortSignal.abort() })).rejects.toThrow(
      /aborted/,
    );
  });
});
