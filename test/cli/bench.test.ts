import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Image } from '../../src/image/image.ts';
import { bench } from '../../src/operations/bench.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import { run, runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { qcow2 } from './command.ts';

let dir: string;
const home = process.cwd();

beforeAll(async () => {
  dir = makeTempDir('bench');
  process.chdir(dir);
  await runOk('qemu-img', ['create', '-q', '-f', 'qcow2', 'disk', '3M'], dir);
  await runOk('qemu-io', ['-c', 'write -P 1 0 1M', '-c', 'write -P 2 2M 100k', 'disk'], dir);
  writeFileSync('odd.raw', new Uint8Array(3000));
});
afterAll(() => {
  process.chdir(home);
  removeTempDir(dir);
});

/** The output without the time it took. */
const untimed = (text: string) => text.replace(/completed in \d+\.\d{3} s/, 'completed in T s');

describe('bench prints what qemu-img prints', () => {
  it.each([
    '-c 10 disk',
    '-q -c 10 disk',
    '-c 10 -d 3 -s 1000 -S 777 -o 5 -f qcow2 -t none -n -i native disk',
    '-c 10 -d 3 -s 1M disk',
    '-c 0 disk',
    '-c 0x10 -d 07 disk',
    '-c 10 -s 0 disk',
    '-c 10 -S 0 disk',
    '-c 3 -o 2.9M disk',
    '-c 1 -o 3141632 disk',
    '-c 2 -o 3141632 -S 7M disk',
    '-c 10 --no-drain --pattern=65 disk',
    '-f raw -c 10 -s 512 odd.raw',
    '-U -c 3 disk',
    '-c 3 --image-opts driver=qcow2,file.filename=disk',
    '-c 200 -s 512 disk',
  ])('%s', async (line) => {
    const theirs = await runOk('qemu-img', ['bench', ...line.split(' ')], dir);
    const ours = await qcow2('bench', ...line.split(' '));
    expect([ours.status, ours.stderr]).toEqual([0, '']);
    expect(untimed(ours.stdout)).toBe(untimed(theirs.stdout));
  });
});

describe('bench -w writes what qemu-img writes', () => {
  it.each([
    '-w -c 10',
    '-w -c 100 --pattern 66 -s 3000 -S 5000 -o 100',
    '-w -c 100 --pattern 0x43 --flush-interval=70',
    '-w -c 300 -d 3 --flush-interval=3 --no-drain --pattern 67 -S 70k',
    '-w -c 20 -d 7 -t writethrough --pattern 1',
    '-w -c 50 -t unsafe --pattern 2 -s 4k -S 1M --flush-interval=64',
    '-w -c 5 -s 700k -S 300k --pattern 9 -o 1M',
  ])('%s', async (line) => {
    copyFileSync('disk', 'ours');
    copyFileSync('disk', 'theirs');
    const theirs = await run('qemu-img', ['bench', ...line.split(' '), 'theirs'], dir);
    const ours = await qcow2('bench', ...line.split(' '), 'ours');
    expect([ours.status, ours.stderr]).toEqual([theirs.status, '']);
    expect(untimed(ours.stdout)).toBe(untimed(theirs.stdout));
    await runOk('qemu-img', ['check', 'ours'], dir);
    await runOk('qemu-img', ['compare', 'ours', 'theirs'], dir);
  });

  it('leaves a disk that is only read as it is', async () => {
    const before = readFileSync('disk');
    await qcow2('bench', '-c', '100', '--pattern', '66', 'disk');
    expect(readFileSync('disk').equals(before)).toBe(true);
  });
});

describe('bench refuses, in the words of qemu-img', () => {
  it.each([
    '-c x disk',
    '-c -1 disk',
    '-c 3000000000 disk',
    '-c 1k disk',
    '-d x disk',
    '-d -1 disk',
    '-s x disk',
    '-S x disk',
    '-o x disk',
    '-o -1 disk',
    '-s 4G disk',
    '-s 2G disk',
    '-S 4G disk',
    '--flush-interval=10 disk',
    '--pattern=256 disk',
    '--pattern=x disk',
    '-w --flush-interval=3 disk',
    '-w --flush-interval=3 --no-drain disk',
    '-w --flush-interval=x disk',
  ])('%s', async (line) => {
    const theirs = await run('qemu-img', ['bench', ...line.split(' ')], dir);
    const ours = await qcow2('bench', ...line.split(' '));
    const text = theirs.stderr.replaceAll('\nqemu-img:', '').replace('qemu-img', 'qcow2');
    expect(ours).toEqual({ status: theirs.status, stdout: '', stderr: `${text.trimEnd()}\n` });
  });

  it.each(['-c 10 -d 3 -s 1M -o 1 disk', '-c 10 -s 4M disk', '-q -c 2 -o 4M disk'])(
    '%s: requests over the end fail',
    async (line) => {
      const theirs = await run('qemu-img', ['bench', ...line.split(' ')], dir);
      const ours = await qcow2('bench', ...line.split(' '));
      expect([ours.status, ours.stdout]).toEqual([theirs.status, theirs.stdout]);
      expect(ours.status).toBe(1);
      expect(ours.stderr).toMatch(/^qcow2: Failed request: [^\n]+\n$/);
    },
  );

  it.each([
    [['bench'], /^qcow2: missing operand/],
    [['bench', 'disk', 'disk'], /^qcow2: unexpected operand/],
    [['bench', '-d', '0', 'disk'], /^qcow2: Invalid queue depth specified\n$/],
    [['bench', 'nothere'], /^qcow2: Could not open 'nothere': No such file or directory\n$/],
    [['bench', '-t', 'foo', 'disk'], /^qcow2: -t must be unsafe/],
    [['bench', '-i', 'foo', 'disk'], /^qcow2: -i must be threads/],
  ])('%j', async (argv, message) => {
    const { status, stdout, stderr } = await qcow2(...argv);
    expect([status, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(message);
  });
});

describe('bench', () => {
  it('can be aborted', async () => {
    const image = await Image.open(new MemoryStorage(new Uint8Array(1 << 20)), { format: 'raw' });
    const signal = AbortSignal.timeout(80);
    const running = bench(image, { count: 2 ** 31, signal });
    await expect(running).rejects.toMatchObject({ code: 'ABORTED' });
    await image.close();
  });

  it('does not write to an image that is open for reading', async () => {
    const image = await Image.open(new MemoryStorage(new Uint8Array(1 << 20)), { format: 'raw' });
    await expect(bench(image, { pattern: 1 })).rejects.toMatchObject({ code: 'READ_ONLY' });
    await image.close();
  });
});
