import { describe, expect, it } from 'vitest';
import { Image } from '../../src/image/image.ts';
import { type AmendOptions, amend } from '../../src/operations/amend.ts';
import { create } from '../../src/operations/create.ts';
import { createSnapshot } from '../../src/operations/snapshot.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import { makeContent } from '../support/data.ts';
import { type CrashCase, crash, crashWithFaults } from './crash-case.ts';
import { built, converted, withRubbish } from './guest-cases.ts';
import { type ImageBase, onImage } from './image-operation.ts';
import { readAll } from './verdict.ts';

const STATES = Number(process.env.QCOW2_CRASH_STATES ?? 4000) / 30;
const SEED = Number(process.env.QCOW2_CRASH_SEED ?? 1);
const KIB = 1024;

/** An image made by writes, and what it and its snapshot `old` read then. */
async function written(
  options: Parameters<typeof create>[1],
  write: (image: Image) => Promise<void>,
  files: Readonly<Record<string, Uint8Array>> = {},
  hasSnapshot = false,
): Promise<ImageBase> {
  const target = new MemoryStorage(new Uint8Array(0), 'image');
  await create(target, options);
  const image = await Image.open(target, {
    writable: true,
    resolver: ({ name }) => files[name]?.slice() ?? null,
  });
  await write(image);
  const old = await readAll(image);
  if (hasSnapshot) {
    await createSnapshot(image, 'old');
    await image.write(4096, new Uint8Array(9000).fill(0x5e));
    await image.writeZeroes(40 * KIB, 20 * KIB);
  }
  const disk = await readAll(image);
  await image.close();
  const bytes = withRubbish(target.bytes.slice(), options.clusterSize ?? 64 * KIB);
  return { files: { ...files, image: bytes }, disk, ...(hasSnapshot && { snapshots: { old } }) };
}

/** An overlay with zeros over data, some of them in reserved clusters. */
function overlay(name: string, hasSnapshot: boolean, clusterSize = 4096): Promise<ImageBase> {
  const size = 128 * KIB;
  return written(
    { format: 'qcow2', size, clusterSize, backingFile: name, backingFormat: 'raw' },
    async (image) => {
      await image.write(8192, makeContent('random', 20 * KIB, 4));
      await image.writeZeroes(12 * KIB, 8 * KIB);
      await image.writeZeroes(60 * KIB, 30 * KIB, { unmap: true });
    },
    { [name]: makeContent('random', 100 * KIB, 3) },
    hasSnapshot,
  );
}

interface Amended {
  readonly name: string;
  readonly base: () => Promise<ImageBase>;
  readonly options: AmendOptions;
  /** While it is under way the dirty bit is set. */
  readonly isMarked?: boolean;
}

const plain = () => converted(256 * KIB, { clusterSize: 4096 });
const small = () => converted(96 * KIB, { clusterSize: 512 });
const LONG_NAME = `${'./'.repeat(300)}backing`;

const CASES: readonly Amended[] = [
  { name: 'to version 2', base: plain, options: { compat: '0.10' } },
  {
    name: 'to version 2, zero clusters',
    base: async () => built({ clusters: 'HHZAH.HZA' }),
    options: { compat: '0.10' },
  },
  {
    name: 'to version 2, zero clusters in a snapshot',
    base: async () => built({ clusters: 'HHZAH.HZA', snapshots: [{}] }),
    options: { compat: '0.10' },
    isMarked: true,
  },
  {
    name: 'to version 2, zero clusters over a backing file',
    base: () => overlay('backing', false),
    options: { compat: '0.10' },
  },
  {
    name: 'to version 2, zero clusters over a backing file, snapshot, 512-byte clusters',
    base: () => overlay('backing', true, 512),
    options: { compat: '0.10' },
    isMarked: true,
  },
  {
    name: 'to version 2, long backing name',
    base: () => overlay(LONG_NAME, false),
    options: { compat: '0.10' },
  },
  {
    name: 'to version 3, long backing name',
    base: () =>
      written(
        {
          format: 'qcow2',
          size: 128 * KIB,
          clusterSize: 4096,
          backingFile: LONG_NAME,
          backingFormat: 'raw',
          compat: '0.10',
        },
        (image) => image.write(8192, makeContent('random', 20 * KIB, 4)),
        { [LONG_NAME]: makeContent('random', 100 * KIB, 3) },
      ),
    options: { compat: '1.1' },
  },
  {
    name: 'to version 3 with 64-bit counters, lazy',
    base: () => converted(256 * KIB, { clusterSize: 8192, compat: '0.10' }),
    options: { compat: '1.1', refcountBits: 64, lazyRefcounts: true },
  },
  {
    name: 'to version 3, snapshots without extra data',
    base: async () =>
      built({
        clusters: 'HHH.H',
        version: 2,
        snapshots: [{ vmStateSize64: undefined, diskSize: undefined, icount: undefined }],
      }),
    options: { compat: '1.1' },
  },
  { name: '16 to 64 bits', base: plain, options: { refcountBits: 64 } },
  { name: '16 to 64 bits, 512-byte clusters', base: small, options: { refcountBits: 64 } },
  { name: '16 to 1 bit', base: small, options: { refcountBits: 1 } },
  {
    name: '16 to 8 bits, compressed clusters',
    base: () => converted(256 * KIB, { clusterSize: 4096 }, { compress: true }),
    options: { refcountBits: 8 },
  },
  {
    name: '16 to 2 bits, snapshot',
    base: () => overlay('backing', true),
    options: { refcountBits: 2 },
  },
  {
    name: '1 to 16 bits, to version 2',
    base: () => converted(96 * KIB, { clusterSize: 512, refcountBits: 1 }),
    options: { refcountBits: 16, compat: '0.10' },
  },
  { name: 'lazy refcounts on', base: plain, options: { lazyRefcounts: true } },
  {
    name: 'lazy refcounts off, larger',
    base: () => converted(256 * KIB, { clusterSize: 4096, lazyRefcounts: true }),
    options: { lazyRefcounts: false },
  },
  {
    name: 'another data file name',
    base: async () => {
      const made = await converted(256 * KIB, { clusterSize: 8192, dataFile: 'data' });
      const elsewhere = 'a-data-file-with-a-longer-name';
      return { ...made, files: { ...made.files, [elsewhere]: made.files.data! } };
    },
    options: { dataFile: 'a-data-file-with-a-longer-name' },
  },
  {
    name: 'data file no longer raw',
    base: () => converted(256 * KIB, { clusterSize: 4096, dataFile: 'data', dataFileRaw: true }),
    options: { dataFileRaw: false },
  },
];

function amending({ name, base, options, isMarked }: Amended): CrashCase {
  return onImage({
    name,
    base,
    ...(isMarked && { expect: () => ({ lazyRefcounts: true }) }),
    run: async (image) => {
      await amend(image, options);
      await image.close();
    },
  });
}

describe('a cut while an image is amended', () => {
  for (const amended of CASES) {
    it(`${amended.name}: it opens, old or new, with the same contents`, async () => {
      const options = { seed: SEED, states: Math.ceil(STATES), qemu: 12 };
      const { failure, states } = await crash(amending(amended), options);
      expect(failure).toBeUndefined();
      expect(states).toBeGreaterThan(1);
    });

    it(`${amended.name}: an error leaves an image as sound`, async () => {
      const options = { seed: SEED, faults: 10, states: 8 };
      const { failure } = await crashWithFaults(amending(amended), options);
      expect(failure).toBeUndefined();
    });
  }
});
