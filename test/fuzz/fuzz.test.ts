import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { fuzz, mutantOf, report } from './fuzzer.ts';
import { type Subject, subjectOf } from './mutate.ts';
import { builtSeeds, qemuSeeds } from './seeds.ts';

const SEED = 1;
const RUNS = 20_000;

let folder: string;
let subjects: Subject[];

beforeAll(async () => {
  folder = makeTempDir('fuzz');
  subjects = [...builtSeeds(), ...(await qemuSeeds(folder))].map(subjectOf);
});
afterAll(() => removeTempDir(folder));

describe('fuzzing', () => {
  it(`${RUNS} damaged images break no rule`, { timeout: 300_000 }, async () => {
    const before = process.memoryUsage().rss;
    const { failure, counts } = await fuzz(subjects, { seed: SEED, firstRun: 0, runs: RUNS });
    if (failure) throw new Error(report(failure, path.join(tmpdir(), 'qcow2-fuzz')));
    // Damage of every kind was met, and not all of it was noticed at the door.
    const met = ['read', 'MALFORMED', 'TOO_LARGE', 'TRUNCATED', 'BAD_ENTRY', 'BAD_DATA'];
    for (const end of met) expect(counts.get(end) ?? 0, end).toBeGreaterThan(RUNS / 400);
    expect(process.memoryUsage().rss - before).toBeLessThan(600 << 20);
  });

  it('makes the same image of the same seed and run', () => {
    const [first, second] = [mutantOf(subjects, 5, 77), mutantOf(subjects, 5, 77)];
    expect(Buffer.compare(first.bytes, second.bytes)).toBe(0);
    expect(first.description).toBe(second.description);
    expect(mutantOf(subjects, 5, 78).description).not.toBe(first.description);
  });
});
