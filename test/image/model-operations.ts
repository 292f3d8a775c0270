import fc from 'fast-check';
import { isQcow2Error, type Qcow2ErrorCode } from '../../src/errors.ts';
import { Image } from '../../src/image/image.ts';
import type { OpenOptions } from '../../src/image/open-options.ts';
import { amend } from '../../src/operations/amend.ts';
import {
  addBitmap,
  clearBitmap,
  disableBitmap,
  enableBitmap,
  mergeBitmap,
  removeBitmap,
} from '../../src/operations/bitmap.ts';
import { check } from '../../src/operations/check.ts';
import { commit } from '../../src/operations/commit.ts';
import { rebase } from '../../src/operations/rebase.ts';
import { resize } from '../../src/operations/resize.ts';
import { applySnapshot, createSnapshot, deleteSnapshot } from '../../src/operations/snapshot.ts';
import { readAll } from '../crash/verdict.ts';
import { type ImageModel, withImage } from './image-model.ts';
import type { WriteKind } from './write-kinds.ts';
import { applyToModel, bytesOf, firstDifference, rangeOn, type Subject } from './write-model.ts';

/**
 * One thing done to an image and to its model. `run` must leave both the same; the image is open for
 * writing.
 */
interface Operation<A> {
  /** How often it is drawn. */
  readonly weight: number;
  /** Whether it is done to images of a kind; default: to all. */
  readonly fits?: (kind: WriteKind) => boolean;
  /** What it is called with, on images of a kind. */
  readonly arbitrary: (kind: WriteKind) => fc.Arbitrary<A>;
  /** Settles with `RETIRED` where the image takes nothing but `close` from here on. */
  run(image: Image, model: ImageModel, argument: A, subject: Subject): Promise<unknown>;
}

const RETIRED = Symbol('retired');

interface Range {
  readonly at: number;
  readonly length: number;
}
interface Write extends Range {
  readonly fill: number;
}

/** Ranges reach behind the end of a disk, which may have become longer. */
const ranges = (kind: WriteKind) => rangeOn({ ...kind, size: kind.size * 1.25 });
const numbers = () => fc.nat(1000);

const write: Operation<Write> = {
  weight: 16,
  arbitrary: (kind) =>
    fc
      .tuple(ranges(kind), fc.integer({ min: 1, max: 255 }))
      .map(([range, fill]) => ({ ...range, fill })),
  async run(image, model, { fill, ...drawn }) {
    const bytes = bytesOf({ ...model.range(drawn), fill });
    const { at, length } = model.range(drawn);
    model.disk.set(bytes, at);
    model.record(at, length);
    await image.write(at, bytes);
  },
};

const zero: Operation<Range & { unmap: boolean }> = {
  weight: 8,
  arbitrary: (kind) =>
    fc.tuple(ranges(kind), fc.boolean()).map(([range, unmap]) => ({ ...range, unmap })),
  async run(image, model, { unmap, ...drawn }) {
    const { at, length } = model.range(drawn);
    model.disk.fill(0, at, at + length);
    model.record(at, length);
    await image.writeZeroes(at, length, { unmap });
  },
};

const discard: Operation<Range> = {
  weight: 6,
  arbitrary: ranges,
  async run(image, model, drawn) {
    const { at, length } = model.range(drawn);
    const { hasBacking } = model;
    const kind = { ...model.kind, hasBacking, size: model.disk.length };
    applyToModel(model.disk, { do: 'discard', at, length }, kind);
    model.record(at, length);
    await image.discard(at, length);
  },
};

const flush: Operation<null> = {
  weight: 3,
  arbitrary: () => fc.constant(null),
  run: (image) => image.flush(),
};

const read: Operation<null> = {
  weight: 2,
  arbitrary: () => fc.constant(null),
  async run(image, model) {
    const bytes = new Uint8Array(image.virtualSize);
    await image.read(0, bytes);
    if (bytes.length !== model.disk.length)
      throw new Error(`the disk has ${bytes.length} bytes, not ${model.disk.length}`);
    const at = firstDifference(bytes, model.disk);
    if (at >= 0) throw new Error(`guest byte ${at} is ${bytes[at]}, not ${model.disk[at]}`);
  },
};

const resizing: Operation<{ sectors: number; ahead: boolean }> = {
  weight: 3,
  arbitrary: ({ size, clusterSize }) =>
    fc.record({
      sectors: fc.oneof(
        fc.integer({ min: 1, max: Math.floor((size * 1.25) / 512) }),
        fc.integer({ min: 1, max: Math.floor((size * 1.25) / clusterSize) }).map((n) => {
          return (n * clusterSize) / 512;
        }),
      ),
      ahead: fc.boolean(),
    }),
  async run(image, model, { sectors, ahead }) {
    const size = sectors * 512;
    const grows = size > model.disk.length;
    // Tables are shared, and version 2 does not tell the length of a snapshot's disk.
    const refuses = model.kind.version === 2 && model.snapshots.size > 0;
    const preallocation = ahead && grows ? 'metadata' : 'off';
    const resized = resize(image, size, { shrink: true, preallocation });
    if (await isDone(resized, refuses ? 'UNSUPPORTED' : undefined)) model.resize(size);
  },
};

const snapshotCreate: Operation<null> = {
  weight: 4,
  arbitrary: () => fc.constant(null),
  async run(image, model) {
    const { kind } = model;
    const name = `s${model.names++}`;
    const created = createSnapshot(image, name);
    if (kind.hasDataFile) await isDone(created, 'UNSUPPORTED');
    else if (hasRoom(model) || (await fits(created)))
      await created.then(() => model.snapshots.set(name, model.disk.slice()));
  },
};

const snapshotApply: Operation<number> = {
  weight: 3,
  arbitrary: numbers,
  async run(image, model, n) {
    const name = pick(model.snapshots, n);
    if (name === undefined) return;
    const disk = model.snapshots.get(name)!;
    const otherSize = model.kind.version === 2 && disk.length !== model.disk.length;
    const applied = applySnapshot(image, { name });
    if (model.bitmaps.size > 0 || otherSize) await isDone(applied, 'REFUSED');
    else if (hasRoom(model) || (await fits(applied))) {
      await applied;
      if (disk.length !== model.disk.length) model.isResized = true;
      model.disk = disk.slice();
    }
  },
};

const snapshotDelete: Operation<number> = {
  weight: 3,
  arbitrary: numbers,
  async run(image, model, n) {
    const name = pick(model.snapshots, n);
    if (name === undefined) return;
    await deleteSnapshot(image, { name });
    model.snapshots.delete(name);
  },
};

const bitmapAdd: Operation<{ bits: number; enabled: boolean }> = {
  weight: 3,
  arbitrary: () => fc.record({ bits: fc.integer({ min: 9, max: 21 }), enabled: fc.boolean() }),
  async run(image, model, { bits, enabled }) {
    const name = `b${model.names++}`;
    const granularity = 2 ** bits;
    const added = addBitmap(image, name, { granularity, enabled });
    if (await isDone(added, model.kind.version === 2 ? 'UNSUPPORTED' : undefined))
      model.bitmaps.set(name, { granularity, enabled, dirty: new Set() });
  },
};

const bitmapChange: Operation<{ n: number; change: 'remove' | 'clear' | 'enable' | 'disable' }> = {
  weight: 5,
  arbitrary: () =>
    fc.record({
      n: numbers(),
      change: fc.constantFrom('remove', 'clear', 'enable', 'disable'),
    }),
  async run(image, model, { n, change }) {
    const name = pick(model.bitmaps, n);
    if (name === undefined) return;
    const bitmap = model.bitmaps.get(name)!;
    if (change === 'remove') {
      await removeBitmap(image, name);
      model.bitmaps.delete(name);
    } else if (change === 'clear') {
      await clearBitmap(image, name);
      bitmap.dirty.clear();
    } else {
      await (change === 'enable' ? enableBitmap : disableBitmap)(image, name);
      bitmap.enabled = change === 'enable';
    }
  },
};

const bitmapMerge: Operation<{ n: number; m: number }> = {
  weight: 3,
  arbitrary: () => fc.record({ n: numbers(), m: numbers() }),
  async run(image, model, { n, m }) {
    const [name, source] = [pick(model.bitmaps, n), pick(model.bitmaps, m)];
    if (name === undefined || source === undefined) return;
    await mergeBitmap(image, name, source);
    const { granularity, dirty } = model.bitmaps.get(name)!;
    const { granularity: other, dirty: added } = model.bitmaps.get(source)!;
    for (const granule of [...added]) {
      const end = Math.min((granule + 1) * other, model.disk.length);
      for (let i = Math.floor((granule * other) / granularity); i * granularity < end; i++)
        dirty.add(i);
    }
  },
};

const amending: Operation<{ refcountBits: number; lazyRefcounts: boolean }> = {
  weight: 2,
  arbitrary: () =>
    fc.record({
      refcountBits: fc.constantFrom(1, 2, 4, 8, 16, 16, 32, 64),
      lazyRefcounts: fc.boolean(),
    }),
  async run(image, model, options) {
    const { refcountBits, lazyRefcounts } = options;
    const amended = amend(image, options);
    if (model.kind.version === 2 && (refcountBits !== 16 || lazyRefcounts))
      await isDone(amended, 'UNSUPPORTED');
    else if (refcountBits >= model.refcountBits || (await fits(amended)))
      await amended.then(() => {
        model.refcountBits = refcountBits;
      });
  },
};

/** Snapshots show what becomes of the backing file; only where there are none is it known what. */
const backs = (model: ImageModel): boolean => model.hasBacking && model.snapshots.size === 0;

const committing: Operation<{ depth: number; keep: boolean }> = {
  weight: 3,
  fits: ({ hasBacking }) => hasBacking,
  arbitrary: () => fc.record({ depth: fc.integer({ min: 1, max: 2 }), keep: fc.boolean() }),
  async run(image, model, options, { files }) {
    if (!backs(model)) return;
    const { layers } = await image.chain();
    const depth = Math.min(options.depth, layers.length - 1);
    const storage = files.get(layers[depth]!.layer.storage.name!)!;
    const resolver: OpenOptions['resolver'] = ({ name }) => files.get(name) ?? null;
    const { kernel } = image;
    const base = await Image.open(storage, { writable: true, kernel, resolver });
    const size = Math.max(base.virtualSize, model.disk.length);
    await commit(image, base, { ...options, depth });
    const found = await readAll(base);
    await base.close();
    if (found.length !== size) throw new Error(`the base has ${found.length} bytes, not ${size}`);
    const at = firstDifference(found.subarray(0, model.disk.length), model.disk);
    if (at >= 0) throw new Error(`byte ${at} of the base is ${found[at]}, not ${model.disk[at]}`);
    const findings =
      base.format === 'raw' ? [] : (await check(storage, { kernel, resolver })).findings;
    if (findings.length > 0) throw new Error(`the base: ${findings[0]!.message}`);
    return RETIRED;
  },
};

const rebasing: Operation<null> = {
  weight: 1,
  fits: ({ hasBacking }) => hasBacking,
  arbitrary: () => fc.constant(null),
  async run(image, model) {
    if (!backs(model)) return;
    await rebase(image);
    model.hasBacking = false;
    return RETIRED;
  },
};

/** Every operation there is: one that is new to the library is added here. */
const OPERATIONS = {
  write,
  zero,
  discard,
  flush,
  read,
  resize: resizing,
  snapshotCreate,
  snapshotApply,
  snapshotDelete,
  bitmapAdd,
  bitmapChange,
  bitmapMerge,
  amend: amending,
  commit: committing,
  rebase: rebasing,
};

/** An operation with what it is called with; `reopen` closes the image and opens it again. */
export type ModelStep =
  | { readonly do: 'reopen' }
  | { readonly do: keyof typeof OPERATIONS; readonly with: unknown };

/** What is drawn of an operation, whatever it is called with. */
type Drawn = Pick<Operation<unknown>, 'weight' | 'arbitrary' | 'fits'>;

/** A sequence of operations on images of a kind. */
export function modelSteps(kind: WriteKind): fc.Arbitrary<ModelStep[]> {
  const operations: [string, Drawn][] = Object.entries(OPERATIONS);
  const fitting = operations.filter(([, { fits }]) => fits?.(kind) ?? true);
  const steps = fitting.map(([name, { weight, arbitrary }]) => ({
    weight,
    arbitrary: arbitrary(kind).map((argument) => ({ do: name, with: argument }) as ModelStep),
  }));
  const reopen = { weight: 4, arbitrary: fc.constant<ModelStep>({ do: 'reopen' }) };
  return fc.array(fc.oneof(reopen, ...steps), { minLength: 1, maxLength: 16 });
}

/** Runs a sequence on an image and its model, and closes the image. */
export async function runModel(
  subject: Subject,
  model: ImageModel,
  steps: readonly ModelStep[],
): Promise<void> {
  const left = [...steps];
  do {
    await withImage(subject, { writable: true }, async (image) => {
      for (let step = left.shift(); step !== undefined; step = left.shift()) {
        if (step.do === 'reopen') return;
        const operation: Pick<Operation<never>, 'run'> = OPERATIONS[step.do];
        const outcome = await operation.run(image, model, step.with as never, subject);
        if (outcome === RETIRED) return;
      }
    });
  } while (left.length > 0);
}

/** The name a number stands for, of those there are. */
function pick(names: ReadonlyMap<string, unknown>, n: number): string | undefined {
  return [...names.keys()][n % Math.max(1, names.size)];
}

/** Whether something was done; with `refusal` it must be refused so. */
async function isDone(work: Promise<unknown>, refusal: Qcow2ErrorCode | undefined) {
  try {
    await work;
  } catch (error) {
    if (isQcow2Error(error) && error.code === refusal) return false;
    throw error;
  }
  if (refusal !== undefined) throw new Error(`was done, instead of refused with ${refusal}`);
  return true;
}

/** Whether counters have room for one more owner of each cluster, however many there are. */
function hasRoom({ refcountBits, kind }: ImageModel): boolean {
  return refcountBits > 8 || (refcountBits > 2 && !kind.name.startsWith('compressed'));
}

/** Whether something was done; it is not where a counter has too few bits. */
async function fits(work: Promise<unknown>): Promise<boolean> {
  try {
    await work;
    return true;
  } catch (error) {
    if (isQcow2Error(error) && error.code === 'TOO_LARGE') return false;
    throw error;
  }
}
