import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { contents, type KindImage, makeKind, WRITE_KINDS } from './write-kinds.ts';
import { firstDifference, runSteps, Subject, stepsOn } from './write-model.ts';

/** Sequences for each kind: QCOW2_WRITE_RUNS makes them more, QCOW2_WRITE_SEED others. */
const RUNS = Number(process.env.QCOW2_WRITE_RUNS ?? 7);
const SEED = Number(process.env.QCOW2_WRITE_SEED ?? 20);
/** A few pages, so that tables are written back all the time, or plenty. */
const CACHES = [0, 32 << 20];

let root: string;
let folders = 0;

beforeAll(() => {
  root = makeTempDir('write-model');
});
afterAll(() => removeTempDir(root));

function folder(): string {
  const path = join(root, `${folders++}`);
  mkdirSync(path);
  return path;
}

/** Holds the files of a subject to qemu-img: sound, and with these contents. */
async function compareWithQemu(subject: Subject, model: Uint8Array, image: KindImage) {
  const path = folder();
  for (const [name, storage] of subject.files) writeFileSync(join(path, name), storage.bytes);
  await runOk('qemu-img', ['check', '-q', '-f', 'qcow2', 'image.qcow2'], path);
  expect(firstDifference(await contents(path, []), model)).toBe(-1);
  for (const [name, disk] of image.snapshots)
    expect(firstDifference(await contents(path, ['-l', name]), disk)).toBe(-1);
  removeTempDir(path);
}

describe('images of every kind hold what was written to them', () => {
  for (const kind of WRITE_KINDS) {
    it(kind.name, async () => {
      const path = folder();
      const image = await makeKind(kind, path);
      removeTempDir(path);
      let runs = 0;
      await fc.assert(
        fc.asyncProperty(stepsOn(kind), async (steps) => {
          const subject = new Subject(image, CACHES[runs % CACHES.length]!);
          const model = await runSteps(subject, steps, image.disk);
          expect(await subject.findings()).toEqual([]);
          expect(firstDifference(await subject.contents(), model)).toBe(-1);
          for (const [name, disk] of image.snapshots)
            expect(firstDifference(await subject.contents(name), disk), name).toBe(-1);
          const before = image.files.get('data.raw')?.length ?? 0;
          const after = subject.files.get('data.raw')?.size ?? 0;
          expect(after, 'length of the data file').toBe(before);
          if (kind.name.startsWith('raw data file')) {
            const data = new Uint8Array(kind.size);
            // Preallocation by qemu leaves it longer than an odd disk.
            data.set(subject.files.get('data.raw')!.bytes.subarray(0, kind.size));
            // A discarded or zeroed part must be zeros there too.
            expect(firstDifference(data, model), 'data file alone').toBe(-1);
          }
          if (runs++ % 4 === 0) await compareWithQemu(subject, model, image);
        }),
        { numRuns: RUNS, seed: SEED, interruptAfterTimeLimit: 50_000 },
      );
    });
  }
});
