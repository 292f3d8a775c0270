import { describe, expect, it } from 'vitest';
import { setRefcount } from '../../src/format/refcount-entry.ts';
import { Image } from '../../src/image/image.ts';
import { check } from '../../src/operations/check.ts';
import { type RepairMode, repair } from '../../src/operations/repair.ts';
import { createSnapshot } from '../../src/operations/snapshot.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import { RecordingStorage, StorageLog } from '../../src/storage/recording.ts';
import { type CrashCase, crash, crashWithFaults } from './crash-case.ts';
import { built, converted } from './guest-cases.ts';
import { GuestModel } from './guest-model.ts';
import { type ImageBase, onImage } from './image-operation.ts';

const STATES = Math.ceil(Number(process.env.QCOW2_CRASH_STATES ?? 12_000) / 150);
const SEED = Number(process.env.QCOW2_CRASH_SEED ?? 1);
const KIB = 1024;

interface Damage {
  readonly name: string;
  readonly base: () => Promise<ImageBase>;
  readonly mode?: RepairMode;
  /** Nothing but leaks: at no cut there may be more. */
  readonly leaksOnly?: boolean;
}

/** Changes the image of a base. */
async function damaged(
  base: Promise<ImageBase> | ImageBase,
  change: (view: DataView, bytes: Uint8Array) => void,
): Promise<ImageBase> {
  const made = await base;
  const image = made.files.image!.slice();
  change(new DataView(image.buffer), image);
  return { ...made, files: { ...made.files, image } };
}

/** The first refcount block: of 16-bit counters. */
function counters(view: DataView, bytes: Uint8Array): Uint8Array {
  const block = Number(view.getBigUint64(Number(view.getBigUint64(48))));
  return bytes.subarray(block, block + 4096);
}

const plain = (): Promise<ImageBase> => converted(256 * KIB, { clusterSize: 4096 });
const DIRTY = 1n;

/** The image as the worst of all cuts while a snapshot was taken left it. */
async function cutInSnapshot(): Promise<ImageBase> {
  const made = await plain();
  const log = new StorageLog();
  const memory = new MemoryStorage(made.files.image!.slice(), 'image');
  const image = await Image.open(new RecordingStorage(memory, log), { writable: true });
  await createSnapshot(image, 'fresh');
  await image.close();
  let worst = made.files.image!;
  let most = 0;
  const state = new MemoryStorage(made.files.image!.slice(), 'image');
  for (const event of log.events) {
    if (event.kind === 'write') state.write(event.offset, event.bytes);
    const { corruptions } = await check(state.bytes.slice());
    if (corruptions <= most) continue;
    most = corruptions;
    worst = state.bytes.slice();
  }
  expect(most).toBeGreaterThan(0);
  return { ...made, files: { ...made.files, image: worst } };
}

const DAMAGES: readonly Damage[] = [
  {
    name: 'leaked clusters, by -r leaks',
    mode: 'leaks',
    leaksOnly: true,
    base: () =>
      damaged(plain(), (view, bytes) => {
        const last = bytes.length / 4096 - 1;
        for (let i = 0; i < 8; i++) setRefcount(counters(view, bytes), last - i, 4, i % 3);
      }),
  },
  {
    name: 'a snapshot that nothing leads to, by -r leaks',
    mode: 'leaks',
    base: () =>
      damaged(built({ clusters: 'HHZAH.HHH', snapshots: [{}] }), (view) => {
        view.setUint32(60, 0);
        view.setBigUint64(64, 0n);
      }).then(({ snapshots: _, ...base }) => base),
  },
  {
    name: 'a dirty image with lazy refcounts',
    base: () =>
      damaged(converted(256 * KIB, { clusterSize: 4096, lazyRefcounts: true }), (view, bytes) => {
        view.setBigUint64(72, view.getBigUint64(72) | DIRTY);
        for (let cluster = 6; cluster < 40; cluster += 2)
          setRefcount(counters(view, bytes), cluster, 4, cluster % 4 === 0 ? 0 : 2);
      }),
  },
  {
    name: 'no refcount block',
    base: () => damaged(plain(), (view) => view.setBigUint64(Number(view.getBigUint64(48)), 0n)),
  },
  {
    name: 'a refcount block used twice, and leaks',
    base: () =>
      damaged(plain(), (view, bytes) => {
        const table = Number(view.getBigUint64(48));
        setRefcount(counters(view, bytes), bytes.length / 4096 - 2, 4, 3);
        view.setBigUint64(table + 8, view.getBigUint64(table));
      }),
  },
  { name: 'an image cut while a snapshot was taken', base: cutInSnapshot },
  {
    name: 'an incomplete snapshot table',
    base: () =>
      damaged(built({ clusters: 'HHZAH.HHH', snapshots: [{}] }), (view, bytes) => {
        const at = Number(view.getBigUint64(64));
        const extra = view.getUint32(at + 36);
        view.setUint32(at + 36, 0);
        bytes.copyWithin(at + 40, at + 40 + extra, at + 40 + extra + 64);
      }),
  },
];

function repairing({ name, base, mode = 'all', leaksOnly = false }: Damage): CrashCase {
  const made = base();
  return {
    name,
    files: async () => ({ ...(await made).files }),
    run: async (bench) => {
      const { disk, snapshots = {} } = await made;
      const models = Object.entries(snapshots).map(
        ([of, was]) => [of, new GuestModel(was)] as const,
      );
      bench.expect({
        file: 'image',
        disk: new GuestModel(disk),
        snapshots: Object.fromEntries(models),
        isDamaged: !leaksOnly,
      });
      const { after } = await repair(bench.storage('image'), { mode });
      expect(after).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0, refusals: 0 });
    },
  };
}

describe('a cut while an image is repaired', () => {
  it.each(DAMAGES.map((each) => [each.name, each] as const))(
    '%s: nothing is lost, and another repair ends it',
    async (_, damage) => {
      const { failure, states } = await crash(repairing(damage), {
        seed: SEED,
        states: STATES,
        qemu: 2,
      });
      expect(failure).toBeUndefined();
      expect(states).toBeGreaterThan(2);
    },
  );

  it.each(DAMAGES.map((each) => [each.name, each] as const))(
    '%s: an error is told, and leaves the image no worse',
    async (_, damage) => {
      const options = { seed: SEED, faults: 6, states: 4 };
      expect((await crashWithFaults(repairing(damage), options)).failure).toBeUndefined();
    },
  );
});

describe('a cut while an image that was not closed is opened for writing', () => {
  const dirty = DAMAGES.find(({ name }) => name.startsWith('a dirty image'))!;
  const writing = onImage({
    name: 'repaired when opened',
    base: dirty.base,
    expect: () => ({ isDamaged: true }),
    run: async (image, model, bench, base) => {
      const bytes = new Uint8Array(8 * KIB).fill(0x5a);
      model.write(bench.position, 16 * KIB, bytes);
      await image.write(16 * KIB, bytes);
      await image.close();
      const disk = base.disk.slice();
      disk.set(bytes, 16 * KIB);
      model.flush(bench.position, disk);
    },
  });

  it('it is repaired first, then written', async () => {
    const { failure } = await crash(writing, { seed: SEED, states: STATES, qemu: 3 });
    expect(failure).toBeUndefined();
  });
});
