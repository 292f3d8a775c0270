import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';
import { StaticServer } from '../browser/server.ts';
import { describeRun, run } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const main = join(root, 'dist/cli/main.js');

/** A project in which `qcow2` is a command and a package. */
const folder = makeTempDir('readme');
mkdirSync(join(folder, 'node_modules'));
symlinkSync(root, join(folder, 'node_modules/qcow2'), 'dir');
mkdirSync(join(folder, 'bin'));
writeFileSync(join(folder, 'bin/qcow2'), `#!/bin/sh\nexec '${process.execPath}' '${main}' "$@"\n`);
chmodSync(join(folder, 'bin/qcow2'), 0o755);
writeFileSync(join(folder, 'package.json'), '{ "private": true, "type": "module" }\n');

afterAll(() => removeTempDir(folder));

/** The code blocks of a language, in order. */
function blocks(language: string): string[] {
  const pattern = new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, 'gms');
  return [...readme.matchAll(pattern)].map(([, text = '']) => text);
}

test('the command lines work as written', { timeout: 120_000 }, async () => {
  const [jobs = ''] = blocks('json');
  writeFileSync(join(folder, 'jobs.json'), jobs);
  // What is said of a file far away is tried with one on this machine.
  const server = new StaticServer({ images: folder });
  await server.open();
  const create = ['create', '-f', 'qcow2', 'debian-12-nocloud-amd64.qcow2', '8M'];
  execFileSync(process.execPath, [main, ...create], { cwd: folder, stdio: 'ignore' });
  const far = 'https://cloud.debian.org/images/cloud/bookworm/latest/';
  const commands = blocks('sh').join('').replaceAll(far, `${server.origin}/images/`);
  expect(commands).toContain(server.origin);
  const lines = commands.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  expect(lines.length).toBeGreaterThan(10);
  for (const line of lines) {
    const script = `PATH='${join(folder, 'bin')}${delimiter}'"$PATH"; ${line}`;
    const result = await run('sh', ['-c', script], folder);
    expect(result.status, describeRun(result)).toBe(0);
    expect(result.stderr, line).toBe('');
  }
  await server.close();
});

test('the code works as written', async () => {
  const create = ['create', '-f', 'qcow2', 'disk.qcow2', '8M'];
  execFileSync(process.execPath, [main, ...create], { cwd: folder, stdio: 'ignore' });
  const over = ['create', '-f', 'qcow2', '-b', 'disk.qcow2', '-F', 'qcow2', 'overlay.qcow2'];
  execFileSync(process.execPath, [main, ...over], { cwd: folder, stdio: 'ignore' });
  const picked =
    "import { openAsBlob } from 'node:fs';\nconst file = await openAsBlob('disk.qcow2');\n";
  const codes = blocks('js');
  expect(codes.length).toBeGreaterThan(3);
  for (const code of codes) {
    writeFileSync(join(folder, 'run.js'), picked + code);
    const result = await run(process.execPath, ['--no-warnings', 'run.js'], folder);
    expect(result.status, describeRun(result)).toBe(0);
    expect(result.stderr).toBe('');
  }
});

test('the commands of a fleet work as written', { timeout: 60_000 }, async () => {
  const [jobs = ''] = blocks('json');
  const fleet = join(folder, 'fleet');
  mkdirSync(fleet);
  writeFileSync(join(fleet, 'jobs.json'), jobs);
  const disks = [['disk.raw'], ['-f', 'qcow2', 'other.qcow2']];
  for (const disk of disks)
    execFileSync(process.execPath, [main, 'create', ...disk, '8M'], {
      cwd: fleet,
      stdio: 'ignore',
    });
  const over = ['-f', 'qcow2', '-b', 'other.qcow2', '-F', 'qcow2', 'overlay.qcow2'];
  execFileSync(process.execPath, [main, 'create', ...over], { cwd: fleet, stdio: 'ignore' });
  // A server of the test's own; the packages are there.
  const port = await freePort();
  const [block = ''] = blocks('bash');
  const [install = '', ...commands] = block.split('\n');
  expect(install).toMatch(/^npm install /);
  const script = commands
    .join('\n')
    .replaceAll('127.0.0.1/', `127.0.0.1:${port}/`)
    .replace('redis-server', `redis-server --bind 127.0.0.1 --port ${port}`);
  const around = `PATH='${join(folder, 'bin')}${delimiter}'"$PATH"; set -e
    trap 'kill $(jobs -p); redis-cli -p ${port} shutdown nosave' EXIT
    ${script}`;
  const result = await run('bash', ['-c', around], fleet);
  expect(result.status, describeRun(result)).toBe(0);
  for (const name of ['a.qcow2', 'b.raw']) expect(existsSync(join(fleet, name)), name).toBe(true);
});

/** A port nobody listens on. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

test('every verb of the command line is shown, and none is said to be missing', async () => {
  const { stdout } = await run(process.execPath, [main, '--help'], folder);
  const [, list = ''] = /Verbs:\n(.*?)\n\n/s.exec(stdout) ?? [];
  const verbs = [...list.matchAll(/^ {2}(\w+)/gm)].map(([, verb]) => verb);
  expect(verbs.length).toBeGreaterThan(4);
  expect(verbs.filter((verb) => !readme.includes(`qcow2 ${verb}`))).toEqual([]);
  const [, missing = ''] = /## Not supported yet\n(.*?)\n##/s.exec(readme) ?? [];
  expect(missing).not.toBe('');
  const words = missing.replaceAll(/`[^`]*`/g, '').split(/\W+/);
  expect(verbs.filter((verb) => verb && words.includes(verb))).toEqual([]);
});

test('the files it names are there', () => {
  const paths = [...readme.matchAll(/`((?:src\/)?[a-z]+\/[a-z-/]+\.ts)`/g)].map(([, path = '']) =>
    path.startsWith('src/') ? path : `src/${path}`,
  );
  expect(paths.length).toBeGreaterThan(8);
  for (const path of paths) expect(readFileSync(join(root, path), 'utf8'), path).not.toBe('');
});
