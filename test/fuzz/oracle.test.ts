import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeLimiter } from '../support/limit.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { mutantOf, report } from './fuzzer.ts';
import { type Subject, subjectOf } from './mutate.ts';
import { compare, differs } from './oracle.ts';
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

describe('damaged images', () => {
  it('read the same with qemu-img where both read them', { timeout: 300_000 }, async () => {
    const limit = makeLimiter(4);
    let both = 0;
    const one = async (run: number): Promise<void> => {
      const mutant = mutantOf(subjects, SEED, run);
      const comparison = await compare(mutant, path.join(folder, `run${run % 16}-${run}`));
      removeTempDir(path.join(folder, `run${run % 16}-${run}`));
      if (comparison.theirs !== undefined && 'bytes' in comparison.ours) both += 1;
      if (!differs(comparison)) return;
      const error = new Error('qemu-img reads other bytes');
      throw new Error(
        report({ seed: SEED, run, mutant, error }, path.join(tmpdir(), 'qcow2-fuzz')),
      );
    };
    await Promise.all(Array.from({ length: RUNS }, (_, run) => limit(() => one(run))));
    expect(both).toBeGreaterThan(RUNS / 10);
  });
});
