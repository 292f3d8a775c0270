import { describe, expect, it } from 'vitest';
import { BITMAP_AUTO, BITMAP_IN_USE } from '../../src/format/bitmap-directory.ts';
import { Image } from '../../src/image/image.ts';
import type { NewImageOptions } from '../../src/image/new-image.ts';
import {
  addBitmap,
  clearBitmap,
  disableBitmap,
  enableBitmap,
  mergeBitmap,
  removeBitmap,
} from '../../src/operations/bitmap.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import { bitmapsTellAll, dirtyGranules } from './bitmaps.ts';
import { type CrashCase, crash, crashWithFaults } from './crash-case.ts';
import { converted, overlay } from './guest-cases.ts';
import { type ImageBase, onImage } from './image-operation.ts';
import { readAll } from './verdict.ts';

const STATES = Math.ceil(Number(process.env.QCOW2_CRASH_STATES ?? 4000) / 60);
const SEED = Number(process.env.QCOW2_CRASH_SEED ?? 1);
const KIB = 1024;

interface Kind {
  readonly name: string;
  readonly base: () => Promise<ImageBase>;
  readonly lazyRefcounts?: boolean;
}

const plain = (create: Omit<NewImageOptions, 'size'>) => () => converted(256 * KIB, create);

const KINDS: readonly Kind[] = [
  { name: '4 KiB clusters', base: plain({ clusterSize: 4096 }) },
  { name: '64 KiB clusters, feature names', base: plain({}) },
  {
    name: '512-byte clusters, 64-bit counters',
    base: plain({ clusterSize: 512, refcountBits: 64 }),
  },
  {
    name: 'extended L2 overlay',
    base: () => overlay(256 * KIB, { clusterSize: 16 * KIB, extendedL2: true }, 'raw'),
  },
  {
    name: 'lazy refcounts',
    base: plain({ clusterSize: 4096, lazyRefcounts: true }),
    lazyRefcounts: true,
  },
];

/** An operation, and bitmaps there are before it: `fine` and `wide`, with bits set, unless `first`. */
interface Verb {
  readonly name: string;
  readonly first?: boolean;
  run(image: Image): Promise<void>;
}

const VERBS: readonly Verb[] = [
  { name: 'add the first', first: true, run: (image) => addBitmap(image, 'new') },
  { name: 'add one more', run: (image) => addBitmap(image, 'new', { granularity: 512 }) },
  { name: 'remove one of two', run: (image) => removeBitmap(image, 'fine') },
  {
    name: 'remove all',
    run: async (image) => {
      await removeBitmap(image, 'wide');
      await removeBitmap(image, 'fine');
    },
  },
  { name: 'clear', run: (image) => clearBitmap(image, 'fine') },
  { name: 'disable', run: (image) => disableBitmap(image, 'fine') },
  { name: 'enable', run: (image) => enableBitmap(image, 'off') },
  { name: 'merge finer', run: (image) => mergeBitmap(image, 'wide', 'fine') },
  { name: 'merge coarser', run: (image) => mergeBitmap(image, 'off', 'wide') },
];

/** What an image says of its bitmaps: name, whether enabled, and the granules whose bits are set. */
async function bitmapsOf(image: Image): Promise<string> {
  const lines: string[] = [];
  for (const entry of await image.bitmaps()) {
    const { flags, granularityBits, name } = entry;
    const bits = [...(await dirtyGranules(image, entry))].sort((a, b) => a - b);
    const inUse = (flags & BITMAP_IN_USE) !== 0 ? ' in use' : '';
    lines.push(`${name.text} ${flags & BITMAP_AUTO}${inUse} ${granularityBits} ${bits}`);
  }
  return lines.join('\n');
}

/** The same, but for the bits of those that are enabled. */
function withoutBits(bitmaps: string): string {
  return bitmaps.replace(/^(\w+ 2.*) [\d,]*$/gm, '$1');
}

/** A base with bitmaps, the disk of which has been written to since. */
async function withBitmaps({ base }: Kind): Promise<ImageBase> {
  const { files } = await base();
  const image = await open(files);
  await addBitmap(image, 'fine', { granularity: 512 });
  await addBitmap(image, 'off', { granularity: 1024, enabled: false });
  await addBitmap(image, 'wide', { granularity: 16 * KIB });
  await image.write(3 * KIB, new Uint8Array(5000).fill(1));
  await image.write(200 * KIB, new Uint8Array(512).fill(2));
  const disk = await readAll(image);
  await image.close();
  return { files: { ...files, image: (image.storage as MemoryStorage).bytes.slice() }, disk };
}

function open(files: Readonly<Record<string, Uint8Array>>, writable = true): Promise<Image> {
  return Image.open(new MemoryStorage(files.image!.slice(), 'image'), {
    writable,
    resolver: ({ name }) => new MemoryStorage(files[name]!.slice(), name),
  });
}

/** What bitmaps there may be after any cut: those before, those after, and between two steps. */
async function allowed({ files }: ImageBase, run: Verb['run']): Promise<Set<string>> {
  const image = await open(files);
  const found = new Set([await bitmapsOf(image)]);
  await run(image);
  found.add(await bitmapsOf(image));
  await image.close();
  return found;
}

/** One operation on an image nothing else is written to. */
function doing(kind: Kind, verb: Verb): CrashCase {
  const base = verb.first ? kind.base() : withBitmaps(kind);
  let known = new Set<string>();
  return onImage({
    name: `${verb.name}: ${kind.name}`,
    base: () => base,
    expect: (_, { disk }) => ({
      ...(kind.lazyRefcounts && { lazyRefcounts: true }),
      also: async (image) => {
        const found = await bitmapsOf(image);
        // Written again after a cut, enabled ones have more bits set.
        const isSame = Buffer.compare(await readAll(image), disk) === 0;
        const names = [...known].map((each) => (isSame ? each : withoutBits(each)));
        if (names.includes(isSame ? found : withoutBits(found))) return undefined;
        return `bitmaps are:\n${found}`;
      },
    }),
    run: async (image, _model, _bench, made) => {
      known = await allowed(made, verb.run);
      // Where it does two things, what is between them.
      if (verb.name === 'remove all')
        for (const each of await allowed(made, (other) => removeBitmap(other, 'wide')))
          known.add(each);
      await verb.run(image);
      await image.close();
    },
  });
}

describe.each(VERBS)('a cut while bitmaps change: $name', (verb) => {
  for (const kind of KINDS) {
    it(`${kind.name}: it is done, or nothing of it`, async () => {
      const crashCase = doing(kind, verb);
      const report = await crash(crashCase, { seed: SEED, states: STATES, qemu: 3 });
      expect(report.failure).toBeUndefined();
      expect(report.states).toBeGreaterThan(4);
    });

    it(`${kind.name}: an error leaves an image as sound`, async () => {
      const crashCase = doing(kind, verb);
      const { failure } = await crashWithFaults(crashCase, { seed: SEED, faults: 12, states: 5 });
      expect(failure).toBeUndefined();
    });
  }
});

describe('a cut while a guest writes and bitmaps change', () => {
  it.each(KINDS)('$name: a bitmap that looks right tells of all that was written', async (kind) => {
    const base = withBitmaps(kind);
    const crashCase = onImage({
      name: `writes and bitmaps: ${kind.name}`,
      base: () => base,
      expect: (_, { disk }) => ({
        ...(kind.lazyRefcounts && { lazyRefcounts: true }),
        // Of those that recorded from the start.
        also: (image) => bitmapsTellAll(image, disk, ['fine', 'wide']),
      }),
      run: async (image, model, bench, made) => {
        const disk = made.disk.slice();
        const write = async (at: number, fill: number): Promise<void> => {
          const bytes = new Uint8Array(3072).fill(fill);
          disk.set(bytes, at);
          model.write(bench.position, at, bytes);
          await image.write(at, bytes);
        };
        await write(0, 1);
        await addBitmap(image, 'new');
        await write(100 * KIB, 2);
        await mergeBitmap(image, 'wide', 'fine');
        await clearBitmap(image, 'new');
        await write(150 * KIB, 3);
        await enableBitmap(image, 'off');
        await removeBitmap(image, 'new');
        await write(60 * KIB, 4);
        await image.flush();
        model.flush(bench.position, disk.slice());
        await image.close();
      },
    });
    const report = await crash(crashCase, { seed: SEED, states: STATES, qemu: 4 });
    expect(report.failure).toBeUndefined();
    const faults = await crashWithFaults(crashCase, { seed: SEED, faults: 12, states: 5 });
    expect(faults.failure).toBeUndefined();
  });
});
