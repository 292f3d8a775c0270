import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Qcow2ErrorCode } from '../../src/errors.ts';
import { makeLimiter } from '../support/limit.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { mutantOf, report } from './fuzzer.ts';
import { type Subject, subjectOf } from './mutate.ts';
import { type Comparison, compare, differs } from './oracle.ts';
import { builtSeeds, qemuSeeds } from './seeds.ts';

const SEED = 2;
const RUNS = 400;

let folder: string;
let subjects: Subject[];

beforeAll(async () => {
  folder = makeTempDir('fuzz-oracle');
  subjects = [...builtSeeds(), ...(await qemuSeeds(folder))].map(subjectOf);
});
afterAll(() => removeTempDir(folder));

/** Where this package is the stricter one: see the limits and the gate of the design. */
const STRICTER: readonly Qcow2ErrorCode[] = [
  'TRUNCATED',
  'MALFORMED',
  'TOO_LARGE',
  'BAD_DATA',
  'EXTERNAL_REFUSED',
];

/** Two rules of the format that QEMU does not hold images to when it reads them. */
const RULES = /has a subcluster bitmap|recorded format '.*' is not supported/;

function wronglyRefused({ ours, theirs }: Comparison): string | undefined {
  if (theirs === undefined || 'bytes' in ours) return undefined;
  if (STRICTER.includes(ours.code) || RULES.test(ours.message)) return undefined;
  return `qemu-img reads it, this package does not: ${ours.message}`;
}

describe('damaged images', () => {
  it('qemu-img reads the same, where both read, and nothing this package has no reason to refuse', {
    timeout: 300_000,
  }, async () => {
    const limit = makeLimiter(4);
    let both = 0;
    const one = async (run: number): Promise<void> => {
      const mutant = mutantOf(subjects, SEED, run);
      const comparison = await compare(mutant, path.join(folder, `run${run % 16}-${run}`));
      removeTempDir(path.join(folder, `run${run % 16}-${run}`));
      if (comparison.theirs !== undefined && 'bytes' in comparison.ours) both += 1;
      const problem = differs(comparison)
        ? 'qemu-img reads other bytes'
        : wronglyRefused(comparison);
      if (problem === undefined) return;
      const error = new Error(problem);
      throw new Error(
        report({ seed: SEED, run, mutant, error }, path.join(tmpdir(), 'qcow2-fuzz')),
      );
    };
    await Promise.all(Array.from({ length: RUNS }, (_, run) => limit(() => one(run))));
    expect(both).toBeGreaterThan(RUNS / 10);
  });
});
