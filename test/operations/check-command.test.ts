import { copyFileSync, readFileSync, rmSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Image } from '../../src/image/image.ts';
import { check } from '../../src/operations/check.ts';
import { FileStorage } from '../../src/storage/file.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import { qcow2 } from '../cli/command.ts';
import { run } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { at, COPIED, checkImage, makeDisk, patchWords } from './check-support.ts';

let root: string;
beforeAll(() => {
  root = makeTempDir('check-command');
});
afterAll(() => removeTempDir(root));

const make = (name: string, ...lines: string[]) => makeDisk(root, name, lines);

const TABLE = 0x10000;
const L2 = 0x40000;
const PLAIN = ['create disk 10M', "io 'write -P 1 0 192k'"];

describe('check', () => {
  it('tells findings by class, structure, offset and text', async () => {
    const dir = await make('findings', ...PLAIN);
    patchWords(at(dir, 'disk'), [L2, COPIED | 0x60000n]);
    const { findings } = await checkImage(at(dir, 'disk'));
    expect(findings).toEqual([
      {
        class: 'leak',
        structure: 'refcount block',
        offset: 0x50000,
        message: 'Leaked cluster 5 refcount=1 reference=0',
        count: 1,
      },
      {
        class: 'corruption',
        structure: 'refcount block',
        offset: 0x60000,
        message: 'ERROR cluster 6 refcount=1 reference=2',
        count: 1,
      },
    ]);
  });

  it('lists so many findings and counts all', async () => {
    const dir = await make('many findings', ...PLAIN);
    patchWords(at(dir, 'disk'), [TABLE, 0n]);
    const result = await checkImage(at(dir, 'disk'), { maxFindings: 3 });
    expect([result.corruptions, result.findings.length, result.findingsOmitted]).toEqual([
      11, 3, 8,
    ]);
  });

  it('takes an open image or any storage, and leaves it open', async () => {
    const dir = await make('sources', ...PLAIN);
    const storage = new MemoryStorage(new Uint8Array(readFileSync(at(dir, 'disk'))));
    const result = await check(storage);
    const image = await Image.open(storage);
    expect(await check(image)).toEqual(result);
    await image.read(0, new Uint8Array(512));
  });

  it('finds the same in a storage that answers with promises', async () => {
    const dir = await make(
      'promises',
      ...PLAIN,
      'qemu-img snapshot -c one disk',
      "io 'write 0 4k'",
    );
    patchWords(at(dir, 'disk'), [L2, 0x60000n]);
    const storage = new FileStorage(at(dir, 'disk'));
    const result = await check(storage);
    storage.close();
    expect(result.corruptions).toBeGreaterThan(0);
    expect(result).toEqual(await checkImage(at(dir, 'disk')));
  });

  it('ends when it is aborted', async () => {
    const dir = await make('abort', ...PLAIN);
    const signal = AbortSignal.abort();
    await expect(checkImage(at(dir, 'disk'), { signal })).rejects.toMatchObject({
      code: 'ABORTED',
    });
  });

  it('opens data file and backing chain, and only what the gate lets through', async () => {
    const dir = await make(
      'chain',
      'create base 4M',
      'create -b base -F qcow2 middle 4M',
      'create -b middle -F qcow2 disk 4M',
      'create -o data_file=data external 4M',
    );
    expect((await checkImage(at(dir, 'disk'))).corruptions).toBe(0);
    rmSync(at(dir, 'base'));
    rmSync(at(dir, 'data'));
    const missing = { code: 'NOT_FOUND' };
    await expect(checkImage(at(dir, 'disk'))).rejects.toMatchObject(missing);
    await expect(checkImage(at(dir, 'external'))).rejects.toMatchObject(missing);
    const resolver = (): null => null;
    const refused = { code: 'EXTERNAL_REFUSED' };
    await expect(checkImage(at(dir, 'disk'), { resolver })).rejects.toMatchObject(refused);
    for (const image of ['disk', 'external']) {
      expect((await run('qemu-img', ['check', image], dir)).status).toBe(1);
      expect((await qcow2('check', at(dir, image))).status).toBe(1);
    }
  });
});

/** Lines whose words are qemu-img's: not those about entries, and why they stay. */
const commonLines = (stderr: string): string[] =>
  stderr.split('\n').filter((line) => !/^ERROR (L2|found)|stay as they are/.test(line));

describe('the command', () => {
  it('has qemu-img check behave for raw images, missing files and -q', async () => {
    const dir = await make('command', ...PLAIN, 'qemu-img create -q -f raw raw 1M');
    const path = at(dir, 'disk');
    patchWords(path, [L2, COPIED | 0x60000n]);
    const noCheck = {
      status: 63,
      stdout: '',
      stderr: 'qcow2: This image format does not support checks\n',
    };
    expect(await qcow2('check', at(dir, 'raw'))).toEqual(noCheck);
    expect(await qcow2('check', '-f', 'raw', '--output=json', path)).toEqual(noCheck);
    expect((await qcow2('check', at(dir, 'nothere'))).status).toBe(1);
    for (const style of ['json', 'human']) {
      const args = ['check', '-q', '-U', '-f', 'qcow2', `--output=${style}`, path];
      const theirs = await run('qemu-img', args, dir);
      const { status, stdout, stderr } = await qcow2(...args);
      expect({ status, stdout, stderr }).toEqual({
        status: theirs.status,
        stdout: theirs.stdout,
        stderr: theirs.stderr,
      });
    }
  });

  it.each<[string, [number, bigint][]]>([
    ['a leak and a counter too low', [[L2, COPIED | 0x60000n]]],
    ['a leak', [[L2, 0n]]],
    ['bit 63', [[L2, 0x50000n]]],
    ['reserved bits', [[L2, COPIED | (1n << 58n) | 0x50006n]]],
    ['nothing', []],
    ['a refcount block used twice', [[TABLE + 8, 0x20000n]]],
  ])('repairs %s and prints it as qemu-img does', async (name, words) => {
    const dir = await make(`repair ${name}`, ...PLAIN);
    patchWords(at(dir, 'disk'), ...words);
    for (const mode of ['leaks', 'all'])
      for (const style of ['json', 'human'])
        for (const quiet of [[], ['-q']]) {
          copyFileSync(at(dir, 'disk'), at(dir, 'copy'));
          const args = ['check', '-r', mode, `--output=${style}`, ...quiet, at(dir, 'copy')];
          const ours = await qcow2(...args);
          copyFileSync(at(dir, 'disk'), at(dir, 'copy'));
          const theirs = await run('qemu-img', args, dir);
          expect([ours.status, ours.stdout]).toEqual([theirs.status, theirs.stdout]);
          // Theirs tries in vain to repair what -r leaks leaves; old refcount structures are leaks there.
          if (mode === 'all' && !name.startsWith('a refcount'))
            expect(commonLines(ours.stderr)).toEqual(commonLines(theirs.stderr));
        }
  });

  it('tells why it does not repair, and when it is to repair all', async () => {
    const dir = await make('unrepaired', ...PLAIN);
    const path = at(dir, 'disk');
    patchWords(path, [L2, COPIED | 0x80000n]);
    const { status, stderr } = await qcow2('check', '-r', 'leaks', path);
    expect(status).toBe(2);
    expect(stderr).toMatch(/damaged entries stay as they are.*\n.*leaked clusters are kept.*\n$/);
    patchWords(path, [TABLE, 0n]);
    const leaks = await qcow2('check', '-r', 'leaks', path);
    expect([leaks.status, leaks.stdout]).toEqual([1, '']);
    expect(leaks.stderr).toMatch(/\nqcow2: Check failed: .*\(-r all\)\n$/);
  });

  it('refuses other repairs, those of images others write, and of raw images', async () => {
    const dir = await make('no repair', ...PLAIN, 'qemu-img create -q -f raw raw 1M');
    const path = at(dir, 'disk');
    for (const args of [
      ['-r', 'some'],
      ['-U', '-r', 'all'],
    ])
      expect((await qcow2('check', ...args, path)).status).toBe(1);
    expect((await qcow2('check', '-r', 'all', at(dir, 'raw'))).status).toBe(63);
  });

  it('ends with status 1 when a refcount block cannot be used', async () => {
    const dir = await make('incomplete', ...PLAIN);
    patchWords(at(dir, 'disk'), [TABLE, 0x20200n]);
    const { status, stdout, stderr } = await qcow2('check', at(dir, 'disk'));
    expect(status).toBe(1);
    expect(stdout).toContain('\n8 internal errors have occurred during the check.\n');
    expect(stderr).toMatch(/\nqcow2: Check failed\n$/);
  });
});
