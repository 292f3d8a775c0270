import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build, type Plugin } from 'esbuild';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { StaticServer } from '../browser/server.ts';
import { expectClean, expectSame } from '../oracle/workshop.ts';
import { makeContent } from '../support/data.ts';
import { type RunResult, run, runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { root } from './exports.ts';

const folder = makeTempDir('example-files');
const server = new StaticServer({ images: folder });

beforeAll(async () => {
  const disk = makeContent('mixed', 5 << 20, 9);
  disk.set([0x55, 0xaa], 510);
  writeFileSync(join(folder, 'disk.raw'), disk);
  const args = ['convert', '-f', 'raw', '-O', 'qcow2', 'disk.raw', 'disk.qcow2'];
  await runOk('qemu-img', args, folder);
  await server.open();
});

afterAll(async () => {
  await server.close();
  removeTempDir(folder);
});

function example(name: string, ...args: string[]): Promise<RunResult> {
  return run(process.execPath, [join(root, 'examples', name), ...args], folder);
}

test('backup.js makes a compressed copy', async () => {
  const { status, stdout, stderr } = await example('backup.js', 'disk.qcow2', 'backup.qcow2');
  expect({ status, stdout }).toEqual({
    status: 0,
    stdout: 'backup.qcow2 is a true copy of disk.qcow2\n',
  });
  expect(stderr).toMatch(/backing up 100\.0 %\n.*comparing 100\.0 %\n$/s);
  await expectClean('backup.qcow2', folder);
  await expectSame(['qcow2', 'backup.qcow2'], ['raw', 'disk.raw'], folder);
});

test('backup.js says in one line why it cannot', async () => {
  const { status, stderr } = await example('backup.js', 'missing.qcow2', 'backup.qcow2');
  expect(status).toBe(1);
  expect(stderr.trim()).toMatch(/^Could not open 'missing\.qcow2': [^\n]+$/);
});

test('http-range.js looks inside an image on a server', async () => {
  const { status, stdout, stderr } = await example(
    'http-range.js',
    `${server.origin}/images/disk.qcow2`,
  );
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(stdout).toMatch(
    /^qcow2, a disk of 5242880 bytes, \d+ of them stored\nboot sector: yes\nrequests: \d+,/,
  );
  expect(readFileSync(join(folder, 'disk.qcow2')).length).toBeGreaterThan(1 << 20);
});

test('web-standard.js runs without anything of Node', async () => {
  const { status, stdout, stderr } = await example('web-standard.js');
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(stdout).toMatch(/^written in memory \d+ bytes, 0 errors\n$/);
  expect(readFileSync(join(root, 'examples/web-standard.js'), 'utf8')).not.toMatch(/process|node:/);
});

test('edge/worker.js answers with the module it is given', async () => {
  // As a host does it: the import of the module is a compiled one, nothing else is compiled.
  const compiled: Plugin = {
    name: 'compiled',
    setup(build) {
      build.onLoad({ filter: /\.wasm$/ }, ({ path }) => ({
        contents: `import { readFileSync } from 'node:fs'; export default new WebAssembly.Module(readFileSync('${path}'));`,
        loader: 'js' as const,
      }));
    },
  };
  const { outputFiles } = await build({
    entryPoints: [join(root, 'examples/edge/worker.js')],
    bundle: true,
    platform: 'node',
    format: 'esm',
    write: false,
    plugins: [compiled],
    alias: {
      'qcow2/slim': join(root, 'dist/slim/index.js'),
      'qcow2/qcow2.wasm': join(root, 'dist/qcow2.wasm'),
    },
  });
  const code = outputFiles[0]!.text.replaceAll(
    'https:\\/\\/images\\.example',
    server.origin.replaceAll('/', '\\/'),
  );
  writeFileSync(join(folder, 'worker.mjs'), code);
  const { default: worker } = await import(join(folder, 'worker.mjs'));
  const ask = (image: string): Promise<Response> =>
    worker.fetch(new Request(`https://edge.example/?image=${encodeURIComponent(image)}`));
  expect(await (await ask(`${server.origin}/images/disk.qcow2`)).json()).toMatchObject({
    format: 'qcow2',
    virtualSize: 5 << 20,
    snapshots: [],
  });
  expect((await ask('https://elsewhere.example/disk.qcow2')).status).toBe(403);
  const missing = await ask(`${server.origin}/images/missing.qcow2`);
  expect([missing.status, (await missing.text()).split('\n').length]).toEqual([422, 2]);
});
