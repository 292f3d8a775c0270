import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { INCOMPATIBLE_DIRTY } from '../../src/format/feature-bits.ts';
import { Image } from '../../src/image/image.ts';
import { check } from '../../src/operations/check.ts';
import type { MemoryStorage } from '../../src/storage/memory.ts';
import { Random } from '../fuzz/random.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { afterCut, type Change, RecordingStorage } from './recording-storage.ts';
import { type KindImage, makeKind, WRITE_KINDS } from './write-kinds.ts';
import { applyToModel, bytesOf, firstDifference, stepsOn, type WriteStep } from './write-model.ts';

const RUNS = Number(process.env.QCOW2_WRITE_RUNS ?? 2);
const SEED = Number(process.env.QCOW2_WRITE_SEED ?? 30);
const CUTS = 16;
const KINDS = [
  'version 3',
  'clusters of 512 bytes',
  '64-bit refcounts, 512 bytes',
  'refcount table that is nearly full',
  'snapshots',
  'compressed with snapshots',
  'extended L2 over a backing chain',
  'backing chain, clusters of 4 KiB',
  'data file',
  'raw data file',
  'lazy refcounts with snapshots',
  'bitmaps',
];
const SECTOR = 512;

/** Which changes that were not synced reach the disk all the same: of the first `count`. */
const SURVIVORS: readonly ((random: Random, count: number) => (index: number) => boolean)[] = [
  () => () => false,
  () => () => true,
  (random) => () => random.oneIn(2),
  (_, count) => (index) => index === count - 1,
];

/** A run of steps, recorded: what was changed, and what the disk held after each step. */
interface Recording {
  log: Change[];
  /** The disk before the first step, and after each. */
  disks: Uint8Array[];
  /** Changes in the log when each step began, and in the end. */
  began: number[];
  /** Steps that made everything before them durable. */
  flushes: number[];
}

async function record(image: KindImage, steps: readonly WriteStep[]): Promise<Recording> {
  const recording: Recording = { log: [], disks: [image.disk], began: [], flushes: [] };
  const files = new Map<string, RecordingStorage>();
  for (const [name, bytes] of image.files)
    files.set(name, new RecordingStorage(name, bytes, recording.log));
  const open = () =>
    Image.open(files.get('image.qcow2')!, {
      resolver: ({ name }) => files.get(name) ?? null,
      writable: true,
      cacheBytes: 0,
    });
  let disk = await open();
  for (const [i, step] of [...steps, { do: 'reopen' } as const].entries()) {
    recording.began.push(recording.log.length);
    const model = recording.disks.at(-1)!.slice();
    applyToModel(model, step, image.kind);
    if (step.do === 'write') await disk.write(step.at, bytesOf(step));
    else if (step.do === 'zero')
      await disk.writeZeroes(step.at, step.length, { unmap: step.unmap });
    else if (step.do === 'discard') await disk.discard(step.at, step.length);
    else if (step.do === 'flush') await disk.flush();
    else if (step.do === 'reopen') {
      await disk.close();
      disk = await open();
    }
    if (step.do === 'flush' || step.do === 'reopen') recording.flushes.push(i);
    recording.disks.push(model);
  }
  recording.began.push(recording.log.length);
  await disk.close();
  return recording;
}

/** Every sector of the disk is as it was after the last flush, or as a step since made it. */
function requirePossible(disk: Uint8Array, possible: readonly Uint8Array[]): void {
  for (let at = 0; at < disk.length; at += SECTOR) {
    const sector = disk.subarray(at, at + SECTOR);
    const isPossible = possible.some(
      (model) => Buffer.compare(model.subarray(at, at + SECTOR), sector) === 0,
    );
    if (!isPossible) throw new Error(`sector at ${at} holds what was never written there`);
  }
}

async function requireSound(
  files: ReadonlyMap<string, MemoryStorage>,
  image: KindImage,
  possible: readonly Uint8Array[],
): Promise<void> {
  const resolver = ({ name }: { name: string }) => files.get(name) ?? null;
  const file = files.get('image.qcow2')!;
  const read = async (snapshot?: string): Promise<Uint8Array> => {
    const opened = await Image.open(file, { resolver, ...(snapshot ? { snapshot } : {}) });
    const disk = new Uint8Array(opened.virtualSize);
    await opened.read(0, disk);
    const bits = opened.metadata!.header.incompatibleFeatures;
    await opened.close();
    isDirty = (bits & INCOMPATIBLE_DIRTY) !== 0n;
    return disk;
  };
  let isDirty = false;
  requirePossible(await read(), possible);
  for (const [name, disk] of image.snapshots)
    expect(firstDifference(await read(name), disk), `snapshot ${name}`).toBe(-1);
  const result = await check(file, { resolver });
  if (!isDirty) {
    expect(result.findings.filter(({ class: kind }) => kind !== 'leak')).toEqual([]);
    const again = await Image.open(file, { resolver, writable: true });
    await again.write(0, new Uint8Array(700));
    await again.close();
    const after = await check(file, { resolver });
    expect(after.findings.filter(({ class: kind }) => kind !== 'leak')).toEqual([]);
  }
}

describe('whatever has reached the disk when writing is cut short', () => {
  let root: string;
  beforeAll(() => {
    root = makeTempDir('write-cut');
  });
  afterAll(() => removeTempDir(root));

  for (const kind of WRITE_KINDS.filter(({ name }) => KINDS.includes(name))) {
    it(`${kind.name}: a sound image with what was flushed`, async () => {
      const folder = join(root, kind.name.replaceAll(/\W/g, '-'));
      mkdirSync(folder);
      const image = await makeKind(kind, folder);
      await fc.assert(
        fc.asyncProperty(stepsOn(kind), fc.nat(2 ** 30), async (steps, seed) => {
          const { log, disks, began, flushes } = await record(image, steps);
          const random = new Random(seed);
          for (let cut = 0; cut < CUTS && log.length > 0; cut++) {
            // Behind any change, and now and then behind one of the header.
            const ofHeader = log.flatMap((c, i) => ('sync' in c || c.offset > 0 ? [] : [i]));
            const isHeader = cut % 8 === 3 && ofHeader.length > 0;
            const count = 1 + (isHeader ? random.pick(ofHeader) : random.below(log.length));
            const survives = SURVIVORS[cut % SURVIVORS.length]!(random, count);
            const files = afterCut(image.files, log, count, survives);
            const step = began.findLastIndex((begin) => begin < count);
            const flushed = flushes.findLast((i) => began[i + 1]! <= count) ?? -1;
            const possible = disks.slice(flushed + 1, Math.max(flushed, step) + 2);
            await requireSound(files, image, possible).catch((cause: unknown) => {
              const last = JSON.stringify(steps[step]);
              throw new Error(
                `cut after ${count} of ${log.length} changes, in step ${step} ${last}`,
                {
                  cause,
                },
              );
            });
          }
        }),
        { numRuns: RUNS, seed: SEED, endOnFailure: true },
      );
    });
  }
});
