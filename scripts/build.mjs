// Builds dist/: the wasm modules (embedded as base64), the TypeScript as one module per source in
// build/modules/, and from those the bundles that are published, with the declarations beside them.
// Both folders take the place of the old ones when they are whole.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, sep } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { rolldown } from 'rolldown';
import { buildWasm, wasmPath } from './build-wasm.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const modules = join(root, 'build/modules');
const dist = join(root, 'dist');

const freshOf = (folder) => `${folder}.new-${process.pid}`;
const oldOf = (folder) => `${folder}.old-${process.pid}`;

/** Threads are started by the URL of a file beside the module that starts them. */
const WORKERS = {
  'convert-worker': 'workers/convert-worker.js',
  'stream-worker': 'workers/stream-worker.js',
  'pack-worker': 'workers/pack-worker.js',
  'compare-worker': 'workers/compare-worker.js',
  'batch-worker': 'batch/batch-worker.js',
};

/**
 * The library: ES modules, for bundlers and browsers too. The command line: CommonJS, which Node
 * starts faster than ES modules, in the process and again in each thread.
 */
const BUNDLES = [
  {
    folder: '',
    entries: {
      index: 'index.js',
      node: 'node.js',
      blocks: 'blocks.js',
      v86: 'v86.js',
      browser: 'browser.js',
      ...WORKERS,
    },
    output: { format: 'esm', comments: { legal: true, annotation: true, jsdoc: false } },
  },
  {
    // One file that needs no other: bundlers copy it as it is.
    folder: 'browser',
    entries: { worker: 'browser/worker.js' },
    output: { format: 'esm', minify: true, codeSplitting: false },
  },
  {
    folder: 'slim',
    entries: { index: 'index.js' },
    output: { format: 'esm', comments: { legal: true, annotation: true, jsdoc: false } },
    replaces: { './embedded.js': 'kernel/not-embedded.js' },
  },
  {
    folder: 'cli',
    entries: { main: 'cli/main.js', 'queue-worker': 'queue/queue-worker.js', ...WORKERS },
    output: { format: 'cjs', minify: true },
  },
];

/** Folders of what only the command line has. */
const COMMAND_LINE = ['cli', 'queue'];

/** Each module is in one file of a bundle, however many entries use it. */
async function writeBundle({ folder, entries, output, replaces = {} }) {
  const bundle = await rolldown({
    input: Object.fromEntries(
      Object.entries(entries).map(([name, path]) => [name, join(freshOf(modules), path)]),
    ),
    platform: 'node',
    plugins: [
      {
        name: 'replaces',
        resolveId: (specifier) =>
          specifier in replaces ? join(freshOf(modules), replaces[specifier]) : null,
      },
    ],
    // Else the name of the temporary folder is told in comments.
    experimental: { attachDebugInfo: 'none' },
    external: [
      /^node:/,
      ...Object.keys({ ...manifest.optionalDependencies, ...manifest.peerDependencies }),
    ],
    onLog(level, { message }) {
      if (level === 'warn') throw new Error(message);
    },
  });
  await bundle.write({
    dir: join(freshOf(dist), folder),
    entryFileNames: '[name].js',
    chunkFileNames: 'shared-[hash].js',
    ...output,
  });
  await bundle.close();
}

/** Declarations of the library. tsc leaves `.ts` in their imports; what is beside them is `.js`. */
function writeDeclarations() {
  for (const path of readdirSync(freshOf(modules), { recursive: true, encoding: 'utf8' })) {
    if (!path.endsWith('.d.ts')) continue;
    if (COMMAND_LINE.some((folder) => path.startsWith(`${folder}${sep}`))) continue;
    const text = readFileSync(join(freshOf(modules), path), 'utf8');
    const target = join(freshOf(dist), path);
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(
      target,
      text.replace(/((?:from|import)\s*\(?\s*['"]\.[^'"\n]*)\.ts(?=['"])/g, '$1.js'),
    );
  }
}

/** The manual page comes from the option table, like `--help`. */
async function writeManPage() {
  const { manPage } = await import(pathToFileURL(join(freshOf(modules), 'cli/man-page.js')).href);
  writeFileSync(join(freshOf(dist), 'qcow2.1'), manPage(manifest.version));
}

/** The schema of job files comes from the table they are read by. */
async function writeSchema() {
  const path = join(freshOf(modules), 'batch/job-schema.js');
  const { jobFileSchema } = await import(pathToFileURL(path).href);
  mkdirSync(join(freshOf(dist), 'schema'));
  writeFileSync(
    join(freshOf(dist), 'schema/batch-jobs.schema.json'),
    `${JSON.stringify(jobFileSchema(), null, 2)}\n`,
  );
}

async function writePackage() {
  for (const bundle of BUNDLES) await writeBundle(bundle);
  writeFileSync(join(freshOf(dist), 'cli/package.json'), '{ "type": "commonjs" }\n');
  chmodSync(join(freshOf(dist), 'cli/main.js'), 0o755);
  writeDeclarations();
  // For hosts that compile modules themselves; everything else has it embedded.
  copyFileSync(wasmPath('release-simd'), join(freshOf(dist), 'qcow2.wasm'));
  await writeManPage();
  await writeSchema();
}

/** Two renames, so that a folder is missing for an instant at most. */
function takePlace(folder) {
  try {
    renameSync(folder, oldOf(folder));
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
  }
  renameSync(freshOf(folder), folder);
}

await buildWasm();
const folders = [modules, dist];
try {
  const compiler = join(root, 'node_modules/typescript/bin/tsc');
  const tsc = spawnSync(process.execPath, [compiler, '-p', root, '--outDir', freshOf(modules)], {
    stdio: 'inherit',
  });
  if (tsc.status === 0) {
    await writePackage();
    folders.forEach(takePlace);
  }
  process.exitCode = tsc.status ?? 1;
} finally {
  for (const folder of folders)
    for (const path of [freshOf(folder), oldOf(folder)])
      rmSync(path, { recursive: true, force: true });
}
