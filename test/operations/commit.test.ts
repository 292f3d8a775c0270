import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Image } from '../../src/image/image.ts';
import { Plan } from '../../src/image/plan.ts';
import { createKernel } from '../../src/kernel/kernel.ts';
import { commitFile } from '../../src/node/commit-file.ts';
import { type CommitOptions, commit } from '../../src/operations/commit.ts';
import { create } from '../../src/operations/create.ts';
import { createSnapshot } from '../../src/operations/snapshot.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import { withKernel } from '../crash/verdict.ts';
import { contents, makeKind, WRITE_KINDS } from '../image/write-kinds.ts';
import { firstDifference } from '../image/write-model.ts';
import { run, runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { anyLevel, Chains } from './chains.ts';

const RUNS = Number(process.env.QCOW2_COMMIT_RUNS ?? 80);

let root: string;
beforeAll(() => {
  root = makeTempDir('commit');
});
afterAll(() => removeTempDir(root));

/** Whether an image itself has nothing. */
async function isEmpty(image: Image): Promise<boolean> {
  const plan = new Plan();
  await image.withChain((chain) => chain.map(0, image.virtualSize, plan, 0, 1));
  return plan.count === 1 && plan.host[0] === 0;
}

async function commitIn(chains: Chains, base: string, options: CommitOptions): Promise<void> {
  const image = await chains.open('top', { writable: true });
  const target = await chains.open(base, { writable: true });
  await commit(image, target, options);
  await image.close();
  await target.close();
}

describe('the overlay shows the same, and its base shows it too', () => {
  it('whatever they are', async () => {
    const levels = fc.tuple(anyLevel(), anyLevel('qcow2'), anyLevel('qcow2'));
    const options = fc.record({ depth: fc.constantFrom(1, 1, 2), keep: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(levels, options, async ([base, mid, top], how) =>
        withKernel(async (kernel) => {
          const chains = new Chains(kernel);
          await chains.make('base', base);
          await chains.make('mid', mid, 'base');
          await chains.make('top', top, 'mid');
          const target = how.depth === 1 ? 'mid' : 'base';
          const [disk, before] = [chains.disks.get('top')!, chains.disks.get(target)!];
          const after = new Uint8Array(Math.max(disk.length, before.length));
          after.set(before);
          after.set(disk);
          // A second time changes nothing.
          for (const _ of [1, 2]) {
            await commitIn(chains, target, how);
            expect(firstDifference(await chains.read('top'), disk)).toBe(-1);
            expect(firstDifference(await chains.read(target), after)).toBe(-1);
            expect(await chains.findings()).toEqual([]);
          }
          const image = await chains.open('top');
          if (!how.keep && how.depth === 1) expect(await isEmpty(image)).toBe(true);
          await image.close();
        }),
      ),
      { numRuns: RUNS },
    );
  }, 60_000);

  const kinds = WRITE_KINDS.filter(({ hasBacking }) => hasBacking);
  it.each(kinds)('$name, by qemu-img, too', async (kind) => {
    const folder = join(root, kind.name);
    mkdirSync(folder);
    const { disk, snapshots } = await makeKind(kind, folder);
    await commitFile({ path: join(folder, 'image.qcow2'), sync: true });
    expect(firstDifference(await contents(folder, []), disk)).toBe(-1);
    await runOk('qemu-img', ['check', 'image.qcow2'], folder);
    for (const name of snapshots.keys()) await contents(folder, ['-l', name]);
    const base = kind.steps.some((step) => step.includes('mid.qcow2')) ? 'mid.qcow2' : 'short.raw';
    await runOk('qemu-img', ['compare', 'image.qcow2', base], folder);
    if (base === 'mid.qcow2') await runOk('qemu-img', ['check', base], folder);
    // Nothing is left but what snapshots have.
    const { stdout } = await runOk('qemu-img', ['map', '--output=json', 'image.qcow2'], folder);
    const runs = JSON.parse(stdout) as { depth: number; present: boolean }[];
    expect(runs.filter(({ depth, present }) => present && depth === 0)).toEqual([]);
  });
});

describe('the emptied overlay', () => {
  it('is as short as a new one', async () => {
    const base = new MemoryStorage(new Uint8Array(8 << 20), 'base');
    const file = new MemoryStorage(new Uint8Array(0), 'top');
    const names = { backingFile: 'base', backingFormat: 'raw' };
    await create(file, { format: 'qcow2', size: 8 << 20, ...names });
    const before = file.size;
    const open = () => Image.open(file, { writable: true, resolver: () => base });
    const image = await open();
    await image.write(0, new Uint8Array(8 << 20).fill(9));
    await createSnapshot(image, 'x');
    await image.write(0, new Uint8Array(1 << 20).fill(7));
    await image.close();
    expect(file.size).toBeGreaterThan(8 << 20);
    const overlay = await open();
    await commit(overlay, await Image.open(base, { format: 'raw', writable: true }));
    await overlay.close();
    const snapshot = await Image.open(file, { snapshot: 'x', resolver: () => base });
    const disk = new Uint8Array(8 << 20);
    await snapshot.read(0, disk);
    expect(disk.every((byte) => byte === 9)).toBe(true);
    expect(base.bytes[0]).toBe(7);
    expect(base.bytes.at(-1)).toBe(9);
    const plain = await open();
    expect(await isEmpty(plain)).toBe(true);
    await plain.close();
    expect(before).toBeLessThan(1 << 20);
  });
});

describe('refusals', () => {
  it('names what is wrong', async () => {
    const chains = new Chains(createKernel());
    const level = { clusterSize: 4096, version: 3, extendedL2: false, changes: [] } as const;
    await chains.make('base', { ...level, format: 'raw', size: 65536 });
    await chains.make('other', { ...level, format: 'raw', size: 65536 });
    await chains.make('top', { ...level, format: 'qcow2', size: 65536 }, 'base');
    await chains.make('alone', { ...level, format: 'qcow2', size: 65536 });
    await expect(commitIn(chains, 'other', {})).rejects.toThrow(/is not the file 1 levels below/);
    await expect(commitIn(chains, 'base', { depth: 5 })).rejects.toThrow(/no file 5 levels below/);
    const alone = await chains.open('alone', { writable: true });
    const base = await chains.open('base', { writable: true });
    await expect(commit(alone, base)).rejects.toThrow('Image does not have a backing file');
  });

  it('a base outside the folder is not written, and the file is as it was', async () => {
    const [inside, outside] = [join(root, 'inside'), join(root, 'outside')];
    for (const folder of [inside, outside]) mkdirSync(folder);
    await runOk('qemu-img', 'create -q -f raw base 1M'.split(' '), outside);
    const steps = 'create -q -f qcow2 -b ../outside/base -F raw top 1M'.split(' ');
    await runOk('qemu-img', steps, inside);
    await runOk('qemu-io', ['-c', 'write -P 5 0 64k', 'top'], inside);
    const path = join(inside, 'top');
    await expect(commitFile({ path })).rejects.toThrow(/not opened/);
    await expect(commitFile({ path, allowExternal: [outside] })).resolves.toBeUndefined();
    const { status } = await run('qemu-img', ['compare', 'top', '../outside/base'], inside);
    expect(status).toBe(0);
  });
});
