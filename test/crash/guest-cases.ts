import { setRefcount } from '../../src/format/refcount-entry.ts';
import { Image } from '../../src/image/image.ts';
import type { NewImageOptions } from '../../src/image/new-image.ts';
import type { OpenOptions } from '../../src/image/open-options.ts';
import { convert } from '../../src/operations/convert.ts';
import { create } from '../../src/operations/create.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import { buildImage, type ImageSpec } from '../hostile/builder.ts';
import { makeContent } from '../support/data.ts';
import { bitmapsTellAll } from './bitmaps.ts';
import type { ImageBase } from './image-operation.ts';
import type { WorkloadOptions } from './workload.ts';

/** A kind of image, and how a guest works on it. */
export interface GuestCase {
  readonly name: string;
  readonly base: () => Promise<ImageBase>;
  readonly workload: WorkloadOptions;
  readonly open?: OpenOptions;
  readonly lazyRefcounts?: boolean;
  /** What else must hold after a cut, of a disk that read `disk` at first: says what does not. */
  readonly also?: (image: Image, disk: Uint8Array) => Promise<string | undefined>;
  /** Share of all states judged. Default 1. */
  readonly weight?: number;
}

const KIB = 1024;

/** Rubbish behind the end, in clusters that nothing counts: what is not written must not be read. */
export function withRubbish(bytes: Uint8Array, clusterSize: number): Uint8Array {
  const end = Math.ceil(bytes.length / clusterSize) * clusterSize;
  const longer = new Uint8Array(end + 8 * clusterSize);
  longer.set(bytes);
  longer.fill(0xee, end);
  return longer;
}

/** An image of mixed content, converted. */
export async function converted(
  size: number,
  create: Omit<NewImageOptions, 'size'>,
  { compress = false, content = makeContent('mixed', size, 7) } = {},
): Promise<ImageBase> {
  const target = new MemoryStorage(new Uint8Array(0), 'image');
  const dataStorage = create.dataFile === undefined ? undefined : new MemoryStorage();
  const source = await Image.open(content.slice(), { format: 'raw' });
  await convert(source, { storage: target, dataStorage }, { format: 'qcow2', create, compress });
  await source.close();
  const image = withRubbish(target.bytes, create.clusterSize ?? 64 * KIB);
  const data = dataStorage && { [create.dataFile!]: dataStorage.bytes.slice() };
  return { files: { image, ...data }, disk: content };
}

/** An empty overlay over a backing file of half its length. */
export async function overlay(
  size: number,
  options: Omit<NewImageOptions, 'size'>,
  below: 'raw' | 'qcow2',
): Promise<ImageBase> {
  const content = makeContent('mixed', size / 2, 9);
  const lower = await converted(size / 2, { clusterSize: 4096 }, { compress: true, content });
  const backing = below === 'raw' ? content : lower.files.image!;
  const target = new MemoryStorage(new Uint8Array(0), 'image');
  const names = { backingFile: 'backing', backingFormat: below };
  await create(target, { ...options, ...names, format: 'qcow2', size });
  const disk = new Uint8Array(size);
  disk.set(content);
  return {
    files: { image: withRubbish(target.bytes, options.clusterSize ?? 64 * KIB), backing },
    disk,
  };
}

/** A small image with clusters of every kind. */
export function built(spec: ImageSpec): ImageBase {
  const image = buildImage(spec);
  const { geometry } = image;
  const guest = new Uint8Array(spec.size ?? image.guest.length);
  guest.set(image.guest);
  const names = (spec.snapshots ?? []).map((_, i) => [`snapshot${i + 1}`, guest] as const);
  return {
    files: { image: withRubbish(image.bytes, geometry.clusterSize) },
    disk: guest,
    snapshots: Object.fromEntries(names),
  };
}

/**
 * Clusters of 512 bytes with 64-bit counters: the refcount table has room for 2 MiB of file. All but
 * the last of it is counted (and leaked), so that the table soon has to grow.
 */
async function crowded(size: number): Promise<ImageBase> {
  const cluster = 512;
  const perBlock = 64;
  const blocks = 62;
  const content = new Uint8Array(size);
  const options = { clusterSize: cluster, refcountBits: 64 };
  const { files, disk } = await converted(size, options, { content });
  const image = new Uint8Array(blocks * perBlock * cluster);
  image.set(files.image!);
  const view = new DataView(image.buffer);
  const table = Number(view.getBigUint64(48));
  for (let block = 0; block < blocks; block++) {
    const entry = table + block * 8;
    const isNew = view.getBigUint64(entry) === 0n;
    const at = isNew ? block * perBlock * cluster : Number(view.getBigUint64(entry));
    if (isNew) view.setBigUint64(entry, BigInt(at));
    const counters = image.subarray(at, at + cluster);
    for (let i = 0; i < perBlock; i++)
      if (view.getBigUint64(at + i * 8) === 0n) setRefcount(counters, i, 6, 1);
  }
  return { files: { image }, disk };
}

/** A small image with a bitmap in which no bit is set. */
export function withEmptyBitmap(spec: ImageSpec): ImageBase {
  const base = built(spec);
  const [table] = buildImage(spec).at.bitmapTables;
  base.files.image!.fill(0, table, table! + 8);
  return base;
}

export const GUEST_CASES: readonly GuestCase[] = [
  {
    name: 'plain',
    base: () => converted(256 * KIB, { clusterSize: 4096 }),
    workload: { requests: 80 },
  },
  {
    name: 'large clusters',
    base: () => converted(1024 * KIB, {}),
    workload: { requests: 60, longest: 100 },
    weight: 0.5,
  },
  {
    name: '512-byte clusters',
    base: () => converted(96 * KIB, { clusterSize: 512 }),
    workload: { requests: 80 },
  },
  {
    name: 'version 2',
    base: () => converted(256 * KIB, { clusterSize: 4096, compat: '0.10' }),
    workload: { requests: 80 },
  },
  {
    name: 'compressed clusters',
    base: () => converted(256 * KIB, { clusterSize: 4096 }, { compress: true }),
    workload: { requests: 80 },
  },
  {
    name: 'overlay',
    base: () => overlay(256 * KIB, { clusterSize: 4096 }, 'qcow2'),
    workload: { requests: 80 },
  },
  {
    name: 'version 2 overlay',
    base: () => overlay(256 * KIB, { clusterSize: 4096, compat: '0.10' }, 'raw'),
    workload: { requests: 80 },
  },
  {
    name: 'extended L2',
    base: () => converted(256 * KIB, { clusterSize: 16 * KIB, extendedL2: true }),
    workload: { requests: 80 },
  },
  {
    name: 'extended L2 overlay',
    base: () => overlay(256 * KIB, { clusterSize: 16 * KIB, extendedL2: true }, 'raw'),
    workload: { requests: 80 },
  },
  {
    name: 'snapshot',
    base: async () => built({ clusters: 'HHZA.CHHHH', snapshots: [{}] }),
    workload: { requests: 80 },
  },
  {
    name: 'snapshot, 512-byte clusters',
    base: async () =>
      built({ clusterBits: 9, size: 64 * KIB, clusters: 'HHZA.CHHHH', snapshots: [{}] }),
    workload: { requests: 80 },
  },
  {
    name: 'snapshot, extended L2',
    base: async () => built({ clusters: 'HHZAH.HHH', extendedL2: true, snapshots: [{}] }),
    workload: { requests: 80 },
  },
  {
    name: 'zero clusters, one-bit counters',
    base: async () => built({ clusters: 'ZZAAHH.C', refcountOrder: 0 }),
    workload: { requests: 80, longest: 24 },
  },
  {
    name: 'bitmap',
    base: async () => withEmptyBitmap({ clusters: 'HHZA.C', bitmaps: [{ granularityBits: 9 }] }),
    workload: { requests: 60 },
    also: bitmapsTellAll,
  },
  {
    name: 'lazy refcounts',
    base: () => converted(256 * KIB, { clusterSize: 4096, lazyRefcounts: true }),
    workload: { requests: 80 },
    lazyRefcounts: true,
  },
  {
    name: 'lazy refcounts, overlay',
    base: () => overlay(256 * KIB, { clusterSize: 4096, lazyRefcounts: true }, 'raw'),
    workload: { requests: 80 },
    lazyRefcounts: true,
  },
  {
    name: 'data file',
    base: () => converted(256 * KIB, { clusterSize: 4096, dataFile: 'data' }),
    workload: { requests: 80 },
  },
  {
    name: 'raw data file',
    base: () => converted(256 * KIB, { clusterSize: 4096, dataFile: 'data', dataFileRaw: true }),
    workload: { requests: 60 },
  },
  {
    name: 'growing refcount table',
    base: () => crowded(192 * KIB),
    workload: { requests: 60, longest: 40, flushOneIn: 8 },
    weight: 0.5,
  },
  {
    name: 'small table cache',
    base: () => converted(1024 * KIB, { clusterSize: 512 }, { content: new Uint8Array(1 << 20) }),
    workload: { requests: 60, longest: 100, flushOneIn: 30 },
    open: { cacheBytes: 1 },
    weight: 0.5,
  },
];
