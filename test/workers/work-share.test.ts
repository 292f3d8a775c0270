import { describe, expect, it } from 'vitest';
import { WorkShare } from '../../src/workers/work-share.ts';

async function* numbers(count: number): AsyncGenerator<number> {
  for (let i = 0; i < count; i++) yield i * 10;
}

describe('WorkShare', () => {
  it('gives every step to exactly one of those who list them', async () => {
    const first = new WorkShare(true);
    const shares = [first, new WorkShare(true, first.state), new WorkShare(true, first.state)];
    const taken: number[] = [];
    await Promise.all(
      shares.map(async (share) => {
        for await (const { sequence, step } of share.mine(numbers(100))) {
          expect(step).toBe(sequence * 10);
          taken.push(sequence);
          await new Promise((resolve) => setImmediate(resolve));
        }
      }),
    );
    expect(taken.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, i) => i));
  });

  it('tells which step it looks for before it is found, so that an error has a place', async () => {
    const share = new WorkShare(true);
    const told: number[] = [];
    async function* broken(): AsyncGenerator<number> {
      yield 0;
      yield 1;
      throw new Error('torn');
    }
    const list = async (): Promise<void> => {
      for await (const _ of share.mine(broken(), (sequence) => told.push(sequence)));
    };
    await expect(list()).rejects.toThrow('torn');
    expect(told).toEqual([0, 1, 2]);
  });

  it('lets turns pass in the order of the steps', async () => {
    const share = new WorkShare(true);
    const order: number[] = [];
    await Promise.all(
      [2, 0, 3, 1].map((sequence) => share.turnOf(sequence)(() => order.push(sequence))),
    );
    expect(order).toEqual([0, 1, 2, 3]);
  });

  it('ends the waiting of others, and gives no more steps, once stopped', async () => {
    const share = new WorkShare(true);
    const other = new WorkShare(false, share.state);
    const waiting = other.turnOf(5)(() => {});
    share.stop();
    await expect(waiting).rejects.toThrow('stopped');
    for await (const _ of other.mine(numbers(3))) expect.unreachable();
  });
});
