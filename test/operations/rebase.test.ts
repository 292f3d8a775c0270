import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Image } from '../../src/image/image.ts';
import { rebaseFile } from '../../src/node/rebase-file.ts';
import { create } from '../../src/operations/create.ts';
import { rebase } from '../../src/operations/rebase.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import { withKernel } from '../crash/verdict.ts';
import { contents, makeKind, WRITE_KINDS } from '../image/write-kinds.ts';
import { firstDifference } from '../image/write-model.ts';
import { makeContent } from '../support/data.ts';
import { run, runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { anyLevel, Chains } from './chains.ts';

const RUNS = Number(process.env.QCOW2_REBASE_RUNS ?? 80);

let root: string;
beforeAll(() => {
  root = makeTempDir('rebase');
});
afterAll(() => removeTempDir(root));

describe('the disk stays what it is', () => {
  it('whatever lies below before and afterwards', async () => {
    const levels = fc.tuple(anyLevel(), anyLevel('qcow2'), anyLevel('qcow2'), anyLevel());
    const target = fc.constantFrom('none', 'base', 'mid', 'other');
    await fc.assert(
      fc.asyncProperty(levels, target, async ([base, mid, top, other], onto) =>
        withKernel(async (kernel) => {
          const chains = new Chains(kernel);
          await chains.make('base', base);
          await chains.make('mid', mid, 'base');
          await chains.make('top', top, 'mid');
          await chains.make('other', other);
          const image = await chains.open('top', { writable: true });
          const format = chains.formats.get(onto);
          const backingImage = format && (await chains.open(onto));
          await rebase(image, { backing: format && { name: onto, format }, backingImage });
          await backingImage?.close();
          await image.close();
          const again = await chains.open('top');
          expect(again.metadata!.backingFile?.text).toBe(format && onto);
          expect(again.metadata!.backingFormat).toBe(format);
          await again.close();
          expect(firstDifference(await chains.read('top'), chains.disks.get('top')!)).toBe(-1);
          expect(await chains.findings()).toEqual([]);
        }),
      ),
      { numRuns: RUNS },
    );
  }, 60_000);

  const kinds = WRITE_KINDS.filter(
    ({ name, hasBacking }) => hasBacking || /^(version 3, empty|version 2|extended L2)$/.test(name),
  );
  it.each(kinds)(
    '$name: onto a raw disk, a qcow2 image and none, by qemu-img, too',
    async (kind) => {
      const folder = join(root, kind.name);
      mkdirSync(folder);
      const { disk } = await makeKind(kind, folder);
      const path = join(folder, 'image.qcow2');
      writeFileSync(join(folder, 'long.raw'), makeContent('mixed', 1536 * 1024, 21));
      const compressed = ['convert', '-c', '-f', 'raw', '-O', 'qcow2', 'short.raw', 'packed.qcow2'];
      await runOk('qemu-img', compressed, folder);
      for (const backing of [
        { name: 'long.raw', format: 'raw' },
        { name: 'packed.qcow2', format: 'qcow2' },
        undefined,
      ] as const) {
        await rebaseFile({ path, backing });
        expect(firstDifference(await contents(folder, []), disk), backing?.name).toBe(-1);
        await runOk('qemu-img', ['check', 'image.qcow2'], folder);
      }
    },
  );
});

describe('no more is copied than must be', () => {
  /** An overlay of `size` bytes over a file called `old`. */
  async function overlay(size: number, old: Uint8Array): Promise<[MemoryStorage, Image]> {
    const file = new MemoryStorage(new Uint8Array(0), 'top');
    await create(file, { format: 'qcow2', size, backingFile: 'old', backingFormat: 'raw' });
    const backingFile = new MemoryStorage(old, 'old');
    return [file, await Image.open(file, { writable: true, backingFile })];
  }

  it('what both backing files have is left to them, zeros are not stored', async () => {
    const size = 4 << 20;
    const old = makeContent('random', size, 3);
    const other = old.slice();
    other.fill(0, 65536, 2 * 65536);
    other.fill(7, 1 << 20, 2 << 20);
    old.fill(0, 1 << 20, 2 << 20);
    const [file, image] = await overlay(size, old);
    const before = file.size;
    const backingImage = await Image.open(other.slice(), { format: 'raw' });
    await rebase(image, { backing: { name: 'other', format: 'raw' }, backingImage });
    await image.close();
    // An L2 table and the one cluster that is not in the other file.
    expect(file.size).toBe(Math.ceil(before / 65536) * 65536 + 2 * 65536);
    const backingFile = new MemoryStorage(other, 'other');
    const again = await Image.open(file, { backingFile });
    const disk = new Uint8Array(size);
    await again.read(0, disk);
    expect(firstDifference(disk, old)).toBe(-1);
  });

  it('a disk of a TiB with nothing on it takes no time', async () => {
    const size = 2 ** 40;
    const [file, image] = await overlay(size, new Uint8Array(512));
    const start = performance.now();
    await rebase(image, {});
    await image.close();
    expect(performance.now() - start).toBeLessThan(500);
    expect(file.size).toBeLessThan(1 << 20);
  });
});

describe('only the name', () => {
  it('changes without looking at any file, and back, in clusters of any size', async () => {
    for (const clusterSize of [512, 1024, 4096, 65536]) {
      const file = new MemoryStorage(new Uint8Array(0), 'top');
      await create(file, { format: 'qcow2', size: 1 << 20, clusterSize });
      const names = ['a', undefined, 'b'.repeat(200), 'c'.repeat(199), 'd'.repeat(250), 'a'];
      for (const [i, name] of names.entries()) {
        const image = await Image.open(file, { writable: true });
        const format = i % 2 === 0 ? 'raw' : 'qcow2';
        await rebase(image, { unsafe: true, ...(name && { backing: { name, format } }) });
        await image.close();
        const { metadata } = await Image.open(file);
        expect(metadata!.backingFile?.text).toBe(name);
        expect(metadata!.backingFormat).toBe(name && format);
      }
      await writeFileSync(join(root, `names-${clusterSize}`), file.bytes);
      await runOk('qemu-img', ['info', `names-${clusterSize}`], root);
    }
  });

  it('is what qemu-img writes, byte for byte', async () => {
    for (const args of ['-b other -F raw', `-b ${'x'.repeat(300)} -F qcow2`, '-b ']) {
      const rebased = ['rebase', '-u', ...args.split(' '), 'one'];
      await runOk('qemu-img', 'create -q -f qcow2 -b old -F raw -u one 1M'.split(' '), root);
      const mine = await Image.open(new Uint8Array(0), { format: 'raw' });
      await mine.close();
      await runOk('cp', ['one', 'two'], root);
      await runOk('qemu-img', rebased, root);
      const [, , , name, , format] = rebased;
      const backing = name ? { name, format: format as 'raw' } : undefined;
      await rebaseFile({ path: join(root, 'two'), backing, unsafe: true });
      await runOk('cmp', ['one', 'two'], root);
    }
  });
});

describe('refusals', () => {
  it('tells what cannot be, and changes nothing', async () => {
    const file = new MemoryStorage(new Uint8Array(0), 'top');
    await create(file, { format: 'qcow2', size: 1 << 20, clusterSize: 512 });
    const before = file.bytes.slice();
    const attempt = async (options: Parameters<typeof rebase>[1]): Promise<string> => {
      const image = await Image.open(file, { writable: true });
      const message = await rebase(image, options).then(
        () => 'done',
        (error: Error) => error.message,
      );
      await image.close();
      return message;
    };
    const backing = { name: 'x', format: 'raw' } as const;
    expect(await attempt({ backing })).toMatch(/backingImage/);
    const long = { name: 'x'.repeat(500), format: 'raw' } as const;
    expect(await attempt({ backing: long, unsafe: true })).toMatch(/must fit one cluster/);
    expect(firstDifference(file.bytes, before)).toBe(-1);
  });

  it('an image that was rebased is closed before anything else', async () => {
    const file = new MemoryStorage(new Uint8Array(0), 'top');
    await create(file, { format: 'qcow2', size: 1 << 20 });
    const image = await Image.open(file, { writable: true });
    await rebase(image, {});
    await expect(image.write(0, new Uint8Array(512))).rejects.toThrow(/open it anew/);
    await image.close();
  });

  it('an image does not come to lie below itself', async () => {
    const cwd = root;
    await runOk('qemu-img', 'create -q -f qcow2 low 1M'.split(' '), cwd);
    await runOk('qemu-img', 'create -q -f qcow2 -b low -F qcow2 high 1M'.split(' '), cwd);
    const backing = { name: 'high', format: 'qcow2' } as const;
    await expect(rebaseFile({ path: join(root, 'low'), backing })).rejects.toThrow(
      /itself|"write" lock/,
    );
    expect((await run('qemu-img', ['info', '--backing-chain', 'high'], cwd)).status).toBe(0);
  });
});
