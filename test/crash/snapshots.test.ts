import { describe, expect, it } from 'vitest';
import type { Image } from '../../src/image/image.ts';
import type { OpenOptions } from '../../src/image/open-options.ts';
import { applySnapshot, createSnapshot, deleteSnapshot } from '../../src/operations/snapshot.ts';
import { type CrashCase, crash, crashWithFaults } from './crash-case.ts';
import { built, converted, overlay } from './guest-cases.ts';
import { GuestModel } from './guest-model.ts';
import { type ImageBase, onImage } from './image-operation.ts';
import { readAll } from './verdict.ts';

const STATES = Number(process.env.QCOW2_CRASH_STATES ?? 12_000) / 30;
const SEED = Number(process.env.QCOW2_CRASH_SEED ?? 1);
const KIB = 1024;

interface Kind {
  readonly name: string;
  readonly base: () => Promise<ImageBase>;
  readonly version?: 2;
  readonly open?: OpenOptions;
}

const KINDS: readonly Kind[] = [
  { name: 'plain', base: () => converted(256 * KIB, { clusterSize: 4096 }) },
  {
    name: 'version 2',
    base: () => converted(256 * KIB, { clusterSize: 4096, compat: '0.10' }),
    version: 2,
  },
  {
    name: 'compressed clusters',
    base: () => converted(256 * KIB, { clusterSize: 4096 }, { compress: true }),
  },
  {
    name: 'extended L2 overlay',
    base: () => overlay(256 * KIB, { clusterSize: 16 * KIB, extendedL2: true }, 'raw'),
  },
  {
    name: 'lazy refcounts',
    base: () => converted(256 * KIB, { clusterSize: 4096, lazyRefcounts: true }),
  },
  { name: 'another snapshot', base: async () => built({ clusters: 'HHZAH.HHH', snapshots: [{}] }) },
  {
    name: '512-byte clusters, small table cache',
    base: () => converted(512 * KIB, { clusterSize: 512 }),
    open: { cacheBytes: 1 },
  },
];

/** What a case does behind writes of the guest: all of it, then the image is closed. */
interface Verb {
  readonly name: 'create' | 'apply' | 'delete';
  /** Counters and flags may differ between the two cuts where it is under way. */
  readonly isMarked: boolean;
}

const VERBS: readonly Verb[] = [
  { name: 'create', isMarked: true },
  { name: 'apply', isMarked: false },
  { name: 'delete', isMarked: true },
];

/** An image with a snapshot `old` of other contents than the disk's. */
async function withSnapshot({ base, open }: Kind): Promise<ImageBase> {
  const made = await base();
  let prepared = made;
  const prepare: CrashCase = onImage({
    name: 'prepare',
    base: async () => made,
    ...(open && { open }),
    run: async (image, _model, bench) => {
      const old = await readAll(image);
      await createSnapshot(image, 'old');
      await rewrite(image, 0x41);
      const disk = await readAll(image);
      await image.close();
      const bytes = new Uint8Array(bench.storage('image').size);
      bench.storage('image').read(0, bytes);
      const files = { ...made.files, image: bytes };
      prepared = { files, disk, snapshots: { ...made.snapshots, old } };
    },
  });
  await crash(prepare, { states: 0 });
  return prepared;
}

/** Writes over parts of the disk, so that its clusters and those of a snapshot part. */
async function rewrite(image: Image, fill: number): Promise<void> {
  const { virtualSize } = image;
  for (let i = 0; i < 5; i++) {
    const length = Math.min(virtualSize, 512 * (1 + ((i * 7) % 20)));
    const offset = Math.floor(((virtualSize - length) * i) / 4 / 512) * 512;
    await image.write(offset, new Uint8Array(length).fill(fill + i));
  }
}

/** A disk that a snapshot is applied to: all of what it was, or all of the snapshot. */
class Applied extends GuestModel {
  readonly #old: GuestModel;
  readonly #done: () => number;

  constructor({ disk, snapshots }: ImageBase, done: () => number) {
    super(disk);
    this.#old = new GuestModel(snapshots!.old!);
    this.#done = done;
  }

  override findFault(cut: number, disk: Uint8Array): string | undefined {
    const fault = this.#old.findFault(cut, disk);
    return fault && cut < this.#done() ? super.findFault(cut, disk) : fault;
  }
}

/** One operation on an image with the snapshot `old`; nothing else is written meanwhile. */
function doing(kind: Kind, verb: Verb): CrashCase {
  let begun = 0;
  let done = Number.POSITIVE_INFINITY;
  return onImage({
    name: `${verb.name}: ${kind.name}`,
    base: () => withSnapshot(kind),
    ...(kind.open && { open: kind.open }),
    expect: (_, base) => {
      const snapshots = Object.entries(base.snapshots ?? {});
      const models = snapshots.map(([name, disk]) => [name, new GuestModel(disk)] as const);
      const created = verb.name === 'create' ? { fresh: new GuestModel(base.disk) } : {};
      const isLazy = kind.name.startsWith('lazy');
      return {
        snapshots: { ...Object.fromEntries(models), ...created },
        mustHave: (cut) =>
          [...snapshots.map(([name]) => name), ...Object.keys(created)].filter(
            (name) =>
              (name !== 'fresh' || cut >= done) &&
              (verb.name !== 'delete' || name !== 'old' || cut <= begun),
          ),
        ...(kind.version === 2 && verb.isMarked && { copiedFlags: true }),
        ...((isLazy || (verb.isMarked && kind.version !== 2)) && { lazyRefcounts: true }),
        ...(verb.name === 'apply' && { disk: new Applied(base, () => done) }),
      };
    },
    run: async (image, _model, bench) => {
      done = Number.POSITIVE_INFINITY;
      begun = bench.position;
      if (verb.name === 'create') await createSnapshot(image, 'fresh');
      else if (verb.name === 'delete') await deleteSnapshot(image, { name: 'old' });
      else await applySnapshot(image, 'old');
      done = bench.position;
      await image.close();
    },
  });
}

describe.each(VERBS)('a cut while a snapshot operation runs: $name', (verb) => {
  for (const kind of KINDS) {
    it(`${kind.name}: it is done, or nothing of it`, async () => {
      const crashCase = doing(kind, verb);
      const options = { seed: SEED, states: Math.ceil(STATES), qemu: 4 };
      const { failure, states } = await crash(crashCase, options);
      expect(failure).toBeUndefined();
      expect(states).toBeGreaterThan(8);
    });

    it(`${kind.name}: an error leaves an image as sound`, async () => {
      const crashCase = doing(kind, verb);
      const { failure } = await crashWithFaults(crashCase, { seed: SEED, faults: 24, states: 10 });
      expect(failure).toBeUndefined();
    });
  }
});
