import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type BatchJob, jobsFromInputs, requireIndependent } from '../../src/batch/jobs.ts';
import { weightOf } from '../../src/batch/schedule.ts';
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
    ['vm.raw.gz', 'qcow2', 'out/vm.qcow2'],
    ['vm.zst', 'raw', 'out/vm.raw'],
    ['https://host/vm.qcow2.XZ?key=1', 'raw', 'out/vm.raw'],
    ['vm.gz.img', 'raw', 'out/vm.gz.raw'],
    ['.gz', 'raw', 'out/.gz.raw'],
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

describe('the weight of a job', () => {
  it('is what its inputs occupy; one that is not there weighs least', () => {
    const jobs = ['nothere', 'small', 'large'].map((input, i) => job(input, `t${i}`));
    expect(placed(jobs).map(weightOf)).toEqual([1, 4097, 65537]);
  });
});
