import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const biome = join(root, 'node_modules/@biomejs/biome/bin/biome');

/** Rooms from the ground up, each with the rooms it may import; all may import errors.ts. */
const BELOW: Readonly<Record<string, readonly string[]>> = {
  format: [],
  kernel: [],
  storage: [],
  codecs: ['kernel'],
  image: ['format', 'storage', 'kernel', 'codecs'],
  operations: ['format', 'storage', 'kernel', 'codecs', 'image'],
  adapters: ['format', 'storage', 'kernel', 'codecs', 'image', 'operations'],
  browser: ['format', 'storage', 'kernel', 'codecs', 'image', 'operations'],
  node: ['format', 'storage', 'kernel', 'codecs', 'image', 'operations'],
  workers: ['format', 'storage', 'kernel', 'codecs', 'image', 'operations', 'node'],
  batch: ['format', 'storage', 'kernel', 'codecs', 'image', 'operations', 'node', 'workers'],
  queue: [
    'format',
    'storage',
    'kernel',
    'codecs',
    'image',
    'operations',
    'node',
    'workers',
    'batch',
  ],
  cli: [
    'format',
    'storage',
    'kernel',
    'codecs',
    'image',
    'operations',
    'node',
    'workers',
    'batch',
    'queue',
  ],
};
const ROOMS = Object.keys(BELOW);
const USES_NODE = ['node', 'workers', 'batch', 'queue', 'cli'];

interface Probe {
  file: string;
  specifier: string;
  allowed: boolean;
}

const probes: Probe[] = [];
for (const room of ROOMS) {
  const file = `src/${room}/probe.ts`;
  const allows = (specifier: string, allowed: boolean) => probes.push({ file, specifier, allowed });
  for (const other of ROOMS)
    if (other !== room) allows(`../${other}/x.ts`, BELOW[room]?.includes(other) ?? false);
  allows('./sibling.ts', true);
  allows('../errors.ts', true);
  allows('../index.ts', false);
  allows('../node.ts', false);
  allows('left-pad', false);
  for (const name of ['node:fs', 'node:path', 'fs']) {
    allows(name, name !== 'fs' && USES_NODE.includes(room));
  }
}
for (const room of ['image', 'operations', 'adapters', 'browser'])
  for (const name of ['file', 'file-gate', 'file-locks'])
    probes.push({
      file: `src/${room}/probe.ts`,
      specifier: `../storage/${name}.ts`,
      allowed: false,
    });
probes.push(
  { file: 'src/storage/file.ts', specifier: 'node:fs', allowed: true },
  { file: 'src/storage/file-locks.ts', specifier: 'node:fs', allowed: true },
  { file: 'src/storage/file.ts', specifier: './file-gate.ts', allowed: true },
  { file: 'src/storage/file.ts', specifier: '../format/x.ts', allowed: false },
  { file: 'src/storage/memory.ts', specifier: './file.ts', allowed: false },
  { file: 'src/queue/probe.ts', specifier: 'bullmq', allowed: true },
  { file: 'src/queue/probe.ts', specifier: 'ioredis', allowed: true },
  { file: 'src/cli/probe.ts', specifier: 'bullmq', allowed: false },
  { file: 'src/kernel/scalar/probe.ts', specifier: '../abi.ts', allowed: true },
  { file: 'src/kernel/scalar/probe.ts', specifier: '../../image/x.ts', allowed: false },
  { file: 'src/cli/commands/probe.ts', specifier: '../../workers/x.ts', allowed: true },
  { file: 'src/cli/commands/probe.ts', specifier: '../../index.ts', allowed: false },
  { file: 'src/index.ts', specifier: './operations/x.ts', allowed: true },
  { file: 'src/index.ts', specifier: './node/x.ts', allowed: false },
  { file: 'src/index.ts', specifier: './storage/file.ts', allowed: false },
  ...['v86', 'blocks'].flatMap((name) => [
    { file: `src/${name}.ts`, specifier: './adapters/x.ts', allowed: true },
    { file: `src/${name}.ts`, specifier: './operations/x.ts', allowed: false },
  ]),
  { file: 'src/browser.ts', specifier: './browser/x.ts', allowed: true },
  { file: 'src/browser.ts', specifier: './operations/x.ts', allowed: false },
  { file: 'src/node.ts', specifier: './workers/x.ts', allowed: true },
  { file: 'src/node.ts', specifier: './cli/x.ts', allowed: false },
);

let folder = '';
/** `file:line` of each import the linter refused. */
const refused = new Set<string>();

function write(path: string, text: string): void {
  mkdirSync(dirname(join(folder, path)), { recursive: true });
  writeFileSync(join(folder, path), text);
}

function lint(): string {
  try {
    const args = [biome, 'lint', '--reporter=github', '--max-diagnostics=none', '.'];
    return execFileSync(process.execPath, args, { cwd: folder, encoding: 'utf8', stdio: 'pipe' });
  } catch (error) {
    return (error as { stdout: string }).stdout;
  }
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'qcow2-layering-'));
  for (const name of ['biome.json', 'biome.layers.json', '.gitignore'])
    copyFileSync(join(root, name), join(folder, name));
  for (const file of new Set(probes.map((probe) => probe.file))) {
    const lines = probes.filter((probe) => probe.file === file);
    write(file, lines.map(({ specifier }) => `import '${specifier}';\n`).join(''));
  }
  write('src/batch/egg.ts', "export { hen as egg } from './hen.ts';\n");
  write('src/batch/hen.ts', "export { egg as hen } from './egg.ts';\n");
  const pattern = /title=lint\/(\w+\/\w+),file=(.+?),line=(\d+)/g;
  for (const [, rule, file, line] of lint().matchAll(pattern))
    refused.add(`${rule} ${file?.slice(file.indexOf('/src/') + 1)}:${line}`);
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('the linter holds the arrows between the rooms', () => {
  const wrong = probes.filter(({ file, specifier, allowed }) => {
    const line =
      1 + probes.filter((p) => p.file === file).findIndex((p) => p.specifier === specifier);
    return refused.has(`style/noRestrictedImports ${file}:${line}`) === allowed;
  });
  expect(wrong).toEqual([]);
});

test('the linter refuses a cycle of imports', () => {
  expect(refused).toContain('suspicious/noImportCycles src/batch/egg.ts:1');
  expect(refused).toContain('suspicious/noImportCycles src/batch/hen.ts:1');
});
