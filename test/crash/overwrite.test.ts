import { describe, expect, it } from 'vitest';
import { Image } from '../../src/image/image.ts';
import { createKernel } from '../../src/kernel/kernel.ts';
import { addBitmaps, bitmapsToAdd } from '../../src/operations/add-bitmaps.ts';
import { Source } from '../../src/operations/chunks.ts';
import { overwrite } from '../../src/operations/overwrite.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import { makeContent } from '../support/data.ts';
import { bitmapsTellAll } from './bitmaps.ts';
import { type CrashCase, crash, crashWithFaults } from './crash-case.ts';
import { built, converted, GUEST_CASES, overlay, withEmptyBitmap } from './guest-cases.ts';
import { type ImageBase, onImage } from './image-operation.ts';

const STATES = Number(process.env.QCOW2_CRASH_STATES ?? 4000) / 40;
const SEED = Number(process.env.QCOW2_CRASH_SEED ?? 1);
const KIB = 1024;

interface Overwritten {
  readonly name: string;
  readonly base: () => Promise<ImageBase>;
  readonly compress?: boolean;
  readonly lazyRefcounts?: boolean;
  readonly bitmaps?: boolean;
}

const baseOf = (name: string) => GUEST_CASES.find((each) => each.name === name)!.base;

const CASES: readonly Overwritten[] = [
  { name: 'plain', base: baseOf('plain') },
  { name: 'version 2', base: baseOf('version 2') },
  { name: 'overlay', base: baseOf('overlay') },
  { name: 'extended L2 overlay', base: baseOf('extended L2 overlay') },
  { name: 'snapshot', base: baseOf('snapshot') },
  { name: 'lazy refcounts', base: baseOf('lazy refcounts'), lazyRefcounts: true },
  { name: 'data file', base: baseOf('data file') },
  {
    name: 'bitmap',
    base: async () => withEmptyBitmap({ clusters: 'HHZA.C', bitmaps: [{ granularityBits: 9 }] }),
  },
  { name: 'compressed over plain', base: baseOf('plain'), compress: true },
  { name: 'compressed over compressed', base: baseOf('compressed clusters'), compress: true },
  {
    name: 'compressed over a snapshot, 512-byte clusters',
    base: baseOf('snapshot, 512-byte clusters'),
    compress: true,
  },
  {
    name: 'compressed, one-bit counters',
    base: async () => built({ clusters: 'ZZAAHH..', refcountOrder: 0 }),
    compress: true,
  },
  {
    name: 'compressed over an extended L2 overlay',
    base: () => overlay(256 * KIB, { clusterSize: 16 * KIB, extendedL2: true }, 'raw'),
    compress: true,
  },
  {
    name: 'bitmaps added',
    base: () => converted(64 * KIB, { clusterSize: 4096 }),
    bitmaps: true,
  },
];

/** What replaces a disk: text, noise and zeros by turns, up to 1 KiB before its end. */
function replacement(size: number): Uint8Array {
  const bytes = makeContent('text', size - 1024, 21);
  for (let at = 0; at < bytes.length; at += 20 * KIB) bytes.fill(0, at, at + 9 * KIB);
  bytes.set(makeContent('random', 3 * KIB, 22), 10 * KIB);
  return bytes;
}

function overwriting({ name, base, compress, lazyRefcounts, bitmaps }: Overwritten): CrashCase {
  return onImage({
    name,
    base,
    expect: (_, { disk }) => ({
      ...(lazyRefcounts && { lazyRefcounts }),
      ...(name === 'bitmap' && { also: (image) => bitmapsTellAll(image, disk) }),
    }),
    run: async (image, model, bench, { disk }) => {
      const bytes = replacement(disk.length);
      const after = disk.slice();
      after.set(bytes);
      model.write(bench.position, 0, after);
      const marked = built({ clusters: 'HHHH', bitmaps: [{ granularityBits: 9 }] });
      const source = bitmaps
        ? await Image.open(marked.files.image!.slice())
        : await Image.open(new MemoryStorage(bytes), { format: 'raw' });
      const added = bitmaps ? await bitmapsToAdd([source], image, {}) : undefined;
      const kernel = createKernel();
      if (!added) await overwrite(new Source([source]), image, { kernel, compress });
      else await addBitmaps(image, added, () => {});
      await image.flush();
      if (!added) model.flush(bench.position, after);
      await image.close();
      await source.close();
    },
  });
}

describe('a cut while an existing image is overwritten', () => {
  for (const overwritten of CASES) {
    it(`${overwritten.name}: each range is old or new, and snapshots are as they were`, async () => {
      const options = { seed: SEED, states: Math.ceil(STATES), qemu: 4 };
      const { failure, states } = await crash(overwriting(overwritten), options);
      expect(failure).toBeUndefined();
      expect(states).toBeGreaterThan(3);
    });

    it(`${overwritten.name}: an error leaves an image as sound`, async () => {
      const options = { seed: SEED, faults: 8, states: 8 };
      const { failure } = await crashWithFaults(overwriting(overwritten), options);
      expect(failure).toBeUndefined();
    });
  }
});
