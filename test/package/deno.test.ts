import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { expectClean, expectSame } from '../oracle/workshop.ts';
import { makeContent } from '../support/data.ts';
import { type RunResult, run, runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

// Deno is another engine with other permissions; what it has of Node is its own.

const root = fileURLToPath(new URL('../..', import.meta.url));
const folder = makeTempDir('deno');
// Where Deno keeps what it compiled; without it, it writes into the home directory.
const env = `DENO_DIR=${join(folder, 'cache')}`;

function deno(...args: string[]): Promise<RunResult> {
  const program = join(root, 'node_modules/.bin/deno');
  return run('env', [env, 'NO_COLOR=1', program, 'run', '--no-prompt', ...args], folder);
}

beforeAll(async () => {
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(root, join(folder, 'node_modules/qcow2'));
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  writeFileSync(join(folder, 'disk.raw'), makeContent('mixed', 96 << 20, 11));
  const args = ['convert', '-f', 'raw', '-O', 'qcow2', 'disk.raw', 'disk.qcow2'];
  await runOk('qemu-img', args, folder);
});

afterAll(() => removeTempDir(folder));

test('what needs web standards only runs without any permission', async () => {
  expect(await deno(join(root, 'examples/web-standard.js'))).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/^written in memory \d+ bytes, 0 errors\n$/),
    stderr: '',
  });
});

test('the package converts files, with threads', async () => {
  const script = `import { convertFile, openImage } from 'qcow2';
    await convertFile({
      inputs: [{ path: 'disk.qcow2' }],
      target: 'packed.qcow2',
      targetFormat: 'qcow2',
      compress: true,
      threads: 2,
    });
    const image = await openImage('packed.qcow2');
    console.log(image.virtualSize);
    await image.close();`;
  writeFileSync(join(folder, 'convert.js'), script);
  const result = await deno('--allow-all', '--node-modules-dir=manual', 'convert.js');
  expect(result).toMatchObject({ status: 0, stdout: `${96 << 20}\n`, stderr: '' });
  await expectClean('packed.qcow2', folder);
  await expectSame(['qcow2', 'packed.qcow2'], ['raw', 'disk.raw'], folder);
});

test('the command line runs, compresses on all cores, and compares', async () => {
  const cli = ['--allow-all', join(root, 'dist/cli/main.js')];
  for (const args of [
    ['convert', '-O', 'raw', 'disk.qcow2', 'copy.raw'],
    ['convert', '-c', '-O', 'qcow2', 'disk.qcow2', 'copy.qcow2'],
  ])
    expect(await deno(...cli, ...args)).toMatchObject({ status: 0, stdout: '', stderr: '' });
  await expectSame(['raw', 'copy.raw'], ['raw', 'disk.raw'], folder);
  await expectClean('copy.qcow2', folder);
  const compared = await deno(...cli, 'compare', 'copy.qcow2', 'disk.raw');
  expect(compared).toMatchObject({ status: 0, stdout: 'Images are identical.\n', stderr: '' });
});
