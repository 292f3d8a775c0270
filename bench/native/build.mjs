// Compiles the C contenders below build/native, unless that has been done.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(new URL('.', import.meta.url));
const target = fileURLToPath(new URL('../../build/native/', import.meta.url));
const FLAGS = ['-O2', '-std=gnu11', '-Wall', '-Wextra', '-shared', '-fPIC'];
/** Node has a zlib of its own, whose functions the addon's must not be mistaken for. */
const SCOPE = constants.dlopen.RTLD_NOW | (constants.dlopen.RTLD_DEEPBIND ?? 0);
const LIBRARIES = ['-lz', '-ldeflate', '-lzstd'];

/** The addon's functions, or undefined after one line to `log` that says what is missing. */
export function loadNative(log) {
  try {
    const module = { exports: {} };
    process.dlopen(module, compile(), SCOPE);
    return module.exports;
  } catch (error) {
    log(`no C contenders: ${error.message.split('\n')[0]}`);
    return undefined;
  }
}

function compile() {
  const include = headers();
  const sources = readdirSync(here).filter((name) => /\.[ch]$/.test(name));
  const hash = createHash('sha256').update(`${process.version} ${process.arch} ${FLAGS}`);
  for (const name of sources) hash.update(readFileSync(join(here, name)));
  const addon = join(target, `${hash.digest('hex').slice(0, 16)}.node`);
  if (existsSync(addon)) return addon;
  mkdirSync(target, { recursive: true });
  const files = sources.filter((name) => name.endsWith('.c'));
  // Behind the system's folders, because Node's headers hold a zlib.h as well.
  const args = [...FLAGS, '-idirafter', include, '-o', addon, ...files, ...LIBRARIES];
  const { status, error, stderr } = spawnSync('cc', args, { cwd: here, encoding: 'utf8' });
  if (status === 0) return addon;
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
