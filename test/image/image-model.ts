import { Buffer } from 'node:buffer';
import { BITMAP_AUTO } from '../../src/format/bitmap-directory.ts';
import type { Image } from '../../src/image/image.ts';
import type { OpenOptions } from '../../src/image/open-options.ts';
import { check } from '../../src/operations/check.ts';
import { dirtyGranules } from '../crash/bitmaps.ts';
import { readAll, withKernel } from '../crash/verdict.ts';
import type { KindImage, WriteKind } from './write-kinds.ts';
import { firstDifference, Subject } from './write-model.ts';

/** A bitmap of the model. */
export interface ModelBitmap {
  readonly granularity: number;
  enabled: boolean;
  /** Indexes of the granules whose bits are set. */
  dirty: Set<number>;
}

/** All that an image must hold: plain arrays, that do what operations say they do. */
export class ImageModel {
  readonly kind: WriteKind;
  disk: Uint8Array;
  /** What each internal snapshot holds, by name. */
  readonly snapshots: Map<string, Uint8Array>;
  readonly bitmaps: Map<string, ModelBitmap>;
  /** Names given so far. */
  names = 0;
  /** Whether the disk has had another length than at first. */
  isResized = false;
  /** Whether there is a backing file. */
  hasBacking: boolean;
  refcountBits: number;

  private constructor(
    { kind, disk, snapshots }: KindImage,
    bitmaps: ReadonlyMap<string, ModelBitmap>,
  ) {
    this.kind = kind;
    this.hasBacking = kind.hasBacking;
    this.refcountBits = kind.refcountBits;
    this.disk = disk.slice();
    this.snapshots = new Map(snapshots);
    this.bitmaps = new Map(
      [...bitmaps].map(([name, bitmap]) => [name, { ...bitmap, dirty: new Set(bitmap.dirty) }]),
    );
  }

  /** Models of an image of a kind, as many as wanted. */
  static async of(image: KindImage): Promise<() => ImageModel> {
    const bitmaps = await withImage(new Subject(image, 0), {}, bitmapsOf);
    return () => new ImageModel(image, bitmaps);
  }

  /** A part of the disk as it is now, for a range drawn for one of any length. */
  range({ at, length }: { at: number; length: number }): { at: number; length: number } {
    const start = at % (this.disk.length + 1);
    return { at: start, length: Math.min(length, this.disk.length - start) };
  }

  /** Records a change of guest bytes in the bitmaps. */
  record(at: number, length: number): void {
    if (length === 0) return;
    for (const { enabled, granularity, dirty } of this.bitmaps.values()) {
      if (!enabled) continue;
      const last = Math.floor((at + length - 1) / granularity);
      for (let i = Math.floor(at / granularity); i <= last; i++) dirty.add(i);
    }
  }

  resize(size: number): void {
    const disk = new Uint8Array(size);
    disk.set(this.disk.subarray(0, size));
    this.disk = disk;
    this.isResized = true;
    for (const { granularity, dirty } of this.bitmaps.values())
      for (const granule of dirty) if (granule * granularity >= size) dirty.delete(granule);
  }
}

/** Runs work on an image, with memory for tables that was used before. */
export function withImage<T>(
  subject: Subject,
  options: OpenOptions,
  work: (image: Image) => Promise<T>,
): Promise<T> {
  return withKernel(async (kernel) => {
    const image = await subject.openWith({ ...options, kernel });
    try {
      return await work(image);
    } finally {
      await image.close();
    }
  });
}

async function bitmapsOf(image: Image): Promise<Map<string, ModelBitmap>> {
  const bitmaps = new Map<string, ModelBitmap>();
  for (const entry of await image.bitmaps()) {
    const dirty = await dirtyGranules(image, entry);
    const enabled = (entry.flags & BITMAP_AUTO) !== 0;
    bitmaps.set(entry.name.text, { granularity: 2 ** entry.granularityBits, enabled, dirty });
  }
  return bitmaps;
}

/**
 * Says where an image that is closed differs from a model: in the disk, a snapshot, the bitmaps, the
 * data file, or in what `check` finds.
 */
export async function differences(subject: Subject, model: ImageModel): Promise<string[]> {
  const found: string[] = [];
  const same = (what: string, bytes: Uint8Array, wanted: Uint8Array): void => {
    if (Buffer.compare(bytes, wanted) === 0) return;
    const lengths = `${bytes.length} bytes, not ${wanted.length}`;
    const at = firstDifference(bytes, wanted);
    const values = `${bytes[at]}, not ${wanted[at]}`;
    found.push(`${what}: ${bytes.length === wanted.length ? `byte ${at} is ${values}` : lengths}`);
  };
  const { bitmaps, names } = await withImage(subject, {}, async (image) => {
    same('disk', await readAll(image), model.disk);
    const snapshots = await image.snapshots();
    return { bitmaps: await bitmapsOf(image), names: snapshots.map(({ name }) => name.text) };
  });
  const wantedNames = [...model.snapshots.keys()];
  if (names.join() !== wantedNames.join()) found.push(`snapshots are ${names}, not ${wantedNames}`);
  else
    for (const [name, disk] of model.snapshots)
      same(`snapshot ${name}`, await withImage(subject, { snapshot: { name } }, readAll), disk);
  const [are, wanted] = [textOf(bitmaps), textOf(model.bitmaps)];
  if (are !== wanted) found.push(`bitmaps are ${are}, not ${wanted}`);
  const data = subject.files.get('data.raw');
  if (data !== undefined) {
    const before = subject.image.files.get('data.raw')!.length;
    if (!model.isResized && data.size !== before) found.push(`data file: ${data.size} bytes`);
    // Preallocation by QEMU leaves it longer than an odd disk; what is behind its end is zeros.
    const bytes = new Uint8Array(model.disk.length);
    bytes.set(data.bytes.subarray(0, bytes.length));
    if (model.kind.name.startsWith('raw data file')) same('data file alone', bytes, model.disk);
  }
  await withKernel(async (kernel) => {
    const resolver: OpenOptions['resolver'] = ({ name }) => subject.files.get(name) ?? null;
    const { findings } = await check(subject.files.get('image.qcow2')!, { resolver, kernel });
    found.push(...findings.map(({ message }) => message));
  });
  return found;
}

function textOf(bitmaps: ReadonlyMap<string, ModelBitmap>): string {
  const lines = [...bitmaps].map(([name, { granularity, enabled, dirty }]) => {
    const bits = [...dirty].sort((a, b) => a - b).join();
    return `${name} (${granularity}, ${enabled ? 'on' : 'off'}: ${bits})`;
  });
  return lines.join(' ');
}
