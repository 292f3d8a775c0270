import { describe, expect, it } from 'vitest';
import { Image } from '../../src/image/image.ts';
import type { NewImageOptions } from '../../src/image/new-image.ts';
import { convert } from '../../src/operations/convert.ts';
import { create } from '../../src/operations/create.ts';
import { makeContent } from '../support/data.ts';
import { type Bench, type CrashCase, crash, crashWithFaults } from './crash-case.ts';
import { GuestModel } from './guest-model.ts';

/*
 * What a new image promises. `create` and `convert` write into a storage that is not an image before
 * they have ended: the header comes last, its first sector last of all. A process that is killed in
 * between leaves what does not open as qcow2, or the whole image. A power cut may leave anything: the
 * caller flushes, and only then gives the file its name (as `createFile` and `convertFile` do); from
 * that flush on everything is there.
 */

const SIZE = 300 * 1024;

interface NewImage {
  name: string;
  options: Omit<NewImageOptions, 'size'>;
  compress?: boolean;
}

const PREALLOCATED = (['metadata', 'falloc', 'full'] as const).map((preallocation) => ({
  name: `preallocation=${preallocation}`,
  options: { preallocation, clusterSize: 4096 },
}));

const CREATED: readonly NewImage[] = [
  { name: 'plain', options: {} },
  { name: 'small clusters', options: { clusterSize: 512 } },
  ...PREALLOCATED,
  { name: 'version 2', options: { compat: '0.10' } },
  { name: 'extended L2', options: { extendedL2: true, preallocation: 'metadata' } },
  { name: 'data file', options: { dataFile: 'data' } },
  { name: 'raw data file', options: { dataFile: 'data', dataFileRaw: true } },
  { name: 'long names', options: { backingFile: 'b'.repeat(900), backingFormat: 'raw' } },
];

const CONVERTED: readonly NewImage[] = [
  { name: 'plain', options: { clusterSize: 4096 } },
  { name: '512-byte clusters', options: { clusterSize: 512, refcountBits: 64 } },
  { name: 'compressed', options: { clusterSize: 4096 }, compress: true },
  { name: 'zstd', options: { compressionType: 'zstd' }, compress: true },
  { name: 'extended L2', options: { extendedL2: true } },
  { name: 'preallocated', options: { clusterSize: 4096, preallocation: 'full' } },
  { name: 'data file', options: { dataFile: 'data' } },
];

/** Zeros, text and random bytes by turns. */
const CONTENT = makeContent('mixed', SIZE);

type Write = (bench: Bench, target: NewImage) => Promise<void>;

const creating: Write = (bench, { options }) =>
  create(targetOf(bench, options), { ...options, format: 'qcow2', size: SIZE });

const converting: Write = async (bench, { options, compress = false }) => {
  const source = await Image.open(CONTENT.slice(), { format: 'raw' });
  await convert(source, targetOf(bench, options), { format: 'qcow2', create: options, compress });
  await source.close();
};

function targetOf(bench: Bench, { dataFile }: Pick<NewImageOptions, 'dataFile'>) {
  const storage = bench.storage('image');
  return dataFile === undefined ? storage : { storage, dataStorage: bench.storage(dataFile) };
}

/** Writes a new image and flushes it. A `power` cut is made only once it is durable. */
function newImageCase(
  target: NewImage,
  write: Write,
  content: Uint8Array,
  cause: 'kill' | 'power',
): CrashCase {
  let whole = Number.POSITIVE_INFINITY;
  return {
    name: `${target.name}, ${cause}`,
    cause,
    ...(cause === 'power' ? { from: () => whole } : {}),
    files: () => ({ image: new Uint8Array(0), data: new Uint8Array(0), ...backing(target) }),
    run: async (bench) => {
      whole = Number.POSITIVE_INFINITY;
      bench.expect({
        file: 'image',
        disk: new GuestModel(content),
        mayBeUnfinished: (cut) => cut < whole,
      });
      await write(bench, target);
      for (const name of ['data', 'image']) await bench.storage(name).flush();
      whole = bench.position;
    },
  };
}

function backing({ options }: NewImage): Record<string, Uint8Array> {
  return options.backingFile === undefined ? {} : { [options.backingFile]: new Uint8Array(SIZE) };
}

for (const [verb, targets, write, content] of [
  ['create', CREATED, creating, new Uint8Array(SIZE)],
  ['convert', CONVERTED, converting, CONTENT],
] as const) {
  describe(verb, () => {
    for (const target of targets) {
      it(`${target.name}: killed, it leaves no image or the whole one`, async () => {
        const killed = newImageCase(target, write, content, 'kill');
        const { failure } = await crash(killed, { states: 300, qemu: 2 });
        expect(failure).toBeUndefined();
      });

      it(`${target.name}: once flushed it stays`, async () => {
        const flushed = newImageCase(target, write, content, 'power');
        const { failure, states } = await crash(flushed, { states: 50, qemu: 1 });
        expect(failure).toBeUndefined();
        expect(states).toBe(1);
      });

      it(`${target.name}: an error leaves no image`, async () => {
        const killed = newImageCase(target, write, content, 'kill');
        const { failure } = await crashWithFaults(killed, { faults: 12, states: 10 });
        expect(failure).toBeUndefined();
      });
    }
  });
}
