// What `npm test` and `npm run demo` need on a machine with only Node, npm and apt: dependencies, Debian
// packages, a build. Node's own modules only, since there may be no node_modules yet. What is up to
// date, by a stamp, is not done again.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('..', import.meta.url));

/** Gone with node_modules, so that a stamp never outlives what it vouches for. */
const stamps = join(root, 'node_modules/.cache/qcow2');

/** Debian packages of the tests, each with the commands (or files) it is there for. */
const DEBIAN_PACKAGES = [
  { name: 'qemu-utils', commands: ['qemu-img', 'qemu-io'] },
  { name: 'chromium', commands: ['chromium'] },
  { name: 'firefox-esr', commands: ['firefox-esr'] },
  { name: 'seabios', files: ['/usr/share/seabios/bios.bin'] },
  { name: 'redis-server', commands: ['redis-server', 'redis-cli'] },
  { name: 'xz-utils', commands: ['xz'] },
  { name: 'zstd', commands: ['zstd'] },
];

/** The step that failed has said why. */
class SetupError extends Error {}

/** Runs a program with the output shown; throws SetupError when it fails. */
function run(what, program, args, environment = {}) {
  const { status, error, signal } = spawnSync(program, args, {
    cwd: root,
    stdio: ['inherit', 'inherit', 'inherit'],
    env: { ...process.env, ...environment },
    shell: process.platform === 'win32' && program === 'npm',
  });
  if (status === 0) return;
  const cause = error?.message ?? signal ?? `exit status ${status}`;
  throw new SetupError(`${what} failed: ${program} ${args.join(' ')}: ${cause}`);
}

function hashOf(paths) {
  const hash = createHash('sha256').update(process.version);
  for (const path of paths) hash.update(`\0${path}\0`).update(readFileSync(join(root, path)));
  return hash.digest('hex');
}

function isStamped(name, hash) {
  const path = join(stamps, name);
  return existsSync(path) && readFileSync(path, 'utf8') === hash;
}

function stamp(name, hash) {
  mkdirSync(stamps, { recursive: true });
  writeFileSync(join(stamps, name), hash);
}

/** Installs node_modules exactly as package-lock.json says. No package's own scripts are run. */
export function installDependencies() {
  const hash = hashOf(['package.json', 'package-lock.json']);
  if (isStamped('dependencies', hash)) return;
  console.log('set-up: dependencies (npm ci)');
  run('installing the dependencies', 'npm', [
    'ci',
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
    '--loglevel=error',
  ]);
  stamp('dependencies', hash);
}

function filesBelow(folder) {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.includes('.generated.'))
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length))
    .sort();
}

/** Builds dist/ unless it was built from the sources as they are. */
export function build() {
  const sources = [
    ...filesBelow('src'),
    ...filesBelow('assembly'),
    ...filesBelow('scripts'),
  ].filter((path) => !path.startsWith('scripts/') || path.startsWith('scripts/build'));
  const hash = hashOf([...sources, 'asconfig.json', 'tsconfig.json', 'package-lock.json']);
  const products = ['dist/cli/main.js', 'src/kernel/wasm.generated.ts', 'build/modules'];
  const complete = products.every((path) => existsSync(join(root, path)));
  if (complete && isStamped('build', hash)) return;
  console.log('set-up: build');
  run('the build', process.execPath, ['scripts/build.mjs']);
  stamp('build', hash);
}

function isCommand(name) {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/**
 * Installs Debian packages of which something is missing, with sudo unless run by root.
 * @param {readonly { name: string, commands?: string[], files?: string[] }[]} packages
 */
export function installDebianPackages(packages = DEBIAN_PACKAGES) {
  const missing = packages.filter(
    ({ commands = [], files = [] }) =>
      !(commands.every(isCommand) && files.every((path) => existsSync(path))),
  );
  if (missing.length === 0) return;
  const names = missing.map(({ name }) => name);
  const isRoot = process.getuid?.() === 0;
  if (!isCommand('apt-get') || (!isRoot && !isCommand('sudo'))) {
    const wanted = missing.flatMap(({ commands, files }) => [
      ...(commands ?? []),
      ...(files ?? []),
    ]);
    const lacking = isCommand('apt-get') ? 'sudo' : 'apt-get';
    throw new SetupError(
      `${wanted.join(', ')} (Debian: ${names.join(', ')}) must be there, and ${lacking} is not here to install them: install them and try again`,
    );
  }
  console.log(`set-up: Debian packages ${names.join(', ')}`);
  const apt = (...args) => {
    const command = ['apt-get', '-q', ...args];
    // sudo drops the environment: apt is told by env.
    command.unshift('env', 'DEBIAN_FRONTEND=noninteractive');
    if (!isRoot) command.unshift('sudo');
    const [program = '', ...rest] = command;
    run('installing Debian packages', program, rest);
  };
  apt('update');
  apt('install', '--yes', '--no-install-recommends', ...names);
}

/** Checks the version of Node against `engines` of package.json. */
function requireNode() {
  const { engines } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const number = (version) => {
    const [major = 0, minor = 0] = version
      .replace(/^[^\d]*/, '')
      .split('.')
      .map(Number);
    return major * 1000 + minor;
  };
  if (number(process.version) >= number(engines.node)) return;
  throw new SetupError(`Node ${engines.node} is needed, this is ${process.version}`);
}

/** A step without which the rest still works: that it failed is told, and no more. */
export function optional(step) {
  return () => {
    try {
      step();
    } catch (error) {
      if (!(error instanceof SetupError)) throw error;
      console.error(`set-up: goes on without: ${error.message}`);
    }
  };
}

/** Runs the steps. Returns false after one line that says why when one of them failed. */
export function setUp(...steps) {
  try {
    requireNode();
    for (const step of steps) step();
    return true;
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    console.error(`set-up: ${error.message}`);
    return false;
  }
}
