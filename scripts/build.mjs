// Builds dist/: the wasm modules (embedded as base64), then the TypeScript. The new dist/ takes the
// place of the old one when it is whole.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { buildWasm, wasmPath } from './build-wasm.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const fresh = join(root, `dist.new-${process.pid}`);
const old = join(root, `dist.old-${process.pid}`);

/** tsc leaves `.ts` in the imports of declarations; what is beside them is `.js`. */
function rewriteDeclarations(folder) {
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !entry.name.endsWith('.d.ts')) continue;
    const path = join(entry.parentPath, entry.name);
    const text = readFileSync(path, 'utf8');
    writeFileSync(
      path,
      text.replace(/((?:from|import)\s*\(?\s*['"]\.[^'"\n]*)\.ts(?=['"])/g, '$1.js'),
    );
  }
}

/** The manual page comes from the option table, like `--help`. */
async function writeManPage() {
  const { manPage } = await import(pathToFileURL(join(fresh, 'cli/man-page.js')).href);
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  writeFileSync(join(fresh, 'qcow2.1'), manPage(version));
}

/** Two renames, so that dist/ is missing for an instant at most. */
function takePlace() {
  try {
    renameSync(join(root, 'dist'), old);
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
  }
  renameSync(fresh, join(root, 'dist'));
}

await buildWasm();
try {
  const compiler = join(root, 'node_modules/typescript/bin/tsc');
  const tsc = spawnSync(process.execPath, [compiler, '-p', root, '--outDir', fresh], {
    stdio: 'inherit',
  });
  if (tsc.status === 0) {
    rewriteDeclarations(fresh);
    chmodSync(join(fresh, 'cli/main.js'), 0o755);
    // For hosts that compile modules themselves; everything else has it embedded.
    copyFileSync(wasmPath('release-simd'), join(fresh, 'qcow2.wasm'));
    await writeManPage();
    takePlace();
  }
  process.exitCode = tsc.status ?? 1;
} finally {
  for (const folder of [fresh, old]) rmSync(folder, { recursive: true, force: true });
}
