import { describe, expect, it } from 'vitest';
import { WorkShare } from '../../src/workers/work-share.ts';

describe('WorkShare', () => {
  it('gives each number once, whoever asks', () => {
    const first = new WorkShare();
    const second = new WorkShare(first.state);
    const taken = [first, second, second, first, second].map((share) => share.take());
    expect(taken).toEqual([0, 1, 2, 3, 4]);
  });

  it('knows which steps there are as they are listed, and where they end', () => {
    const share = new WorkShare();
    const other = new WorkShare(share.state);
    share.list(3);
    expect([0, 2].map((sequence) => other.has(sequence))).toEqual([true, true]);
    share.list(64);
    expect(other.has(63)).toBe(true);
    share.end(65);
    expect([64, 65, 1000].map((sequence) => other.has(sequence))).toEqual([true, false, false]);
    // A difference was found: only what comes before it still matters.
    share.end(2);
    expect([1, 2, 64].map((sequence) => other.has(sequence))).toEqual([true, false, false]);
    share.end(0);
    expect(other.has(0)).toBe(false);
  });

  it('lets turns pass in the order of the steps', async () => {
    const share = new WorkShare();
    const order: number[] = [];
    await Promise.all(
      [2, 0, 3, 1].map((sequence) => share.turnOf(sequence)(() => order.push(sequence))),
    );
    expect(order).toEqual([0, 1, 2, 3]);
  });

  it('ends the waiting of others, and gives no more steps, once stopped', async () => {
    const share = new WorkShare();
    const other = new WorkShare(share.state);
    share.list(10);
    const waiting = other.turnOf(5)(() => {});
    share.stop();
    await expect(waiting).rejects.toThrow('stopped');
    expect(other.has(0)).toBe(false);
    // Not even the one whose turn it was opens it again.
    await expect(other.turnOf(0)(() => {})).rejects.toThrow('stopped');
  });
});
