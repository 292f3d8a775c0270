import { describe, expect, it } from 'vitest';
import { WorkShare } from '../../src/workers/work-share.ts';
import { type Outcome, type PoolWork, WorkerPool } from '../../src/workers/worker-pool.ts';

/** Squares numbers; fails at 13, and dies below 0. */
const THREAD = new URL('./squaring-thread.mjs', import.meta.url);

async function* numbers(count: number, failsAt = -1): AsyncGenerator<number> {
  for (let i = 0; i < count; i++) {
    if (i === failsAt) throw new Error('cannot be listed');
    yield i;
  }
}

/** Runs the steps on three threads, `own` among them or not; what ended, by sequence number. */
async function run(
  steps: AsyncIterable<number>,
  isOwn: boolean,
  decides: (outcome: Outcome<number>) => boolean = ({ ...outcome }) => {
    if ('error' in outcome) throw outcome.error;
    return false;
  },
): Promise<Map<number, Outcome<number>>> {
  const share = new WorkShare();
  const ended = new Map<number, Outcome<number>>();
  const work: PoolWork<number, number> = {
    steps,
    own: isOwn
      ? async (step) => {
          // Long enough for other threads to be started.
          await new Promise((resolve) => setTimeout(resolve, 1));
          return step * step;
        }
      : undefined,
    thread: { url: THREAD, data: { share: share.state } },
    ended(sequence, outcome) {
      expect(ended.has(sequence)).toBe(false);
      ended.set(sequence, outcome);
      return decides(outcome);
    },
  };
  await new WorkerPool(share, work, 3).run();
  return ended;
}

describe.each([false, true])('WorkerPool, the calling thread works: %j', (isOwn) => {
  it.each([0, 1, 2, 63, 64, 65, 2000])('does each of %i steps once', async (count) => {
    // Listed once: whatever is asked of it a second time could differ.
    const ended = await run(numbers(count), isOwn, () => false);
    expect(ended.size).toBe(count);
    for (const [sequence, outcome] of ended)
      if (sequence !== 13) expect(outcome).toEqual({ value: sequence * sequence });
  });

  it('ends with what listing the steps throws', async () => {
    await expect(run(numbers(500, 300), isOwn, () => false)).rejects.toThrow('cannot be listed');
  });

  it('does all before a step that decides, and few behind it', async () => {
    const ended = await run(numbers(100_000), isOwn, (outcome) => {
      return 'value' in outcome && outcome.value >= 1000 * 1000;
    });
    for (let sequence = 0; sequence <= 1000; sequence++) expect(ended.has(sequence)).toBe(true);
    expect(ended.size).toBeLessThan(1200);
  });
});

describe('WorkerPool', () => {
  it('ends with the error of a step', async () => {
    await expect(run(numbers(500), false)).rejects.toThrow('thirteen');
  });

  it('ends with an error when a thread dies', async () => {
    await expect(run(numbers(1000), false, () => false)).resolves.toBeDefined();
    async function* deadly(): AsyncGenerator<number> {
      yield* numbers(100);
      yield -1;
      yield* numbers(100);
    }
    await expect(run(deadly(), false, () => false)).rejects.toThrow('ended early');
  });
});
