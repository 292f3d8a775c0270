import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { checkImage, counters, oracle, statusFor } from './check-support.ts';
import { IMAGES, makeImages, mutate, mutation } from './mutations.ts';

let dir: string;
let originals: Buffer[];

beforeAll(async () => {
  dir = makeTempDir('check-mutation');
  originals = await makeImages(dir);
});
afterAll(() => removeTempDir(dir));

describe('check of damaged metadata', () => {
  it('counts what qemu-img counts, wherever that completes', async () => {
    let completed = 0;
    const property = fc.asyncProperty(
      fc.nat(IMAGES.length - 1),
      fc.array(mutation, { minLength: 1, maxLength: 3 }),
      fc.option(fc.nat(6000), { freq: 8 }),
      async (index, mutations, cut) => {
        const bytes = Buffer.from(originals[index]!);
        for (const change of mutations) mutate(bytes, IMAGES[index]![1], change);
        writeFileSync(join(dir, 'mutant'), bytes.subarray(0, bytes.length - (cut ?? 0)));
        const theirs = await oracle('mutant', dir);
        const found = await checkImage(join(dir, 'mutant')).catch((error: unknown) => error);
        if (theirs.counters === undefined) return;
        completed++;
        if (found instanceof Error) throw found;
        const ours = found as Awaited<ReturnType<typeof checkImage>>;
        expect(counters(ours)).toEqual(theirs.counters);
        expect(statusFor(ours)).toBe(theirs.status);
      },
    );
    await fc.assert(property, { numRuns: 120 });
    expect(completed).toBeGreaterThan(80);
  }, 120_000);
});
