import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run, runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { qcow2 } from './command.ts';

let dir: string;
const home = process.cwd();

const IMAGES: Readonly<Record<string, readonly string[]>> = {
  plain: ['create -f qcow2 IMAGE 4M'],
  listed: [
    'create -f qcow2 IMAGE 4M',
    'snapshot -c one IMAGE',
    'snapshot -c 1 IMAGE',
    'snapshot -c one IMAGE',
    'snapshot -c 7th_of_ünïcode IMAGE',
  ],
  // Every counter it has is full.
  full: ['create -f qcow2 -o refcount_bits=1,preallocation=metadata IMAGE 4M'],
  bits2: [
    'create -f qcow2 -o refcount_bits=2,preallocation=metadata IMAGE 4M',
    'snapshot -c x IMAGE',
    'snapshot -c y IMAGE',
  ],
  bitmaps: ['create -f qcow2 IMAGE 4M', 'bitmap --add IMAGE bitmap', 'snapshot -c one IMAGE'],
  outside: ['create -f qcow2 -o data_file=outside.data IMAGE 4M'],
  version2: ['create -f qcow2 -o compat=0.10 IMAGE 4M', 'snapshot -c one IMAGE'],
  raw: ['create -f raw IMAGE 4M'],
};

beforeAll(async () => {
  dir = makeTempDir('cli-snapshot');
  process.chdir(dir);
  for (const [name, steps] of Object.entries(IMAGES))
    for (const step of steps) {
      const args = step.replace('IMAGE', name).split(' ');
      await runOk(
        'qemu-img',
        args[0] === 'create' ? ['create', '-q', ...args.slice(1)] : args,
        dir,
      );
    }
}, 60_000);
afterAll(() => {
  process.chdir(home);
  removeTempDir(dir);
});

/** Both programs with the same line, each on a copy of an image that has the same name. */
async function both(image: string, line: string) {
  const words = line
    .replace('IMAGE', 'copy')
    .split(' ')
    .map((word) => word.replace("''", ''));
  copyFileSync(join(dir, image), join(dir, 'copy'));
  const theirs = await run('qemu-img', ['snapshot', ...words], dir);
  const theirList = (await run('qemu-img', ['snapshot', '-l', 'copy'], dir)).stdout;
  copyFileSync(join(dir, image), join(dir, 'copy'));
  const ours = await qcow2('snapshot', ...words);
  const ourList = (await run('qemu-img', ['snapshot', '-l', 'copy'], dir)).stdout;
  const check = await run('qemu-img', ['check', '-q', 'copy'], dir);
  expect(check.status).toBe(image === 'raw' ? 63 : 0);
  return { theirs, ours, theirList, ourList };
}

/** Without the times. */
const timeless = (text: string) => text.replace(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/g, 'THEN');

/** The line qemu-img says about the operation itself, as one of ours. */
const asOurs = (text: string) =>
  text
    .split('\n')
    .filter((line) => line.startsWith('qemu-img: '))
    .map((line) => line.replace('qemu-img', 'qcow2'))
    .join('\n');

describe('snapshot does and says what qemu-img does and says', () => {
  it.each([
    ['plain', '-l IMAGE'],
    ['listed', '-l IMAGE'],
    ['listed', 'IMAGE'],
    ['listed', '-l -q IMAGE'],
    ['listed', '-U -l IMAGE'],
    ['listed', '--image-opts -l driver=qcow2,file.filename=copy'],
    ['raw', '-l IMAGE'],
    ['outside', '-l IMAGE'],
    ['plain', '-c first IMAGE'],
    ['plain', "-c '' IMAGE"],
    ['plain', 'IMAGE -c ünïcode'],
    ['listed', '-q -c one IMAGE'],
    ['listed', '--image-opts -c one driver=qcow2,file.filename=copy'],
    ['version2', '-c two IMAGE'],
    ['bitmaps', '-c two IMAGE'],
    ['listed', '-a 1 IMAGE'],
    ['listed', '-a one IMAGE'],
    ['version2', '-a one IMAGE'],
    ['listed', '-d one IMAGE'],
    ['listed', '-d 1 IMAGE'],
    ['version2', '-d one IMAGE'],
    ['bitmaps', '-d one IMAGE'],
  ])('%s: %s', async (image, line) => {
    const { theirs, ours, theirList, ourList } = await both(image, line);
    expect(ours.stderr).toBe('');
    expect(ours.stdout).toBe(theirs.stdout);
    expect(ours.status).toBe(theirs.status);
    expect(timeless(ourList)).toBe(timeless(theirList));
  });

  it.each([
    ['listed', '-a none IMAGE'],
    ['listed', '-d none IMAGE'],
    ['listed', '-d 4 IMAGE'],
    ['full', '-c x IMAGE'],
    ['bits2', '-c z IMAGE'],
    ['bits2', '-a x IMAGE'],
    ['bitmaps', '-a one IMAGE'],
    ['outside', '-c x IMAGE'],
    ['outside', '-a x IMAGE'],
    ['raw', '-c x IMAGE'],
    ['raw', '-a x IMAGE'],
    ['raw', '-d x IMAGE'],
    ['plain', '-U -c x IMAGE'],
    ['plain', '-c x -c y IMAGE'],
    ['plain', '-l -c y IMAGE'],
  ])('%s: %s: an error', async (image, line) => {
    const { theirs, ours, theirList, ourList } = await both(image, line);
    expect(ours.status).toBe(theirs.status);
    expect(ours.stdout).toBe('');
    // In the same words; what follows is the reason.
    expect(ours.stderr.startsWith(asOurs(theirs.stderr)), ours.stderr).toBe(true);
    expect(ours.stderr.trimEnd().split('\n')).toHaveLength(1);
    expect(ourList).toBe(theirList);
  });

  it('an operand that is missing, an option that does not exist, a file that is not there', async () => {
    for (const line of [
      '',
      '-l',
      '-x plain',
      '-f qcow2 -l plain',
      '-l plain listed',
      '-l nofile',
    ]) {
      const words = line.split(' ').filter(Boolean);
      const theirs = await run('qemu-img', ['snapshot', ...words], dir);
      const ours = await qcow2('snapshot', ...words);
      expect([theirs.status, ours.status], line).toEqual([1, 1]);
    }
  });
});
