import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname, join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type RunResult, run, runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  version: string;
  optionalDependencies: Record<string, string>;
};
const OPTIONAL = Object.keys(manifest.optionalDependencies);
const QUIET = ['--no-audit', '--no-fund', '--loglevel=error'];

const folder = makeTempDir('package');
/** Unpacked contents of the tarball. */
const unpacked = join(folder, 'package');
let tarball = '';
/** Paths in the tarball. */
let packed: string[] = [];

beforeAll(async () => {
  const args = ['pack', '--json', '--ignore-scripts', '--pack-destination', folder];
  const { stdout } = await runOk('npm', args, root);
  const [report] = Object.values(JSON.parse(stdout)) as [
    { filename: string; files: { path: string }[] },
  ];
  tarball = join(folder, report.filename);
  packed = report.files.map(({ path }) => path).sort();
  await runOk('tar', ['-xzf', tarball], folder);
});

afterAll(() => removeTempDir(folder));

function sourcesBelow(path: string): string[] {
  return readdirSync(join(root, path), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => name.replaceAll('\\', '/').slice(0, -'.ts'.length));
}

/** Holds modules that several files of a bundle use. */
function isShared(path: string): boolean {
  return /^dist\/((cli|slim)\/)?shared-[\w-]+\.js$/.test(path);
}

function read(path: string): string {
  return readFileSync(join(unpacked, path), 'utf8');
}

describe('the tarball', () => {
  test('holds bundles, one .d.ts for each source of the library, and eight files more', () => {
    const declarations = sourcesBelow('src')
      .filter((name) => !/^(cli|queue)\//.test(name))
      .map((name) => `dist/${name}.d.ts`);
    const workers = ['batch', 'compare', 'convert', 'pack', 'stream'].map(
      (name) => `${name}-worker.js`,
    );
    const entries = ['blocks.js', 'browser.js', 'index.js', 'node.js', 'slim/index.js', 'v86.js'];
    const library = [...entries, ...workers, 'browser/worker.js'].map((name) => `dist/${name}`);
    const commandLine = ['main.js', 'queue-worker.js', ...workers].map(
      (name) => `dist/cli/${name}`,
    );
    const beside = [
      'CHANGELOG.md',
      'LICENSE',
      'README.md',
      'dist/cli/package.json',
      'dist/qcow2.1',
      'dist/qcow2.wasm',
      'dist/schema/batch-jobs.schema.json',
      'package.json',
    ];
    const expected = [...beside, ...library, ...commandLine, ...declarations].sort();
    expect(packed.filter((path) => !isShared(path))).toEqual(expected);
  });

  test('holds each module once for the library and once for the command line', () => {
    for (const folder of ['dist', 'dist/cli', 'dist/slim']) {
      const files = packed.filter((path) => path.endsWith('.js') && posix.dirname(path) === folder);
      const withErrors = files.filter((path) => /["`']Qcow2Error["`']/.test(read(path)));
      expect(withErrors.length, folder).toBe(1);
      const code = files.map(read);
      const unused = files.filter(
        (path) =>
          isShared(path) && !code.some((text) => text.includes(`./${posix.basename(path)}`)),
      );
      expect(unused).toEqual([]);
    }
  });

  test('names no .ts file and no path of this machine', () => {
    for (const path of packed) {
      const text = read(path);
      expect(text.includes(root), path).toBe(false);
      if (path.startsWith('dist/')) expect(text, path).not.toMatch(/from ['"]\.[^'"\n]*\.ts['"]/);
    }
  });

  test('has a command that can be run', () => {
    expect(read('dist/cli/main.js').split('\n')[0]).toBe('#!/usr/bin/env node');
  });

  test('reaches no Node module and no package from the entries for browsers', () => {
    const outside = new Set<string>();
    const seen = new Set<string>();
    const pending = ['index', 'blocks', 'browser', 'browser/worker'].map(
      (name) => `dist/${name}.js`,
    );
    for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
      if (seen.has(path)) continue;
      seen.add(path);
      const code = read(path).replace(/\/\*\*.*?\*\//gs, '');
      for (const [, name = ''] of code.matchAll(
        /(?:\bfrom\s*|\bimport\s*\(?\s*)['"]([^'"\n]+)['"]/g,
      )) {
        if (name.startsWith('.')) pending.push(posix.join(posix.dirname(path), name));
        else outside.add(name);
      }
    }
    expect(seen.size).toBeGreaterThan(2);
    expect([...outside]).toEqual([]);
  });

  test('satisfies publint', async () => {
    const { messages } = await publint({ pkgDir: unpacked, strict: true, pack: false });
    const { default: pkg } = await import(join(unpacked, 'package.json'), {
      with: { type: 'json' },
    });
    expect(messages.map((message) => formatMessage(message, pkg))).toEqual([]);
  });

  test('satisfies @arethetypeswrong/cli', async () => {
    const attw = join(root, 'node_modules/@arethetypeswrong/cli/dist/index.js');
    const args = [attw, tarball, '--profile', 'esm-only', '--no-color', '--no-emoji'];
    args.push('--exclude-entrypoints', './qcow2.wasm', './schema/batch-jobs.schema.json');
    args.push('--format', 'table-flipped');
    const { status, stdout } = await run(process.execPath, args, folder);
    expect(status, stdout).toBe(0);
    for (const entry of ['qcow2', 'qcow2/blocks', 'qcow2/slim', 'qcow2/v86'])
      expect(stdout).toMatch(new RegExp(`│ "${entry}" +│ OK \\(ESM\\) +│ OK `));
  });
});

/** A project with nothing but the package, installed from the tarball. */
class Project {
  readonly path: string;

  constructor(name: string) {
    this.path = join(folder, name);
  }

  async install(...options: string[]): Promise<void> {
    await mkdir(this.path);
    writeFileSync(join(this.path, 'package.json'), '{ "private": true, "type": "module" }\n');
    await runOk('npm', ['install', tarball, ...QUIET, ...options], this.path);
  }

  has(name: string): boolean {
    return existsSync(join(this.path, 'node_modules', name));
  }

  qcow2(...args: string[]): Promise<RunResult> {
    return run('npx', ['--no-install', '--loglevel=error', 'qcow2', ...args], this.path);
  }

  /** Runs a module and returns what it wrote. */
  async node(source: string): Promise<string> {
    writeFileSync(join(this.path, 'run.js'), source);
    return (await runOk(process.execPath, ['run.js'], this.path)).stdout.trim();
  }
}

describe.each([
  { name: 'with its optional dependencies', options: ['--prefer-offline'], optional: true },
  { name: 'alone', options: ['--omit=optional', '--offline'], optional: false },
])('installed $name', ({ name, options, optional }) => {
  const project = new Project(name.replaceAll(' ', '-'));

  beforeAll(() => project.install(...options));

  test('the optional dependencies are as asked for', () => {
    expect(OPTIONAL.map((dependency) => project.has(dependency))).toEqual(
      OPTIONAL.map(() => optional),
    );
  });

  test('the command says its version', async () => {
    const { stdout, status } = await project.qcow2('--version');
    expect(stdout).toContain(manifest.version);
    expect(status).toBe(0);
  });

  test('the command makes, describes and converts images', async () => {
    const created = await project.qcow2('create', '-f', 'qcow2', 'disk.qcow2', '3M');
    expect(created).toMatchObject({ status: 0, stderr: '' });
    const info = await project.qcow2('info', '--output=json', 'disk.qcow2');
    expect(JSON.parse(info.stdout)).toMatchObject({ format: 'qcow2', 'virtual-size': 3 << 20 });
    const converted = await project.qcow2('convert', '-O', 'raw', 'disk.qcow2', 'disk.raw');
    expect(converted).toMatchObject({ status: 0, stderr: '' });
    expect(readFileSync(join(project.path, 'disk.raw')).equals(Buffer.alloc(3 << 20))).toBe(true);
  });

  test('the package is imported by its name', async () => {
    const names = await project.node("console.log(Object.keys(await import('qcow2')).join())");
    expect(names.split(',')).toEqual(
      expect.arrayContaining(['Image', 'Qcow2Error', 'convertFile']),
    );
  });

  test('images of the package are those of its blocks', async () => {
    const code = `import { Image } from 'qcow2';
      import { BlockDisk } from 'qcow2/blocks';
      const image = await Image.open(new Uint8Array(1024).fill(1), { format: 'raw' });
      const disk = await BlockDisk.open(image, { blockSize: 512 });
      console.log(disk.presentCount, (await disk.readBlock(1)).data[0]);`;
    expect(await project.node(code)).toBe('2 1');
  });

  test('what is inside cannot be imported', async () => {
    const code = await project.node(
      "await import('qcow2/dist/errors.js').catch((e) => console.log(e.code))",
    );
    expect(code).toBe('ERR_PACKAGE_PATH_NOT_EXPORTED');
  });
});

describe('types', () => {
  const compiler = join(root, 'node_modules/typescript/bin/tsc');
  const project = join(folder, 'types');

  async function compile(source: string, ...options: string[]): Promise<string> {
    await mkdir(join(project, 'node_modules/qcow2'), { recursive: true });
    await runOk('cp', ['-R', `${unpacked}/.`, 'node_modules/qcow2'], project);
    writeFileSync(join(project, 'package.json'), '{ "private": true, "type": "module" }\n');
    writeFileSync(join(project, 'use.ts'), source);
    const common = ['--ignoreConfig', '--noEmit', '--strict', '--target', 'es2022'];
    const args = [compiler, ...common, ...options, 'use.ts'];
    return (await run(process.execPath, args, project)).stdout;
  }

  test('serve Node, with every declaration checked', async () => {
    const source = "import { convertFile, Image } from 'qcow2';\nexport { convertFile, Image };\n";
    const types = ['--typeRoots', join(dirname(compiler), '../../@types'), '--types', 'node'];
    expect(await compile(source, '--module', 'nodenext', ...types)).toBe('');
  });

  test('serve a browser without the types of Node', async () => {
    const source =
      "export { Image, MemoryStorage } from 'qcow2';\nexport { BlockDisk } from 'qcow2/blocks';\n";
    const options = ['--module', 'esnext', '--moduleResolution', 'bundler', '--types', ''];
    expect(await compile(source, ...options, '--lib', 'es2022,dom,esnext.disposable')).toBe('');
  });
});
