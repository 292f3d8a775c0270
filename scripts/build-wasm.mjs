// Compiles assembly/ into build/ (targets of asconfig.json) and embeds the two release modules in
// src/kernel/wasm.generated.ts. Does nothing when the results are newer than the sources.
import { mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const generated = join(root, 'src/kernel/wasm.generated.ts');

/** The targets of asconfig.json. */
export const TARGETS = ['release-simd', 'release-scalar', 'debug-simd', 'debug-scalar'];

/** Path of a target's module. */
export function wasmPath(target) {
  return join(root, `build/kernel-${target}.wasm`);
}

function modifiedAt(path) {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

function isUpToDate() {
  const folder = join(root, 'assembly');
  const sources = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => join(entry.parentPath, entry.name));
  sources.push(join(root, 'asconfig.json'), fileURLToPath(import.meta.url));
  const newest = Math.max(...sources.map(modifiedAt));
  return [...TARGETS.map(wasmPath), generated].every((path) => modifiedAt(path) > newest);
}

/** Writes beside the file and renames, so that a reader at the same time never sees a half. */
function writeWhole(path, contents) {
  const temporary = `${path}.${process.pid}.tmp`;
  writeFileSync(temporary, contents);
  renameSync(temporary, path);
}

async function compile(target) {
  const { default: asc } = await import('assemblyscript/asc');
  const { error, stderr } = await asc.main(['--config', 'asconfig.json', '--target', target], {
    readFile: (name, base) => {
      const path = join(base || root, name);
      return statSync(path, { throwIfNoEntry: false }) ? readFileSync(path, 'utf8') : null;
    },
    writeFile: (_name, contents) => writeWhole(wasmPath(target), contents),
    listFiles: () => [],
  });
  if (error) throw new Error(`asc, target ${target}: ${error.message}\n${stderr.toString()}`);
}

function embed() {
  const base64 = (target) => readFileSync(wasmPath(target)).toString('base64');
  writeWhole(
    generated,
    '// Made by scripts/build-wasm.mjs from assembly/.\n' +
      `export const WASM_SIMD =\n  '${base64('release-simd')}';\n` +
      `export const WASM_SCALAR =\n  '${base64('release-scalar')}';\n`,
  );
}

/** Builds what is out of date. Returns whether anything was built. */
export async function buildWasm() {
  if (isUpToDate()) return false;
  mkdirSync(join(root, 'build'), { recursive: true });
  for (const target of TARGETS) await compile(target);
  embed();
  return true;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const built = await buildWasm();
  console.log(built ? 'wasm: built' : 'wasm: up to date');
}
