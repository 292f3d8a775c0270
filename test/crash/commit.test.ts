import { describe, expect, it } from 'vitest';
import { isQcow2Error } from '../../src/errors.ts';
import { Image } from '../../src/image/image.ts';
import type { NewImageOptions } from '../../src/image/new-image.ts';
import { type CommitOptions, commit } from '../../src/operations/commit.ts';
import { create } from '../../src/operations/create.ts';
import { createSnapshot } from '../../src/operations/snapshot.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import { makeContent } from '../support/data.ts';
import { type CrashCase, crash, crashWithFaults } from './crash-case.ts';
import type { CrashState } from './crash-states.ts';
import { converted, withRubbish } from './guest-cases.ts';
import { GuestModel } from './guest-model.ts';
import { type ImageBase, onImage } from './image-operation.ts';
import { judge, readAll, withKernel } from './verdict.ts';

/** States judged of each case. QCOW2_CRASH_STATES asks for others. */
const STATES = Number(process.env.QCOW2_CRASH_STATES ?? 4000) / 40;
const SEED = Number(process.env.QCOW2_CRASH_SEED ?? 1);
const KIB = 1024;
const SIZE = 200 * KIB + 512;
const BASE_SIZE = 150 * KIB;

interface Kind {
  readonly name: string;
  readonly create: Omit<NewImageOptions, 'size'>;
  readonly below: 'raw' | 'qcow2';
  readonly snapshot?: boolean;
  readonly options?: CommitOptions;
}

const CLUSTERS = { clusterSize: 4096 };
const KINDS: readonly Kind[] = [
  { name: 'raw base', create: CLUSTERS, below: 'raw' },
  { name: 'qcow2 base', create: CLUSTERS, below: 'qcow2' },
  { name: 'qcow2 base, 512-byte clusters', create: { clusterSize: 512 }, below: 'qcow2' },
  { name: 'version 2', create: { ...CLUSTERS, compat: '0.10' }, below: 'raw' },
  { name: 'extended L2', create: { clusterSize: 16384, extendedL2: true }, below: 'qcow2' },
  { name: 'lazy refcounts', create: { ...CLUSTERS, lazyRefcounts: true }, below: 'raw' },
  { name: 'data file', create: { ...CLUSTERS, dataFile: 'data' }, below: 'raw' },
  { name: 'snapshot', create: CLUSTERS, below: 'qcow2', snapshot: true },
  { name: 'raw base, kept', create: CLUSTERS, below: 'raw', options: { keep: true } },
  { name: 'qcow2 base, kept', create: CLUSTERS, below: 'qcow2', options: { keep: true } },
];

interface Pair extends ImageBase {
  /** What the base's disk reads. */
  readonly below: Uint8Array;
}

/** An overlay with data, zeros and nothing, longer than its base. */
async function overlay({ create: options, below, snapshot }: Kind): Promise<Pair> {
  const content = makeContent('mixed', BASE_SIZE, 5);
  const packed = await converted(BASE_SIZE, CLUSTERS, { compress: true, content });
  const backing = below === 'raw' ? content : packed.files.image!;
  const target = new MemoryStorage(new Uint8Array(0), 'image');
  const data = options.dataFile === undefined ? undefined : new MemoryStorage();
  const names = { backingFile: 'backing', backingFormat: below };
  const files = { format: 'qcow2', size: SIZE, ...options, ...names } as const;
  await create({ storage: target, dataStorage: data }, files);
  const image = await Image.open(target, {
    writable: true,
    resolver: ({ name }) => (name === 'data' ? data! : new MemoryStorage(backing, name)),
  });
  await image.write(20 * KIB, new Uint8Array(9 * KIB).fill(0x21));
  if (snapshot) await createSnapshot(image, 'old');
  await image.write(60 * KIB + 512, new Uint8Array(9 * KIB).fill(0x22));
  await image.write(145 * KIB, makeContent('random', 30 * KIB, 6));
  await image.writeZeroes(90 * KIB, 20 * KIB);
  const disk = await readAll(image);
  await image.close();
  return {
    files: {
      image: withRubbish(target.bytes, options.clusterSize!),
      backing: backing.slice(),
      ...(data && { data: data.bytes.slice() }),
    },
    disk,
    below: content,
  };
}

function committing(kind: Kind): CrashCase {
  const isLazy = kind.name.startsWith('lazy');
  let pair: Pair | undefined;
  const crashCase = onImage({
    name: kind.name,
    base: async () => {
      pair = await overlay(kind);
      return pair;
    },
    // Snapshots show what the base holds where they have nothing themselves.
    expect: (bench) => {
      if (kind.below === 'qcow2') bench.expect(baseExpectation(pair!));
      return { lazyRefcounts: isLazy, anySnapshots: true };
    },
    run: async (image, _model, bench) => {
      const format = kind.below;
      const { kernel } = image;
      const base = await Image.open(bench.storage('backing'), { format, writable: true, kernel });
      await commit(image, base, kind.options);
      await image.close();
      await base.close();
    },
  });
  return { ...crashCase, also: (state) => commitAgain(kind, state, pair!) };
}

/** The base is sound, and holds in each sector what it had or what the overlay has. */
function baseExpectation({ disk, below }: Pair) {
  const before = new Uint8Array(disk.length);
  before.set(below);
  const model = new GuestModel(before);
  model.write(0, 0, disk);
  return { file: 'backing', disk: model, sizes: () => [below.length, disk.length] };
}

/** After a cut the same command ends it: the base alone has the whole disk. */
async function commitAgain(
  { below, options }: Kind,
  { files, cut }: CrashState,
  { disk }: Pair,
): Promise<string | undefined> {
  const copies = new Map([...files].map(([name, file]) => [name, file.copy()]));
  try {
    await withKernel(async (kernel) => {
      const image = await Image.open(copies.get('image')!, {
        format: 'qcow2',
        writable: true,
        resolver: ({ name }) => copies.get(name) ?? null,
        kernel,
      });
      const file = copies.get('backing')!;
      const base = await Image.open(file, { format: below, writable: true, kernel });
      await commit(image, base, options);
      await image.close();
      await base.close();
    });
  } catch (error) {
    // What is marked dirty is repaired first.
    if (isQcow2Error(error) && error.code === 'REFUSED') return undefined;
    return `cannot be committed again after the cut: ${error}`;
  }
  const found = await withKernel(async (kernel) => {
    const base = await Image.open(copies.get('backing')!, { format: below, kernel });
    return readAll(base);
  });
  const model = new GuestModel(disk);
  if (found.length !== disk.length) return `the base has ${found.length} bytes after all`;
  const expected = { file: 'image', disk: model, anySnapshots: true };
  const fault = model.findFault(0, found) ?? (await judge(copies, cut, expected));
  return fault && `committed again after the cut: ${fault}`;
}

describe('a cut while an overlay is committed', () => {
  for (const kind of KINDS) {
    it(`${kind.name}: it shows the same disk, and can be committed again`, async () => {
      const options = { seed: SEED, states: Math.ceil(STATES), qemu: 3 };
      const { failure, states } = await crash(committing(kind), options);
      expect(failure).toBeUndefined();
      expect(states).toBeGreaterThan(5);
    });
  }

  it.each(KINDS)('$name: an error leaves both as sound', async (kind) => {
    const options = { seed: SEED, faults: 12, states: 8 };
    const { failure } = await crashWithFaults(committing(kind), options);
    expect(failure).toBeUndefined();
  });
});
