import { describe, expect, it } from 'vitest';
import { type CrashCase, crash, crashWithFaults } from './crash-case.ts';
import { GUEST_CASES, type GuestCase } from './guest-cases.ts';
import { onImage } from './image-operation.ts';
import { Workload } from './workload.ts';

/** States judged in all, and by qemu-img too. QCOW2_CRASH_STATES makes more of them. */
const STATES = Number(process.env.QCOW2_CRASH_STATES ?? 12_000);
const QEMU_STATES = 40;
const SEED = Number(process.env.QCOW2_CRASH_SEED ?? 1);
/** Runs of each case in which a call fails. */
const FAULTS = Math.ceil(STATES / 500);

/** Random requests to an image. */
function writing({ name, base, workload, open, also, lazyRefcounts }: GuestCase): CrashCase {
  return onImage({
    name,
    base,
    ...(open && { open }),
    expect: (_, { disk }) => ({
      ...(lazyRefcounts && { lazyRefcounts }),
      ...(also && { also: (image) => also(image, disk) }),
    }),
    run: (image, model, bench, { disk }) => new Workload(bench, image, model, disk).run(workload),
  });
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
      // A log has only so many; all cases together come to more than 10,000.
      expect(report.states).toBeGreaterThanOrEqual(Math.min(states, 600));
    });

    it(`${name}: an error leaves an image as sound`, async () => {
      const options = { seed: SEED, faults: FAULTS, states: 10 };
      const { failure } = await crashWithFaults(writing(guestCase), options);
      expect(failure).toBeUndefined();
    });
  }

  // What single errors once led to: the dirty bit forgotten, a sound image marked corrupt.
  for (const [name, seed] of [
    ['lazy refcounts', 21],
    ['growing refcount table', 32],
  ] as const) {
    it(`${name}: an error does no harm later, seed ${seed}`, async () => {
      const guestCase = GUEST_CASES.find((one) => one.name === name)!;
      const { failure } = await crashWithFaults(writing(guestCase), { seed, faults: 8 });
      expect(failure).toBeUndefined();
    });
  }
});
