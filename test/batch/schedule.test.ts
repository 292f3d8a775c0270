import { describe, expect, it } from 'vitest';
import { RateMeter } from '../../src/batch/rate-meter.ts';
import { retryDelay } from '../../src/batch/retry.ts';
import { Schedule } from '../../src/batch/schedule.ts';

const MIB = 2 ** 20;

function schedule(weights: readonly number[], threads: number, perImage?: number): Schedule {
  return new Schedule(new Map(weights.entries()), threads, perImage);
}

/** All that can begin now. */
function begin(plan: Schedule): number[] {
  const begun: number[] = [];
  for (let job = plan.next(); job !== undefined; job = plan.next()) begun.push(job);
  return begun;
}

interface Run {
  began: number;
  ended: number;
  most: number;
}

/** Runs jobs on a clock of its own: a job is done when its threads together worked as long as it weighs. */
function simulate(weights: readonly number[], threads: number): Run[] {
  const plan = schedule(weights, threads);
  const left = [...weights];
  const running = new Set<number>();
  const runs: Run[] = [];
  let now = 0;
  while (true) {
    for (const job of begin(plan)) {
      running.add(job);
      runs[job] = { began: now, ended: 0, most: 1 };
    }
    plan.grow();
    let used = 0;
    for (const job of running) {
      const own = plan.threadsOf(job);
      used += own;
      runs[job]!.most = Math.max(runs[job]!.most, own);
    }
    expect(used).toBeLessThanOrEqual(threads);
    if (running.size === 0) return runs;
    const step = Math.min(...[...running].map((job) => left[job]! / plan.threadsOf(job)));
    now += step;
    for (const job of running) {
      left[job]! -= step * plan.threadsOf(job);
      if (left[job]! > 1e-9) continue;
      running.delete(job);
      plan.end(job);
      runs[job]!.ended = now;
    }
  }
}

describe('the schedule', () => {
  it.each([2, 3, 4, 8])('small images do not wait for huge ones (%i threads)', (threads) => {
    const small = 40;
    const weights = [1000, 1000, 1000, ...new Array<number>(small).fill(1)];
    const runs = simulate(weights, threads);
    const lanes = threads - Math.floor(threads / 2);
    const last = Math.max(...runs.slice(3).map(({ ended }) => ended));
    expect(last).toBeLessThanOrEqual(Math.ceil(small / lanes) + 1);
    // A huge one begins at once, and no thread is idle in the end.
    expect(Math.min(...runs.slice(0, 3).map(({ began }) => began))).toBe(0);
    const end = Math.max(...runs.map(({ ended }) => ended));
    const work = weights.reduce((sum, weight) => sum + weight, 0);
    expect(end).toBeLessThan((work / threads) * 1.5);
  });

  it('a huge one has all threads once it is alone', () => {
    const [huge] = simulate([1000, 1, 1, 1], 4);
    expect(huge).toEqual({ began: 0, ended: 250.75, most: 4 });
  });

  it('on one thread the smallest begin first', () => {
    const runs = simulate([5, 1, 3], 1);
    expect(runs.map(({ began }) => began)).toEqual([4, 0, 1]);
  });

  it('equal ones begin in their order', () => {
    expect(begin(schedule([7, 7, 7, 7, 7], 3))).toEqual([0, 1, 2]);
  });

  /** Threads of each job when nothing waits. */
  it.each([
    ['many images get a thread each', 4, new Array(100).fill(7), [1, 1, 1, 1]],
    ['a single one gets all', 8, [7], [8]],
    ['two share', 8, [7, 7], [4, 4]],
    ['three share', 8, [7, 7, 7], [3, 3, 2]],
    ['the larger gets more', 8, [30, 10], [6, 2]],
    ['no image gets more than it can use', 64, [9, 9], [16, 16]],
    ['one thread', 1, [5, 5], [1]],
  ])('%s', (_, threads, weights, expected) => {
    const plan = schedule(weights, threads);
    const begun = begin(plan);
    plan.grow();
    expect(begun.map((job) => plan.threadsOf(job))).toEqual(expected);
    expect(plan.free).toBe(Math.max(0, threads - expected.reduce((sum, n) => sum + n, 0)));
  });

  it('obeys the ceiling of an image', () => {
    const plan = schedule([9], 8, 3);
    begin(plan);
    expect([...plan.grow()]).toEqual([0]);
    expect(plan.threadsOf(0)).toBe(3);
  });

  it('sends small jobs ahead only while there are enough for all, and never behind a large one', () => {
    const plan = schedule([64 * MIB, ...new Array<number>(6).fill(MIB)], 2);
    expect(begin(plan)).toEqual([0, 1]);
    expect(plan.nextBehind(0)).toBeUndefined();
    expect(plan.nextBehind(1)).toBe(2);
    expect(plan.nextBehind(1)).toBeUndefined();
    expect(plan.free).toBe(0);
    plan.end(1);
    plan.begin(2);
    expect(plan.threadsOf(2)).toBe(1);
    expect(begin(plan)).toEqual([]);
  });

  it('has jobs wait once more, or takes all out', () => {
    const plan = schedule([3, 2, 1], 1);
    expect(begin(plan)).toEqual([2]);
    plan.retry(2, 1);
    expect(plan.free).toBe(1);
    expect(plan.drop()).toEqual([0, 1, 2]);
    expect(begin(plan)).toEqual([]);
  });
});

describe('waiting before another attempt', () => {
  it('takes twice as long each time, up to half a minute', () => {
    const delays = [1, 2, 3, 4, 20].map((attempt) => retryDelay(attempt, 500, 1));
    expect(delays).toEqual([500, 1000, 2000, 4000, 30_000]);
    expect(retryDelay(1, 500, 0)).toBe(375);
  });
});

describe('the rate', () => {
  it('is that of the last seconds of a phase', () => {
    const meter = new RateMeter();
    expect(meter.update('convert', 0, 0, 100)).toEqual({ rate: null, eta: null });
    expect(meter.update('convert', 1000, 10, 100)).toEqual({ rate: 10, eta: 9 });
    for (let at = 2; at <= 6; at++) meter.update('convert', at * 1000, 10, 100);
    expect(meter.update('convert', 7000, 60, 100)).toEqual({ rate: 10, eta: 4 });
    expect(meter.update('verify', 7100, 5, 100)).toEqual({ rate: null, eta: null });
  });
});
