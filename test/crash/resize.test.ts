import { describe, expect, it } from 'vitest';
import { Image } from '../../src/image/image.ts';
import { create } from '../../src/operations/create.ts';
import { type ResizeOptions, resize } from '../../src/operations/resize.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import { makeContent } from '../support/data.ts';
import { bitmapsTellAll } from './bitmaps.ts';
import { type CrashCase, crash, crashWithFaults } from './crash-case.ts';
import { GUEST_CASES, withEmptyBitmap, withRubbish } from './guest-cases.ts';
import { type ImageBase, onImage } from './image-operation.ts';

/** States judged of each case. QCOW2_CRASH_STATES asks for others. */
const STATES = Number(process.env.QCOW2_CRASH_STATES ?? 4000) / 20;
const SEED = Number(process.env.QCOW2_CRASH_SEED ?? 1);
const KIB = 1024;

/** An overlay, of part of what its backing file has. */
async function overlay(size: number): Promise<ImageBase> {
  const backing = makeContent('random', 512 * KIB, 5);
  const target = new MemoryStorage(new Uint8Array(0), 'image');
  const names = { backingFile: 'backing', backingFormat: 'raw' };
  await create(target, { ...names, clusterSize: 4096, format: 'qcow2', size });
  const image = withRubbish(target.bytes, 4096);
  return { files: { image, backing }, disk: backing.slice(0, size) };
}

const baseOf = (name: string) => GUEST_CASES.find((each) => each.name === name)!.base;

interface Resized {
  readonly name: string;
  readonly base: () => Promise<ImageBase>;
  /** Bytes the disk gets longer, or shorter. */
  readonly by: number;
  readonly options?: ResizeOptions;
  readonly lazyRefcounts?: boolean;
}

const growing: readonly Omit<Resized, 'by'>[] = [
  { name: 'plain', base: baseOf('plain') },
  { name: '512-byte clusters', base: baseOf('512-byte clusters') },
  { name: 'version 2', base: baseOf('version 2') },
  { name: 'overlay', base: () => overlay(200 * KIB + 512) },
  { name: 'snapshot, 512-byte clusters', base: baseOf('snapshot, 512-byte clusters') },
  { name: 'bitmap', base: baseOf('bitmap') },
  { name: 'lazy refcounts', base: baseOf('lazy refcounts'), lazyRefcounts: true },
  { name: 'data file', base: baseOf('data file') },
  { name: 'raw data file', base: baseOf('raw data file') },
  { name: 'compressed clusters', base: baseOf('compressed clusters') },
  { name: 'extended L2', base: baseOf('extended L2') },
];

/** Its bitmap has a table of one entry; a longer disk takes more. */
const withSmallTable = () =>
  withEmptyBitmap({
    clusterBits: 9,
    size: 2048 * KIB,
    clusters: 'HHZA.C',
    bitmaps: [{ granularityBits: 9 }],
  });

async function withLargeTable(): Promise<ImageBase> {
  const { files, disk } = withSmallTable();
  const storage = new MemoryStorage(files.image!, 'image');
  const image = await Image.open(storage, { writable: true });
  await resize(image, 4248 * KIB);
  await image.close();
  const longer = new Uint8Array(4248 * KIB);
  longer.set(disk);
  return { files: { image: storage.bytes.slice() }, disk: longer };
}

const CASES: readonly Resized[] = [
  {
    name: 'bitmap with a longer table',
    base: async () => withSmallTable(),
    by: 2200 * KIB,
  },
  {
    name: 'bitmap with a shorter table',
    base: withLargeTable,
    by: -2200 * KIB,
  },
  ...growing.map((each) => ({ ...each, name: `${each.name}, longer`, by: 300 * KIB })),
  ...growing.map((each) => ({ ...each, name: `${each.name}, shorter`, by: -30 * KIB - 512 })),
  {
    name: 'mapped ahead',
    base: baseOf('512-byte clusters'),
    by: 200 * KIB,
    options: { preallocation: 'metadata' },
  },
  {
    name: 'overlay, mapped ahead',
    base: () => overlay(200 * KIB + 512),
    by: 200 * KIB,
    options: { preallocation: 'metadata' },
  },
];

/** A resize, and a guest that writes before and after. The end of a shorter disk may be anything of it. */
function resizing({ name, base, by, options, lazyRefcounts }: Resized): CrashCase {
  return onImage({
    name,
    base: async () => {
      const made = await base();
      // The longest disk there is: what is new are zeros.
      const disk = new Uint8Array(made.disk.length + Math.max(by, 0));
      disk.set(made.disk);
      return { ...made, disk };
    },
    expect: (bench, { disk }) => {
      const before = disk.length - Math.max(by, 0);
      const from = (): number => resized.get(bench)?.from ?? Number.POSITIVE_INFINITY;
      const to = (): number => resized.get(bench)?.to ?? Number.POSITIVE_INFINITY;
      return {
        ...(lazyRefcounts && { lazyRefcounts }),
        ...(name.startsWith('bitmap') && { also: (image) => bitmapsTellAll(image, disk) }),
        sizes: (cut) => {
          const after = before + by;
          if (cut < from()) return [before];
          return cut >= to() ? [after] : [before, after];
        },
      };
    },
    run: async (image, model, bench, made) => {
      const disk = made.disk.slice();
      const before = disk.length - Math.max(by, 0);
      const after = before + by;
      const times = { from: bench.position, to: Number.POSITIVE_INFINITY };
      const write = async (at: number, fill: number): Promise<void> => {
        const bytes = new Uint8Array(1024).fill(fill);
        disk.set(bytes, at);
        model.write(bench.position, at, bytes);
        await image.write(at, bytes);
      };
      await write(before - 1024, 0xa1);
      await write(0, 0xa2);
      await image.flush();
      model.flush(bench.position, disk.slice());
      times.from = bench.position;
      resized.set(bench, times);
      if (by < 0) {
        model.zero(bench.position, after, before - after);
        const below = made.files.backing?.slice(after, before);
        if (below) model.write(bench.position, after, below);
      }
      await resize(image, after, { shrink: by < 0, ...options });
      times.to = bench.position;
      await write(after - 1024, 0xa3);
      await image.flush();
      model.flush(bench.position, disk.slice());
      await image.close();
    },
  });
}

/** When the resize of a bench began and had ended. */
const resized = new WeakMap<object, { from: number; to: number }>();

describe('a cut while a disk gets another length', () => {
  for (const resizeCase of CASES) {
    const { name } = resizeCase;

    it(`${name}: it has the old one or the new one, and all its data`, async () => {
      const report = await crash(resizing(resizeCase), { seed: SEED, states: STATES, qemu: 6 });
      expect(report.failure).toBeUndefined();
      expect(report.states).toBeGreaterThan(10);
    });

    it(`${name}: an error leaves an image as sound`, async () => {
      const options = { seed: SEED, faults: 24, states: 10 };
      const { failure } = await crashWithFaults(resizing(resizeCase), options);
      expect(failure).toBeUndefined();
    });
  }
});
