import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type BatchJob, jobsFromInputs, requireIndependent } from '../../src/batch/jobs.ts';
import { startOrder, threadShare } from '../../src/batch/schedule.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

let dir: string;
beforeAll(() => {
  dir = makeTempDir('batch-jobs');
  writeFileSync(join(dir, 'small'), new Uint8Array(4096).fill(1));
  writeFileSync(join(dir, 'large'), new Uint8Array(65536).fill(1));
  mkdirSync(join(dir, 'out'));
  symlinkSync('out', join(dir, 'link'));
});
afterAll(() => removeTempDir(dir));

/** Files by their names in the folder; `placed` makes them paths. */
function job(input: string, target: string, create: BatchJob['create'] = {}): BatchJob {
  return { inputs: [{ path: input }], target, targetFormat: 'qcow2', create };
}

function placed(jobs: readonly BatchJob[]): BatchJob[] {
  return jobs.map((each) => ({
    ...each,
    inputs: each.inputs.map(({ path }) => ({ path: join(dir, path) })),
    target: join(dir, each.target),
  }));
}

describe('jobs from a command line', () => {
  it.each([
    ['a/vm.qcow2', 'raw', 'out/vm.raw'],
    ['vm.IMG', 'qcow2', 'out/vm.qcow2'],
    ['vm.raw', 'raw', 'out/vm.raw'],
    ['vm.1.2', 'raw', 'out/vm.1.2.raw'],
    ['vm.raw.qcow2', 'raw', 'out/vm.raw.raw'],
    ['.qcow2', 'raw', 'out/.qcow2.raw'],
    ['disk', 'qcow2', 'out/disk.qcow2'],
  ] as const)('%s to %s is %s', (input, targetFormat, target) => {
    const [made] = jobsFromInputs([input], { directory: 'out', targetFormat, inputFormat: 'raw' });
    expect(made).toEqual({ inputs: [{ path: input, format: 'raw' }], target, targetFormat });
  });
});

describe('jobs that depend on each other are refused', () => {
  it.each([
    ['the same target', [job('a', 'out/x'), job('b', 'out/x')], 'have the same target'],
    ['through a link', [job('a', 'out/x'), job('b', 'link/x')], 'have the same target'],
    [
      'a data file for two',
      [job('a', 'out/x', { dataFile: 'd' }), job('b', 'out/y', { dataFile: 'd' })],
      'have the same target',
    ],
    ['a target read by another', [job('a', 'out/x'), job('out/x', 'out/y')], 'is also an input'],
    ['a target read by itself', [job('small', 'small')], 'is also an input'],
    [
      'a target as backing file',
      [job('a', 'out/x'), job('b', 'out/y', { backingFile: 'x', backingFormat: 'qcow2' })],
      'is also an input',
    ],
  ])('%s', (_, jobs, message) => {
    expect(() => requireIndependent(placed(jobs))).toThrow(message);
  });

  it('others are not', () => {
    const jobs = [job('small', 'out/x'), job('small', 'out/y', { dataFile: 'z' })];
    expect(() => requireIndependent(placed(jobs))).not.toThrow();
  });
});

describe('the schedule', () => {
  it('begins with the largest image; one that is not there weighs least', () => {
    const jobs = ['nothere', 'small', 'large', 'small'].map((input, i) => job(input, `t${i}`));
    expect(startOrder(placed(jobs)).map(({ index }) => index)).toEqual([2, 1, 3, 0]);
  });

  /** Threads of each job when all begin at once, as long as there are free ones. */
  function shares(concurrency: number, weights: number[]): number[] {
    let free = concurrency;
    return weights.flatMap((weight, i) => {
      if (free === 0) return [];
      const waiting = weights.slice(i).reduce((sum, each) => sum + each, 0);
      const share = threadShare(free, weight, waiting);
      free -= share;
      return share;
    });
  }

  it.each([
    ['many images get a thread each', 4, new Array(100).fill(7), [1, 1, 1, 1]],
    ['a single one gets all', 8, [7], [8]],
    ['two share', 8, [7, 7], [4, 4]],
    ['three share', 8, [7, 7, 7], [3, 3, 2]],
    ['the larger gets more', 8, [30, 10], [6, 2]],
    ['a giant goes first', 4, [1000, 1, 1], [4]],
    ['no image gets more than it can use', 64, [9, 9], [16, 16]],
    ['one thread', 1, [5, 5], [1]],
  ])('%s', (_, concurrency, weights, expected) => {
    expect(shares(concurrency, weights)).toEqual(expected);
  });
});
