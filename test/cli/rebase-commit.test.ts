import { cpSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { run, runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { qcow2 } from './command.ts';

let root: string;
const home = process.cwd();

beforeAll(async () => {
  root = makeTempDir('cli-rebase');
  const cwd = join(root, 'made');
  mkdirSync(cwd);
  for (const step of [
    'create -q -f raw base 1M',
    'create -q -f qcow2 other 2M',
    'create -q -f qcow2 -b base -F raw mid',
    'create -q -f qcow2 -b mid -F qcow2 top 2M',
    'create -q -f qcow2 -o compat=0.10 alone 1M',
    'create -q -f qcow2 -u -b missing -F raw broken 1M',
    'create -q -f qcow2 -o data_file=data,data_file_raw=on outside 1M',
  ])
    await runOk('qemu-img', step.split(' '), cwd);
  const writes: Record<string, string> = {
    base: 'write -P 1 0 600k',
    other: 'write -P 2 300k 1M',
    mid: 'write -P 3 100k 64k',
    top: 'write -P 4 700k 1000k',
  };
  for (const [name, command] of Object.entries(writes)) {
    const format = name === 'base' ? 'raw' : 'qcow2';
    await runOk('qemu-io', ['-f', format, '-c', command, '-c', 'write -z 64k 64k', name], cwd);
  }
});
afterAll(() => {
  process.chdir(home);
  removeTempDir(root);
});

/** Command lines, and what both tools say to them, if they say something. */
const COMMANDS: readonly (readonly [string, RegExp?])[] = [
  ['rebase top', /Must specify backing file \(-b\) or use unsafe mode \(-u\)/],
  ['rebase -u top'],
  ['rebase -b other -F qcow2 top'],
  ['rebase -q -U -t none -T writeback -b base -F raw top'],
  ['rebase -b EMPTY top'],
  ['rebase -b nothing -F qcow2 top', /Could not open new backing file 'nothing': .*No such file/],
  ['rebase -u -b nothing -F qcow2 top'],
  ['rebase -b other -F vdi2 top', /Invalid format name: 'vdi2'/],
  ['rebase -b other top', /change the backing file to 'other': backing format must be specified/],
  ['rebase -b base -F raw -f raw other', /backing file to 'base': Operation not supported/],
  ['rebase -b base -F raw outside', /backing file to 'base': Invalid argument/],
  ['rebase -b base -F raw broken', /Could not open 'broken': .*No such file or directory/],
  ['rebase -u -b base -F raw broken'],
  ['rebase -b top -F qcow2 top', /top/],
  ['commit top', /^$/],
  ['commit -d top'],
  ['commit -q -t none -r 100M top'],
  ['commit -b base top'],
  ['commit -b mid top'],
  ['commit -b nothing top', /Did not find 'nothing' in the backing chain of 'top'/],
  ['commit -b top top', /Did not find 'top' in the backing chain of 'top'/],
  ['commit alone', /Image does not have a backing file/],
  ['commit -f raw top', /Image does not have a backing file/],
  ['commit broken', /Could not open 'broken': .*No such file or directory/],
];

const CASES = COMMANDS.map(([line, message]) => ({ line, message }));

it.each(CASES)('$line: as qemu-img does it', async ({ line, message }) => {
  const name = line.replace(/\W+/g, '-');
  const folders = ['theirs', 'ours'].map((tool) => join(root, `${name}-${tool}`)) as [
    string,
    string,
  ];
  for (const folder of folders) cpSync(join(root, 'made'), folder, { recursive: true });
  const args = line.split(' ').map((word) => (word === 'EMPTY' ? '' : word));
  const theirs = await run('qemu-img', args, folders[0]);
  process.chdir(folders[1]);
  const ours = await qcow2(...args);
  process.chdir(home);
  expect(ours.status, ours.stderr).toBe(theirs.status);
  expect(ours.stdout).toBe(theirs.stdout);
  for (const { stderr } of [ours, theirs]) {
    const text = stderr.replace(/^WARNING[\s\S]*restrictions\.\n/, '');
    if (message) expect(text).toMatch(message);
  }
  const [theirFile, ourFile] = folders.map((folder) => join(folder, args.at(-1)!));
  const readable = await run('qemu-img', ['info', '--backing-chain', theirFile!], folders[0]);
  if (readable.status !== 0) return;
  // Names of data files are taken from the working directory.
  await runOk('qemu-img', ['compare', theirFile!, ourFile!], folders[1]);
  for (const image of ['mid', 'top', args.at(-1)!])
    expect((await run('qemu-img', ['check', image], folders[1])).status).toBeLessThan(2);
});
