import { copyFileSync, cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build as esbuild } from 'esbuild';
import type { Browser } from 'playwright-core';
import { rollup } from 'rollup';
import { build as vite } from 'vite';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import webpack from 'webpack';
import { launchBrowser } from '../browser/launch.ts';
import { StaticServer } from '../browser/server.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
/** A project that has the package by its name. */
const project = makeTempDir('bundlers');
const page = join(project, 'page.js');
const server = new StaticServer({ pages: project });
let browser: Browser;

/** Each makes `<name>/page.js` of the page. */
const BUNDLERS: Readonly<Record<string, (folder: string) => Promise<unknown>>> = {
  esbuild: (folder) =>
    esbuild({
      entryPoints: [page],
      outfile: join(folder, 'page.js'),
      bundle: true,
      format: 'esm',
      target: 'es2022',
      logLevel: 'error',
    }),
  vite: (folder) =>
    vite({
      root: project,
      logLevel: 'error',
      build: {
        outDir: folder,
        target: 'es2022',
        lib: { entry: page, formats: ['es'], fileName: () => 'page.js' },
      },
    }),
  webpack: (folder) =>
    new Promise((resolve, reject) => {
      const options: webpack.Configuration = {
        mode: 'production',
        context: project,
        entry: page,
        experiments: { outputModule: true },
        performance: false,
        output: { path: folder, filename: 'page.js', module: true },
      };
      webpack(options, (error, stats) => {
        if (error ?? stats?.hasErrors()) reject(error ?? new Error(stats?.toString()));
        else resolve(stats);
      });
    }),
  async rollup(folder) {
    // It finds no packages by itself.
    const found = join(project, 'node_modules/qcow2/dist/index.js');
    const resolveId = (name: string) => (name === 'qcow2' ? found : null);
    const bundle = await rollup({ input: page, plugins: [{ name: 'package', resolveId }] });
    await bundle.write({ dir: folder, format: 'es' });
    await bundle.close();
  },
};

beforeAll(async () => {
  copyFileSync(new URL('./bundled-page.js', import.meta.url), page);
  writeFileSync(join(project, 'package.json'), '{ "private": true, "type": "module" }\n');
  mkdirSync(join(project, 'node_modules'));
  symlinkSync(root, join(project, 'node_modules/qcow2'), 'dir');
  await server.open();
  browser = await launchBrowser();
});

afterAll(async () => {
  await browser?.close();
  await server.close();
  removeTempDir(project);
});

test.each(Object.entries(BUNDLERS))('%s bundles a page that runs', async (name, bundle) => {
  const folder = join(project, name);
  await bundle(folder);
  writeFileSync(join(folder, 'index.html'), '<script type="module" src="page.js"></script>');
  const tab = await browser.newPage();
  const errors: string[] = [];
  tab.on('pageerror', ({ message }) => errors.push(message));
  await tab.goto(`${server.origin}/pages/${name}/index.html`);
  await tab.waitForFunction('globalThis.result', undefined, { timeout: 10_000 });
  expect(await tab.evaluate('result')).toEqual({
    same: true,
    backend: 'wasm-simd',
    corruptions: 0,
  });
  expect(errors).toEqual([]);
  await tab.close();
});

test('the example for Vite is built, and shows a picked image', async () => {
  const folder = join(project, 'example');
  cpSync(join(root, 'examples/vite'), folder, { recursive: true });
  await vite({ root: folder, base: './', logLevel: 'error', build: { outDir: 'built' } });
  writeFileSync(join(project, 'disk.raw'), new Uint8Array(1 << 20));
  const tab = await browser.newPage();
  await tab.goto(`${server.origin}/pages/example/built/index.html`);
  await tab.setInputFiles('#file', join(project, 'disk.raw'));
  await tab.waitForFunction("document.querySelector('#facts').textContent !== ''");
  expect(await tab.textContent('#facts')).toBe(
    'raw, 1048576 bytes in clusters of 0, 1048576 stored',
  );
  await tab.close();
});

describe('the size of what reads an image', () => {
  const KB = 1000;
  const gzipped = (bytes: Uint8Array): number => gzipSync(bytes, { level: 9 }).length;

  /** What a page loads at first: what it loads when it writes is in other files. */
  async function bundled(entry: string, names: string): Promise<number> {
    const { outputFiles, metafile } = await esbuild({
      stdin: {
        contents: `import { ${names} } from '${entry}'; globalThis.used = [${names}];`,
        resolveDir: project,
      },
      bundle: true,
      splitting: true,
      outdir: project,
      metafile: true,
      minify: true,
      format: 'esm',
      write: false,
    });
    const output = (name: string) => join(relative(process.cwd(), project), name);
    const first = (name: string): string[] => [
      name,
      ...metafile.outputs[name]!.imports.filter(({ kind }) => kind === 'import-statement').flatMap(
        ({ path }) => first(path),
      ),
    ];
    const loaded = new Set(first(output('stdin.js')));
    return outputFiles
      .filter(({ path }) => loaded.has(relative(process.cwd(), path)))
      .reduce((sum, { contents }) => sum + gzipped(contents), 0);
  }

  test('is less than 60 kB with qcow2/slim and the module beside it', async () => {
    const code = await bundled('qcow2/slim', 'Image, info, init, map');
    const module = gzipped(readFileSync(join(root, 'dist/qcow2.wasm')));
    expect(code + module).toBeLessThan(60 * KB);
  });

  test('is less than 110 kB with all kernels embedded', async () => {
    expect(await bundled('qcow2', 'Image, info, map')).toBeLessThan(110 * KB);
  });
});
