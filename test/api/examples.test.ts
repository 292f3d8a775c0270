import { copyFileSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { makeContent } from '../support/data.ts';
import { describeRun, run, runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { ADAPTERS, examplesOf, exportsOf, root } from './exports.ts';

const folder = makeTempDir('examples');
const files = new Set(
  ['node' as const, ...ADAPTERS]
    .flatMap((name) => exportsOf(`dist/${name}.d.ts`))
    .map(({ file }) => file),
);
const examples = [...files].flatMap(examplesOf);

/** What examples find in their folder. */
const FIXTURES = ['disk.raw', 'disk.qcow2', 'overlay.qcow2', 'jobs.json', 'vm.qcow2'];

/** Runs examples one after the other, each in its own folder; a line of JSON says how each ended. */
const RUNNER = `
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
// The only host examples fetch from has what lies in their folder.
globalThis.fetch = async (url, { headers } = {}) => {
  const bytes = readFileSync(String(url).replace('https://images.example/', ''));
  const range = new Headers(headers).get('range');
  if (range === null) return new Response(bytes);
  const [start, last] = range.slice('bytes='.length).split('-').map(Number);
  const part = bytes.subarray(start, last + 1);
  const said = 'bytes ' + start + '-' + (start + part.length - 1) + '/' + bytes.length;
  return new Response(part, { status: 206, headers: { 'content-range': said } });
};
// Of the page's own files there is one that forgets what is written.
const stream = { write: async () => {}, truncate: async () => {}, close: async () => {} };
const handle = {
  name: 'disk.img',
  createWritable: async () => stream,
  async createSyncAccessHandle() {
    const { MemoryStorage } = await import('qcow2');
    const file = new MemoryStorage();
    return {
      read: (into, { at }) => file.read(at, into),
      write: (from, { at }) => (file.write(at, from), from.length),
      truncate: (size) => file.truncate(size),
      getSize: () => file.size,
      flush: () => {},
      close: () => {},
    };
  },
};
const storage = { getDirectory: async () => ({ getFileHandle: async () => handle }) };
globalThis.document = { querySelector: () => null };
Object.defineProperty(globalThis, 'navigator', { value: { storage } });
console.log = () => {};
for (const folder of process.argv.slice(2)) {
  process.chdir(folder);
  let error = '';
  try {
    await import(pathToFileURL(folder + '/example.mjs').href);
  } catch (thrown) {
    error = String(thrown.stack);
  }
  process.stdout.write(JSON.stringify(error) + '\\n');
}
`;

function folderOf(index: number): string {
  return join(folder, `example-${index}`);
}

beforeAll(async () => {
  writeFileSync(join(folder, 'package.json'), '{ "private": true, "type": "module" }\n');
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(root, join(folder, 'node_modules/qcow2'), 'dir');
  // A package whose classes one of the examples extends.
  symlinkSync(
    join(root, 'node_modules/@xen-orchestra'),
    join(folder, 'node_modules/@xen-orchestra'),
  );
  writeFileSync(join(folder, 'disk.raw'), makeContent('mixed', 3 << 20, 5));
  const img = (...args: string[]) => runOk('qemu-img', args, folder);
  await img('convert', '-f', 'raw', '-O', 'qcow2', 'disk.raw', 'disk.qcow2');
  await img('snapshot', '-c', 'monday', 'disk.qcow2');
  await img('create', '-q', '-f', 'qcow2', 'vm.qcow2', '3M');
  for (const name of ['monday', 'tuesday']) await img('bitmap', '--add', 'vm.qcow2', name);
  await img('create', '-q', '-f', 'qcow2', '-b', 'disk.qcow2', '-F', 'qcow2', 'overlay.qcow2');
  const jobs = [{ input: 'disk.qcow2', target: 'copy.raw', format: 'raw' }];
  writeFileSync(join(folder, 'jobs.json'), JSON.stringify({ jobs }));
  for (const [index, { code }] of examples.entries()) {
    mkdirSync(folderOf(index));
    for (const name of FIXTURES) copyFileSync(join(folder, name), join(folderOf(index), name));
    writeFileSync(join(folderOf(index), 'example.mjs'), code);
    writeFileSync(join(folder, `example-${index}.ts`), code);
  }
});

afterAll(() => removeTempDir(folder));

test('the examples of the docstrings work as written', async () => {
  writeFileSync(join(folder, 'run.mjs'), RUNNER);
  const args = ['--no-warnings', 'run.mjs', ...examples.map((_, index) => folderOf(index))];
  const result = await run(process.execPath, args, folder);
  expect(result.status, describeRun(result)).toBe(0);
  const errors = result.stdout.trimEnd().split('\n');
  expect(errors.length).toBe(examples.length);
  const failed = errors.flatMap((line, index) =>
    line === '""' ? [] : [`${examples[index]?.place}\n${JSON.parse(line)}`],
  );
  expect(failed).toEqual([]);
});

test('the examples have the types that are declared', async () => {
  const sources = readdirSync(folder).filter((name) => /^example-\d+\.ts$/.test(name));
  expect(sources.length).toBeGreaterThan(15);
  const compiler = join(root, 'node_modules/typescript/bin/tsc');
  const types = ['--typeRoots', join(root, 'node_modules/@types'), '--types', 'node'];
  // Declarations are checked with the package; those of other packages are not ours.
  const strict = [
    '--skipLibCheck',
    '--strict',
    '--exactOptionalPropertyTypes',
    '--noUncheckedIndexedAccess',
  ];
  const args = [
    compiler,
    '--ignoreConfig',
    '--noEmit',
    '--module',
    'nodenext',
    ...strict,
    ...types,
  ];
  const target = ['--target', 'es2022', '--lib', 'es2023,dom,esnext.disposable'];
  const result = await run(process.execPath, [...args, ...target, ...sources], folder);
  expect(
    result.stdout.replace(/example-(\d+)\.ts/g, (_, i) => examples[Number(i)]?.place ?? ''),
  ).toBe('');
});
