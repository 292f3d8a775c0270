// Compiles the C contenders below build/native, unless that has been done: the addon of the kernels'
// benches, and the programs of the images'.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(new URL('.', import.meta.url));
const target = fileURLToPath(new URL('../../build/native/', import.meta.url));
const FLAGS = ['-O2', '-std=gnu11', '-Wall', '-Wextra'];
const ADDON_FLAGS = [...FLAGS, '-shared', '-fPIC'];
/** Node has a zlib of its own, whose functions the addon's must not be mistaken for. */
const SCOPE = constants.dlopen.RTLD_NOW | (constants.dlopen.RTLD_DEEPBIND ?? 0);
const LIBRARIES = ['-lz', '-ldeflate', '-lzstd'];

/** The addon's functions, or undefined after one line to `log` that says what is missing. */
export function loadNative(log) {
  return attempt(log, () => {
    const module = { exports: {} };
    process.dlopen(module, buildAddon(), SCOPE);
    return module.exports;
  });
}

/** The path of a program of `programs/`, or undefined after one line to `log`. */
export function buildProgram(name, log) {
  return attempt(log, () => build(name, '', FLAGS, [`programs/${name}.c`], []));
}

function attempt(log, work) {
  try {
    return work();
  } catch (error) {
    log(`no C contenders: ${error.message.split('\n')[0]}`);
    return undefined;
  }
}

function buildAddon() {
  const include = headers();
  const sources = readdirSync(here).filter((name) => /\.[ch]$/.test(name));
  // Behind the system's folders, because Node's headers hold a zlib.h as well.
  const flags = [...ADDON_FLAGS, '-idirafter', include];
  return build('addon', '.node', flags, sources, LIBRARIES);
}

/** Compiles sources, headers among them, to a file that is named by what went into it. */
function build(name, ending, flags, sources, libraries) {
  const hash = createHash('sha256').update(`${process.version} ${process.arch} ${flags}`);
  for (const source of sources) hash.update(readFileSync(join(here, source)));
  const product = join(target, `${name}-${hash.digest('hex').slice(0, 16)}${ending}`);
  if (existsSync(product)) return product;
  mkdirSync(target, { recursive: true });
  const files = sources.filter((source) => source.endsWith('.c'));
  const args = [...flags, '-o', product, ...files, ...libraries];
  const { status, error, stderr } = spawnSync('cc', args, { cwd: here, encoding: 'utf8' });
  if (status === 0) return product;
  const reason = error?.message ?? stderr.split('\n').find((line) => /error|not found/.test(line));
  throw new Error(`cc: ${reason ?? `exit status ${status}`}`);
}

/** Node's headers: beside its program, or where npm is told that they are. */
function headers() {
  const npm = spawnSync('npm', ['config', 'get', 'nodedir'], { encoding: 'utf8' });
  const places = [dirname(dirname(process.execPath)), npm.stdout?.trim().split('\n').at(-1) ?? ''];
  const folders = places.map((place) => join(place, 'include/node'));
  const folder = folders.find((path) => existsSync(join(path, 'node_api.h')));
  if (folder === undefined) throw new Error(`node_api.h is not in ${folders.join(' or ')}`);
  return folder;
}
