import { describe, expect, it } from 'vitest';
import { isQcow2Error } from '../../src/errors.ts';
import { INCOMPATIBLE_DIRTY } from '../../src/format/feature-bits.ts';
import { Image } from '../../src/image/image.ts';
import { Random } from '../fuzz/random.ts';
import { type CrashCase, crash, crashWithFaults } from './crash-case.ts';
import type { CrashState } from './crash-states.ts';
import { GUEST_CASES, type GuestCase } from './guest-cases.ts';
import { GuestModel } from './guest-model.ts';
import { type ImageExpectation, judge, readAll, withKernel } from './verdict.ts';
import { Workload } from './workload.ts';

/** States judged in all, and by qemu-img too. QCOW2_CRASH_STATES makes more of them. */
const STATES = Number(process.env.QCOW2_CRASH_STATES ?? 12_000);
const QEMU_STATES = 40;
const SEED = Number(process.env.QCOW2_CRASH_SEED ?? 1);

/** Random requests to an image that is open for writing. */
function writing({ name, base, workload, open, lazyRefcounts = false }: GuestCase): CrashCase {
  const made = base();
  return {
    name,
    files: async () => ({ ...(await made).files }),
    run: async (bench) => {
      const { disk, files, snapshots = {} } = await made;
      const model = new GuestModel(disk);
      const older = Object.entries(snapshots).map(([of, bytes]) => [of, new GuestModel(bytes)]);
      bench.expect({
        file: 'image',
        disk: model,
        snapshots: Object.fromEntries(older),
        lazyRefcounts,
      });
      await withKernel(async (kernel) => {
        const image = await Image.open(bench.storage('image'), {
          format: 'qcow2',
          kernel,
          writable: true,
          resolver: ({ name: file }) => (file in files ? bench.storage(file) : null),
          ...open,
        });
        await new Workload(bench, image, model, disk).run(workload);
      });
    },
    also: goesOn,
    alsoOneIn: 20,
  };
}

/** After a cut the image can be written again: what is written is there, and all else. */
async function goesOn(
  state: CrashState,
  expectations: readonly ImageExpectation[],
): Promise<string | undefined> {
  const expected = expectations[0]!;
  const files = new Map([...state.files].map(([name, file]) => [name, file.copy()]));
  const random = new Random(state.cut);
  let disk: Uint8Array | undefined;
  await withKernel(async (kernel) => {
    const resolver = ({ name }: { name: string }) => files.get(name) ?? null;
    const image = await Image.open(files.get('image')!, {
      format: 'qcow2',
      kernel,
      resolver,
      writable: true,
    });
    disk = await readAll(image);
    for (let i = 0; i < 8; i++) {
      const length = 512 * (1 + random.below(8));
      const offset = 512 * random.below((disk.length - length) / 512 + 1);
      const bytes = new Uint8Array(length).fill(1 + random.below(255));
      disk.set(bytes, offset);
      await image.write(offset, bytes);
    }
    await image.close();
  }).catch((error) => {
    // What is marked dirty is repaired first.
    if (!(expected.lazyRefcounts && isQcow2Error(error) && error.code === 'REFUSED')) throw error;
    if (!isDirty(state)) throw error;
  });
  if (disk === undefined) return undefined;
  const fault = await judge(files, 0, { ...expected, disk: new GuestModel(disk) });
  return fault && `written again after the cut: ${fault}`;
}

function isDirty({ files }: CrashState): boolean {
  const word = new Uint8Array(8);
  files.get('image')!.read(72, word);
  return (new DataView(word.buffer).getBigUint64(0) & INCOMPATIBLE_DIRTY) !== 0n;
}

const shares = GUEST_CASES.reduce((sum, { weight = 1 }) => sum + weight, 0);

describe('a cut while a guest writes', () => {
  for (const guestCase of GUEST_CASES) {
    const { name, weight = 1 } = guestCase;

    it(`${name}: nothing flushed is lost, nothing else is found`, async () => {
      const states = Math.ceil((STATES * weight) / shares);
      const qemu = Math.ceil(QEMU_STATES / GUEST_CASES.length);
      const report = await crash(writing(guestCase), { seed: SEED, states, qemu });
      expect(report.failure).toBeUndefined();
      expect(report.states).toBe(states);
    });

    it(`${name}: an error leaves an image as sound`, async () => {
      const options = { seed: SEED, faults: 24, states: 10 };
      const { failure } = await crashWithFaults(writing(guestCase), options);
      expect(failure).toBeUndefined();
    });
  }
});
