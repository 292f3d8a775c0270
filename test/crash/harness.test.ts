import { describe, expect, it } from 'vitest';
import { type CrashCase, crash, crashWithFaults } from './crash-case.ts';
import { GuestModel } from './guest-model.ts';
import { type Mistake, TinyWriter, tinyBase } from './tiny-writer.ts';
import { Workload } from './workload.ts';

/** Random requests to a tiny writer. */
function tinyCase(mistake?: Mistake): CrashCase {
  const base = tinyBase();
  const initial = new Uint8Array(128 * 1024);
  initial.set(base.guest);
  return {
    name: `tiny writer: ${mistake ?? 'no mistake'}`,
    files: () => ({ image: base.bytes }),
    run: async (bench) => {
      const model = new GuestModel(initial);
      bench.expect({ file: 'image', disk: model });
      const disk = new TinyWriter(bench.storage('image'), base, mistake);
      const options = { requests: 100, longest: 4, span: 80 * 1024 };
      await new Workload(bench, disk, model, initial).run(options);
    },
  };
}

const MISTAKES: readonly Mistake[] = [
  'entry before counter',
  'free before entry',
  'reuse before free',
  'L1 before L2',
  'entry before data',
  'flush that does nothing',
];

describe('the crash harness', () => {
  it('finds nothing wrong with a writer that keeps the order', async () => {
    const { states, failure } = await crash(tinyCase(), { states: 1500, qemu: 10 });
    expect(failure).toBeUndefined();
    expect(states).toBeGreaterThan(1000);
  });

  for (const mistake of MISTAKES) {
    it(`finds: ${mistake}`, async () => {
      for (let seed = 1; seed <= 5; seed++) {
        const { failure } = await crash(tinyCase(mistake), { seed, states: 500 });
        expect(failure, `seed ${seed}`).toBeDefined();
      }
    });
  }

  it('makes the same states of the same seed', async () => {
    const [first, second] = await Promise.all(
      [1, 2].map(() => crash(tinyCase('L1 before L2'), { seed: 7 })),
    );
    expect(first?.failure).toBe(second?.failure);
  });

  it('makes calls fail, and sees whether that was noticed', async () => {
    const { runs, failure } = await crashWithFaults(tinyCase(), { faults: 30 });
    expect(failure).toBeUndefined();
    expect(runs).toBe(30);
    const deaf: CrashCase = {
      ...tinyCase(),
      run: async (bench) => {
        bench.expect({ file: 'image', disk: new GuestModel(new Uint8Array(128 * 1024)) });
        await bench
          .storage('image')
          .flush()
          .catch(() => {});
      },
    };
    const found = await crashWithFaults(deaf, { faults: 1 });
    expect(found.failure).toContain('took no notice');
  });
});
