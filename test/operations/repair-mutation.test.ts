import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isQcow2Error } from '../../src/errors.ts';
import { Image } from '../../src/image/image.ts';
import { fileResolver } from '../../src/node/open-image.ts';
import { type RepairResult, repair } from '../../src/operations/repair.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { checkImage, counters, oracle } from './check-support.ts';
import { IMAGES, type Mutation, makeImages, mutate, mutation } from './mutations.ts';

let dir: string;
let originals: Buffer[];

beforeAll(async () => {
  dir = makeTempDir('repair-mutation');
  originals = await makeImages(dir);
});
afterAll(() => removeTempDir(dir));

/** What each piece of the disk reads; undefined where that is refused. */
async function contents(bytes: Uint8Array): Promise<(string | undefined)[] | undefined> {
  const resolver = fileResolver(join(dir, 'mutant'), [], { sync: true });
  const image = await Image.open(bytes.slice(), { resolver, format: 'qcow2' }).catch(() => {});
  if (image === undefined) return undefined;
  const pieces: (string | undefined)[] = [];
  const piece = new Uint8Array(4096);
  // Nothing lies between the first 256 KiB and the last quarter but a stream at 1 MiB.
  const length = Math.min(image.virtualSize, 2 ** 18);
  for (const start of [0, 2 ** 20, 3 * 2 ** 20])
    for (let at = start; at < Math.min(start + length, image.virtualSize); at += piece.length) {
      const isRead = await image.read(at, piece).then(
        () => true,
        () => false,
      );
      pieces.push(isRead ? Buffer.from(piece).toString('latin1') : undefined);
    }
  await image.close();
  return pieces;
}

async function tryRepair(bytes: Uint8Array): Promise<[RepairResult | undefined, Uint8Array]> {
  const storage = new MemoryStorage(bytes.slice(), 'mutant');
  const resolver = fileResolver(join(dir, 'mutant'), [], { sync: true });
  try {
    const result = await repair(storage, { resolver, format: 'qcow2' });
    return [result, storage.bytes.slice()];
  } catch (error) {
    if (!isQcow2Error(error)) throw error;
    expect(error.message).not.toContain('\n');
    // What is refused stays as it is.
    expect(storage.bytes).toEqual(bytes);
    return [undefined, storage.bytes];
  }
}

describe('repair of damaged metadata', () => {
  it('ends with what qemu-img finds as well, changes nothing that can be read, and ends at once', async () => {
    let repaired = 0;
    const property = fc.asyncProperty(
      fc.nat(IMAGES.length - 1),
      fc.array(mutation, { minLength: 1, maxLength: 3 }),
      fc.option(fc.nat(6000), { freq: 8 }),
      async (index, mutations, cut) => {
        const bytes = Buffer.from(originals[index]!);
        for (const change of mutations) mutate(bytes, IMAGES[index]![1], change);
        const mutant = new Uint8Array(bytes.subarray(0, bytes.length - (cut ?? 0)));
        writeFileSync(join(dir, 'mutant'), mutant);
        const before = await contents(mutant);
        const [result, after] = await tryRepair(mutant);
        if (result === undefined) return;
        const { corruptions, checkErrors } = result.before;
        expect(result.after.corruptions).toBeLessThanOrEqual(corruptions);
        expect(result.after.checkErrors).toBeLessThanOrEqual(checkErrors);
        writeFileSync(join(dir, 'mutant'), after);
        const theirs = await oracle('mutant', dir);
        if (theirs.counters !== undefined) {
          const ours = counters(await checkImage(join(dir, 'mutant')));
          expect(ours).toEqual(theirs.counters);
        }
        if (result.after.corruptions + result.after.leaks === 0) repaired++;
        const now = await contents(after);
        before?.forEach((was, i) => {
          if (was !== undefined) expect(now?.[i]).toBe(was);
        });
        const [again, twice] = await tryRepair(after);
        expect([again?.leaksFixed, again?.corruptionsFixed]).toEqual([0, 0]);
        expect(twice).toEqual(after);
      },
    );
    // The refcount block is the L1 table: a counter of one bit does not tell.
    const shared = { word: 0, cluster: 0, how: 'bit', bit: 12, value: 0n } as const;
    // An L1 entry of a reserved bit alone: the header is taken for an L2 table.
    const inHeader = { word: 1725756060, cluster: 0, how: 'random', bit: 0, value: 1n } as const;
    const examples: [number, Mutation[], null][] = [
      [4, [shared], null],
      [4, [inHeader], null],
      [0, [inHeader], null],
    ];
    // A failure is told in time, be it not the shortest.
    await fc.assert(property, { numRuns: 100, examples, interruptAfterTimeLimit: 100_000 });
    expect(repaired).toBeGreaterThan(10);
    expect(readFileSync(join(dir, IMAGES[0]![0])).equals(originals[0]!)).toBe(true);
  }, 120_000);
});
