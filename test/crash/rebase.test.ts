import { describe, expect, it } from 'vitest';
import { Image } from '../../src/image/image.ts';
import type { NewImageOptions } from '../../src/image/new-image.ts';
import { create } from '../../src/operations/create.ts';
import { type RebaseOptions, rebase } from '../../src/operations/rebase.ts';
import { createSnapshot } from '../../src/operations/snapshot.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import { makeContent } from '../support/data.ts';
import { type CrashCase, crash, crashWithFaults } from './crash-case.ts';
import { converted, withRubbish } from './guest-cases.ts';
import { type ImageBase, onImage } from './image-operation.ts';
import { readAll } from './verdict.ts';

/** States judged of each case. QCOW2_CRASH_STATES asks for others. */
const STATES = Number(process.env.QCOW2_CRASH_STATES ?? 4000) / 40;
const SEED = Number(process.env.QCOW2_CRASH_SEED ?? 1);
const KIB = 1024;
const SIZE = 200 * KIB + 512;

interface Kind {
  readonly name: string;
  readonly create: Omit<NewImageOptions, 'size'>;
  readonly snapshot?: boolean;
}

const KINDS: readonly Kind[] = [
  { name: '512-byte clusters', create: { clusterSize: 512 } },
  { name: '4 KiB clusters', create: { clusterSize: 4096 } },
  { name: 'version 2', create: { clusterSize: 4096, compat: '0.10' } },
  { name: 'extended L2', create: { clusterSize: 16384, extendedL2: true } },
  { name: 'lazy refcounts', create: { clusterSize: 4096, lazyRefcounts: true } },
  { name: 'data file', create: { clusterSize: 4096, dataFile: 'data' } },
  { name: 'snapshot', create: { clusterSize: 4096 }, snapshot: true },
];

const LONG = 'l'.repeat(150);
/** Names that reach over the first sector. */
const [LONGER, LONGEST] = ['m'.repeat(420), 'n'.repeat(430)];

/** An overlay with some data over `backing`, and beside it other files it might lie over. */
async function overlay({ create: options, snapshot }: Kind): Promise<ImageBase> {
  const backing = makeContent('mixed', 150 * KIB, 5);
  const raw = backing.slice(0, 130 * KIB);
  raw.set(makeContent('random', 40 * KIB, 8), 30 * KIB);
  const lower = await converted(256 * KIB, { clusterSize: 4096 }, { compress: true });
  const target = new MemoryStorage(new Uint8Array(0), 'image');
  const data = options.dataFile === undefined ? undefined : new MemoryStorage();
  const names = { backingFile: 'backing', backingFormat: 'raw' };
  const files = { format: 'qcow2', size: SIZE, ...options, ...names } as const;
  await create({ storage: target, dataStorage: data }, files);
  const image = await Image.open(target, {
    writable: true,
    resolver: ({ name }) => (name === 'data' ? data! : new MemoryStorage(backing, 'backing')),
  });
  await image.write(20 * KIB, new Uint8Array(9 * KIB).fill(0x21));
  if (snapshot) await createSnapshot(image, 'old');
  await image.write(60 * KIB + 512, new Uint8Array(9 * KIB).fill(0x22));
  await image.writeZeroes(90 * KIB, 20 * KIB);
  const disk = await readAll(image);
  await image.close();
  return {
    files: {
      image: withRubbish(target.bytes, options.clusterSize!),
      backing,
      raw,
      [LONG]: raw,
      packed: lower.files.image!,
      ...(data && { data: data.bytes.slice() }),
    },
    disk,
  };
}

const RAW = { name: 'raw', format: 'raw' } as const;
const TARGETS: readonly (readonly [string, RebaseOptions['backing']])[] = [
  ['onto none', undefined],
  ['onto a raw disk', RAW],
  ['onto a qcow2 image', { name: 'packed', format: 'qcow2' }],
];

function rebasing(kind: Kind, title: string, backing: RebaseOptions['backing']): CrashCase {
  return onImage({
    name: `${kind.name}, ${title}`,
    base: () => overlay(kind),
    // Snapshots show the new backing file where they have nothing themselves.
    expect: () => ({ lazyRefcounts: kind.name.startsWith('lazy'), anySnapshots: true }),
    run: async (image, _model, bench) => {
      let backingImage: Image | undefined;
      if (backing !== undefined) {
        const { name, format } = backing;
        backingImage = await Image.open(bench.storage(name), { format, kernel: image.kernel });
      }
      await rebase(image, { backing, backingImage });
      await image.close();
    },
  });
}

/** Only names: of two files with the same contents. */
function renaming(clusterSize: number, from: string, to: string): CrashCase {
  const rename = (image: Image, name: string): Promise<void> =>
    rebase(image, { backing: { name, format: 'raw' }, unsafe: true });
  return onImage({
    name: `clusters of ${clusterSize} bytes, ${from.length} and ${to.length} letters`,
    base: async () => {
      const { files, disk } = await overlay({ name: 'names', create: { clusterSize } });
      const target = new MemoryStorage(files.image!, 'image');
      const image = await Image.open(target, { writable: true });
      await rename(image, from);
      await image.close();
      const { backing } = files;
      return { disk, files: { image: target.bytes.slice(), [from]: backing!, [to]: backing! } };
    },
    run: async (image) => {
      await rename(image, to);
      await image.close();
    },
  });
}

const RENAMES: readonly CrashCase[] = [
  ...[512, 1024, 4096, 65536].map((clusterSize) => renaming(clusterSize, 'backing', LONG)),
  ...[2048, 65536].map((clusterSize) => renaming(clusterSize, LONGER, LONGEST)),
  renaming(2048, LONGEST, 'short'),
  renaming(2048, 'short', LONGEST),
];

function judged(crashCase: CrashCase): void {
  it(`${crashCase.name}: it lies over the one or the other`, async () => {
    const options = { seed: SEED, states: Math.ceil(STATES), qemu: 2 };
    const { failure, states } = await crash(crashCase, options);
    expect(failure).toBeUndefined();
    expect(states).toBeGreaterThan(1);
  });
}

describe.each(TARGETS)('a cut while an overlay is rebased: %s', (title, backing) => {
  for (const kind of KINDS) judged(rebasing(kind, title, backing));
});

describe('an error while an overlay is rebased', () => {
  it.each(KINDS.map((kind, i) => [kind.name, kind, TARGETS[i % TARGETS.length]!] as const))(
    '%s: it leaves an image as sound',
    async (_, kind, [title, backing]) => {
      const options = { seed: SEED, faults: 12, states: 8 };
      const { failure } = await crashWithFaults(rebasing(kind, title, backing), options);
      expect(failure).toBeUndefined();
    },
  );
});

describe('a cut while the name of a backing file changes', () => {
  for (const crashCase of RENAMES) judged(crashCase);
});
