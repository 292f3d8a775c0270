import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeContent } from '../support/data.ts';
import { run, runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { qcow2 } from './command.ts';

let dir: string;
const home = process.cwd();
const qemuImg = (...args: string[]) => runOk('qemu-img', args, dir);
const create = (...args: string[]) => qemuImg('create', '-q', '-f', 'qcow2', ...args);
const qemuIo = (image: string, ...commands: string[]) =>
  runOk('qemu-io', [...commands.flatMap((command) => ['-c', command]), image], dir);

beforeAll(async () => {
  dir = makeTempDir('measure');
  process.chdir(dir);
  const content = makeContent('text', 4 << 20);
  content.fill(0, 1 << 20, 3 << 20);
  writeFileSync('raw', content);
  await qemuImg('convert', '-O', 'qcow2', 'raw', 'plain');
  await runOk('cp', ['--sparse=always', 'raw', 'sparse'], dir);
  await qemuImg('convert', '-O', 'qcow2', '-c', 'raw', 'compressed');
  await create('-o', 'compat=0.10', 'version2', '10M');
  await create('-o', 'preallocation=metadata', 'mapped', '64M');
  await qemuIo('mapped', 'write 10M 100k');
  await create('dense', '4M');
  await qemuIo('dense', 'write -P 0 0 4M', 'write -P 5 1M 64k');
  await runOk('cp', ['--sparse=always', 'dense', 'holes'], dir);
  await create('-b', 'plain', '-F', 'qcow2', 'overlay', '9M');
  await qemuIo('overlay', 'write 5M 100k', 'write -z 0 64k');
  await create('-o', 'data_file=data', 'external', '4M');
  await qemuIo('external', 'write 1M 1M');
  await create('-o', 'extended_l2=on', 'subclusters', '4M');
  await qemuIo('subclusters', 'write 1M 2k', 'write 1100k 4k');
  await create('kept', '8M');
  await qemuIo('kept', 'write 0 1M');
  await qemuImg('snapshot', '-c', 'before', 'kept');
  await qemuIo('kept', 'write 2M 5M');
  await create('marked', '1G');
  await qemuImg('bitmap', '--add', 'marked', 'one');
  await qemuImg('bitmap', '--add', '-g', '512', 'marked', 'a longer name');
  await qemuImg('bitmap', '--add', '--disable', 'marked', 'three');
}, 30_000);
afterAll(() => {
  process.chdir(home);
  removeTempDir(dir);
});

async function expectSame(...args: string[]): Promise<void> {
  const { stdout } = await qemuImg('measure', ...args);
  expect([args, await qcow2('measure', ...args)]).toEqual([
    args,
    { status: 0, stdout, stderr: '' },
  ]);
}

const IMAGES =
  'raw sparse plain compressed version2 mapped dense holes overlay external subclusters kept marked'.split(
    ' ',
  );

const OPTIONS = [
  '',
  'cluster_size=512',
  'cluster_size=2M',
  'cluster_size=4k,refcount_bits=64',
  'extended_l2=on',
  'extended_l2=on,cluster_size=16k,refcount_bits=1',
  'preallocation=metadata',
  'preallocation=falloc',
  'backing_file=base,backing_fmt=raw',
  'compat=0.10,lazy_refcounts=on',
  'data_file=external,data_file_raw=on',
  'compression_type=zstd',
  'size=1G',
];

describe('measure', () => {
  it.each(IMAGES)('of %s is what qemu-img tells', async (name) => {
    await expectSame(name);
    // Every third option with each image: each option meets sources of each kind.
    const turn = IMAGES.indexOf(name) % 3;
    for (const options of OPTIONS.filter((_, i) => i % 3 === turn || i === 0))
      await expectSame('-O', 'qcow2', ...(options ? ['-o', options] : []), name);
  });

  it('of a size is what qemu-img tells', async () => {
    for (const size of ['0', '1', '511', '12345678901', '137438953472']) {
      await expectSame('--size', size);
      for (const options of OPTIONS)
        await expectSame('-O', 'qcow2', ...(options ? ['-o', options] : []), '--size', size);
    }
  });

  it('prints JSON, and takes snapshots and formats', async () => {
    for (const name of ['marked', 'raw', 'kept'])
      for (const format of ['qcow2', 'raw']) await expectSame('--output=json', '-O', format, name);
    await expectSame('-O', 'qcow2', '-l', 'before', 'kept');
    await expectSame('-O', 'qcow2', '-l', 'snapshot.id=1', '-f', 'qcow2', '-U', 'kept');
    await expectSame('-O', 'qcow2', '-f', 'raw', 'plain');
    await expectSame('-O', 'qcow2', '--image-opts', 'driver=qcow2,file.filename=plain');
  });

  it.each([
    '',
    'plain raw',
    '--size 1G plain',
    '-f raw --size 1G',
    '-l before --size 1G',
    '-l nothere kept',
    'nothere',
    '-f qcow2 raw',
    '-O vmdk --size 1G',
    '--output=xml --size 1G',
    '--size x',
    '--size -1',
    '-O qcow2 -o cluster_size=3000 --size 1G',
    '-O qcow2 -o cluster_size=4M --size 1G',
    '-O qcow2 -o cluster_size=512 --size 137438953473',
    '-O qcow2 -o extended_l2=on,cluster_size=4k --size 1G',
    '-O qcow2 -o refcount_bits=3 --size 1G',
    '-O qcow2 -o refcount_bits=8,compat=0.10 --size 1G',
    '-O qcow2 -o compat=1.2 --size 1G',
    '-O qcow2 -o preallocation=some --size 1G',
    '-O qcow2 -o unknown=1 --size 1G',
    '-O raw -o cluster_size=4k --size 1G',
  ])('refuses %s, as qemu-img', async (line) => {
    const args = line.split(' ').filter((word) => word !== '');
    expect((await run('qemu-img', ['measure', ...args], dir)).status).toBe(1);
    const { status, stdout, stderr } = await qcow2('measure', ...args);
    expect([status, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/^qcow2: [^\n]+\n$/);
  });

  it('lists the options of -o', async () => {
    const { status, stdout } = await qcow2('measure', '-O', 'qcow2', '-o', 'help');
    expect(status).toBe(0);
    expect(stdout).toContain('cluster_size=<size>');
  });
});
