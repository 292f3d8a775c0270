import { copyFileSync, statSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { checksum } from '../../src/node/checksum.ts';
import { openImage } from '../../src/node/open-image.ts';
import { convertFile } from '../../src/workers/convert-file.ts';
import { sha256File } from '../support/digest.ts';
import { makeLimiter } from '../support/limit.ts';
import { describeRun, type RunResult } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { makeImage, recipes } from './images.ts';
import type { Recipe } from './recipes/recipe.ts';
import { qemuImg, requireOracle, subject } from './tools.ts';

const MAP_KEYS = ['start', 'length', 'depth', 'present', 'zero', 'data', 'offset'] as const;
const TEST_MS = 120_000;

interface MapEntry {
  start?: number;
  length?: number;
  depth?: number;
  present?: boolean;
  zero?: boolean;
  data?: boolean;
  offset?: number;
}

interface Info {
  readonly 'virtual-size': number;
  readonly 'cluster-size'?: number;
  readonly encrypted?: boolean;
  readonly snapshots?: readonly { readonly id: string; readonly name: string }[];
  readonly 'format-specific'?: { readonly data: Readonly<Record<string, unknown>> };
  readonly [key: string]: unknown;
}

const root = makeTempDir('oracle-read');
const twoAtATime = makeLimiter(2);
const seenKinds = new Set<string>();

beforeAll(() => requireOracle(root));
afterAll(() => removeTempDir(root));

function expectSuccess(result: RunResult): RunResult {
  expect(result.status, describeRun(result)).toBe(0);
  expect(result.stderr, describeRun(result)).toBe('');
  return result;
}

async function bySubject(args: readonly string[], dir: string): Promise<RunResult> {
  return expectSuccess(await subject(args, dir));
}

/**
 * The disk of a snapshot after going back to it on a copy. qemu-img's `convert -l` pads or cuts it to
 * the size the disk has now; ours gives the disk the snapshot was taken of.
 */
async function applied(recipe: Recipe, snapshot: string, raw: string, dir: string): Promise<void> {
  const copy = join(dir, 'applied.out');
  copyFileSync(join(dir, recipe.image), copy);
  await qemuImg(['snapshot', '-a', snapshot, copy], dir);
  await qemuImg(['convert', '-O', 'raw', copy, raw], dir);
  unlinkSync(copy);
}

/** The digests taken while the disk is converted are those of what the other tool wrote. */
async function expectSameDigests(
  recipe: Recipe,
  dir: string,
  theirs: string,
  snapshot?: string,
): Promise<void> {
  const raw = await openImage(theirs, { format: 'raw' });
  const sparse = await checksum(raw, { algorithm: 'sha256-sparse' });
  await raw.close();
  const target = join(dir, 'digest.out');
  const inputs = [{ path: join(dir, recipe.image), snapshot }];
  const common = { inputs, target, threads: 1, durable: false };
  const plain = { ...common, targetFormat: 'raw', checksum: 'sha256' } as const;
  expect(await convertFile(plain)).toEqual({ digest: sha256File(theirs) });
  const tree = { ...common, targetFormat: 'qcow2', checksum: 'sha256-sparse' } as const;
  expect(await convertFile(tree)).toEqual({ digest: sparse });
  unlinkSync(target);
}

/** The disk as both tools write it to a raw file: same length, same bytes. */
async function expectSameDisk(recipe: Recipe, dir: string, snapshot?: string): Promise<number> {
  const chosen = snapshot === undefined ? [] : ['-l', snapshot];
  const theirs = join(dir, 'theirs.out');
  const ours = join(dir, 'ours.out');
  if (snapshot !== undefined && recipe.facts.resized) await applied(recipe, snapshot, theirs, dir);
  else await qemuImg(['convert', ...chosen, '-O', 'raw', recipe.image, theirs], dir);
  await bySubject(['convert', ...chosen, '-O', 'raw', recipe.image, ours], dir);
  const what = snapshot === undefined ? 'the disk' : `snapshot ${snapshot}`;
  const length = statSync(theirs).size;
  expect(statSync(ours).size, `length of ${what}`).toBe(length);
  expect(sha256File(ours), `bytes of ${what}`).toBe(sha256File(theirs));
  await expectSameDigests(recipe, dir, theirs, snapshot);
  unlinkSync(theirs);
  unlinkSync(ours);
  return length;
}

function sharedKeys(entries: readonly MapEntry[]): MapEntry[] {
  return entries.map((entry) => Object.fromEntries(MAP_KEYS.map((key) => [key, entry[key]])));
}

/** The same runs without the difference between data and the holes of the host file in them. */
function blindToHoles(entries: readonly MapEntry[]): MapEntry[] {
  const merged: MapEntry[] = [];
  for (const entry of sharedKeys(entries)) {
    const next: MapEntry = { ...entry, zero: entry.zero === true && entry.data !== true };
    const last = merged.at(-1);
    if (last !== undefined && continues(last, next))
      last.length = (last.length ?? 0) + (next.length ?? 0);
    else merged.push(next);
  }
  return merged;
}

function continues(last: MapEntry, next: MapEntry): boolean {
  const sameKind = (['depth', 'present', 'zero', 'data'] as const).every(
    (key) => last[key] === next[key],
  );
  const end = last.offset === undefined ? undefined : last.offset + (last.length ?? 0);
  return sameKind && end === next.offset;
}

function noteKinds(entries: readonly MapEntry[]): void {
  for (const { data, zero, present, offset } of entries) {
    const place = offset === undefined ? 'no offset' : 'offset';
    seenKinds.add(`${data ? 'data' : 'no data'}, ${zero ? 'zero' : 'bytes'}, ${place}, ${present}`);
  }
}

async function expectSameMap(recipe: Recipe, dir: string): Promise<void> {
  const args = ['map', '--output=json', recipe.image];
  const theirs = JSON.parse((await qemuImg(args, dir)).stdout) as MapEntry[];
  const ours = JSON.parse((await bySubject(args, dir)).stdout) as MapEntry[];
  const view = recipe.facts.sparse ? blindToHoles : sharedKeys;
  noteKinds(view(theirs));
  expect(view(ours)).toEqual(view(theirs));
}

/** `info` without what newer oracles add: a description of every file below the image. */
function withoutChildren(info: Info): Info {
  const { children: _, ...rest } = info;
  return rest as Info;
}

/** The human text up to the same newer description. */
function beforeChildren(text: string): string {
  return text.replace(/^Child node '\/[\s\S]*/m, '');
}

async function expectSameInfo(recipe: Recipe, dir: string): Promise<Info> {
  const json = ['info', '--output=json', recipe.image];
  const theirs = withoutChildren(JSON.parse((await qemuImg(json, dir)).stdout));
  const ours = JSON.parse((await bySubject(json, dir)).stdout) as Info;
  expect(withoutChildren(ours)).toEqual(theirs);
  const human = ['info', recipe.image];
  const text = beforeChildren((await qemuImg(human, dir)).stdout);
  expect(beforeChildren((await bySubject(human, dir)).stdout)).toBe(text);
  return theirs;
}

/** The oracle itself must say that the recipe made what it names. */
function expectFacts({ facts }: Recipe, info: Info): void {
  if (facts.clusterSize !== undefined) expect(info['cluster-size']).toBe(facts.clusterSize);
  if (facts.virtualSize !== undefined) expect(info['virtual-size']).toBe(facts.virtualSize);
  if (facts.encrypted) expect(info.encrypted).toBe(true);
  expect(info['format-specific']?.data).toMatchObject(facts.specific ?? {});
  const names = info.snapshots?.map((snapshot) => snapshot.name) ?? [];
  expect(names).toEqual(expect.arrayContaining([...(facts.snapshots ?? [])]));
}

/** Data that need a key: status 1, one line, no target. */
async function expectRefusal(recipe: Recipe, dir: string): Promise<void> {
  for (const args of [
    ['convert', '-O', 'raw', recipe.image, 'refused.out'],
    ['map', '--output=json', recipe.image],
  ]) {
    const result = await subject(args, dir);
    expect(result.status, describeRun(result)).toBe(1);
    expect(result.stderr, describeRun(result)).toMatch(/^[^\n]+\n$/);
    expect(statSync(join(dir, 'refused.out'), { throwIfNoEntry: false })).toBeUndefined();
  }
}

async function compare(recipe: Recipe): Promise<void> {
  const dir = await makeImage(recipe, root);
  const info = await expectSameInfo(recipe, dir);
  expectFacts(recipe, info);
  if (recipe.facts.encrypted) {
    await expectRefusal(recipe, dir);
  } else {
    await expectSameMap(recipe, dir);
    expect(await expectSameDisk(recipe, dir)).toBe(info['virtual-size']);
    for (const name of recipe.facts.snapshots ?? []) await expectSameDisk(recipe, dir, name);
  }
  removeTempDir(dir);
}

describe('reading what qemu-img wrote', () => {
  test('names of recipes are unique', () => {
    expect(new Set(recipes.map((recipe) => recipe.name)).size).toBe(recipes.length);
  });

  describe.concurrent('same disk, map and info', () => {
    for (const recipe of recipes) {
      test(recipe.name, { timeout: TEST_MS }, () => twoAtATime(() => compare(recipe)));
    }
  });

  test('the matrix holds every kind of run', () => {
    expect([...seenKinds].sort()).toEqual([
      'data, bytes, no offset, true',
      'data, bytes, offset, true',
      'no data, bytes, no offset, false',
      'no data, zero, no offset, false',
      'no data, zero, no offset, true',
      'no data, zero, offset, false',
      'no data, zero, offset, true',
    ]);
  });
});
