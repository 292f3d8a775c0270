import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, it } from 'vitest';
import { Shell } from '../support/shell.ts';
import { makeMemoryDir, removeTempDir } from '../support/temp.ts';
import { differences, ImageModel } from './image-model.ts';
import { modelSteps, runModel } from './model-operations.ts';
import { contents, makeKind, WRITE_KINDS } from './write-kinds.ts';
import { firstDifference, Subject } from './write-model.ts';

/** Sequences of operations in all. */
const SEQUENCES = 2000;
/** Sequences for each kind: QCOW2_WRITE_RUNS makes them more, QCOW2_WRITE_SEED others. */
const RUNS = Number(process.env.QCOW2_WRITE_RUNS ?? Math.ceil(SEQUENCES / WRITE_KINDS.length));
const SEED = Number(process.env.QCOW2_WRITE_SEED ?? 20);
/** A few pages, so that tables are written back all the time, or plenty. */
const CACHES = [0, 32 << 20];
/** Sequences of which one has its snapshots read by qemu-img, too. */
const ONE_IN = 8;

let root: string;
let folders = 0;

beforeAll(() => {
  root = makeMemoryDir('write-model');
});
afterAll(() => removeTempDir(root));

function folder(): string {
  const path = join(root, `${folders++}`);
  mkdirSync(path);
  return path;
}

/**
 * Holds the files of a subject to qemu-img: sound, and with these contents.
 * @param snapshots whether those, too
 */
async function compareWithQemu(
  shell: Shell,
  subject: Subject,
  model: ImageModel,
  snapshots: boolean,
) {
  const path = folder();
  for (const [name, storage] of subject.files) writeFileSync(join(path, name), storage.bytes);
  writeFileSync(join(path, 'model.raw'), model.disk);
  const check = 'qemu-img check -q -f qcow2 image.qcow2';
  const compare = 'qemu-img compare -q -f raw -F qcow2 model.raw image.qcow2';
  await shell.run(`cd ${path} && ${check} && ${compare}`);
  for (const [name, disk] of snapshots ? model.snapshots : []) {
    // qemu-img pads or cuts it to the length the disk has now.
    const found = await contents(path, ['-l', name]);
    const length = Math.min(found.length, disk.length);
    const at = firstDifference(found.subarray(0, length), disk.subarray(0, length));
    if (at >= 0) throw new Error(`qemu-img reads byte ${at} of snapshot ${name} as ${found[at]}`);
  }
  removeTempDir(path);
}

describe(`${RUNS} sequences on images of each of ${WRITE_KINDS.length} kinds, seed ${SEED}`, () => {
  it.concurrent.each(WRITE_KINDS)('$name', { timeout: 300_000 }, async (kind) => {
    const path = folder();
    const image = await makeKind(kind, path);
    removeTempDir(path);
    const newModel = await ImageModel.of(image);
    let runs = 0;
    using shell = new Shell();
    await fc.assert(
      fc.asyncProperty(modelSteps(kind), async (steps) => {
        const subject = new Subject(image, CACHES[runs % CACHES.length]!);
        const model = newModel();
        await runModel(subject, model, steps);
        const found = await differences(subject, model);
        if (found.length > 0) throw new Error(found.join('; '));
        await compareWithQemu(shell, subject, model, runs++ % ONE_IN === 0);
      }),
      { numRuns: RUNS, seed: SEED, interruptAfterTimeLimit: 250_000, markInterruptAsFailure: true },
    );
  });
});
