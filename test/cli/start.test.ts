import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
let dir: string;

beforeAll(async () => {
  dir = makeTempDir('start');
  await runOk('qemu-img', ['create', '-q', '-f', 'qcow2', 'disk.qcow2', '1M'], dir);
  const report = 'process.on("exit", () => console.error(process.moduleLoadList.join("\\n")));';
  const files = 'console.error(Object.keys(require.cache).join("\\n"))';
  writeFileSync(join(dir, 'loaded.cjs'), `${report}\nprocess.on("exit", () => ${files});\n`);
});
afterAll(() => removeTempDir(dir));

/** Node's own modules and the files that a command has loaded when it ends. */
async function loadedBy(...args: string[]): Promise<string[]> {
  const { stderr } = await runOk(process.execPath, ['-r', './loaded.cjs', MAIN, ...args], dir);
  return stderr.split('\n');
}

// Each of them takes milliseconds, which a command that runs for 70 of them cannot hide.
const SLOW = /^NativeModule (crypto|worker_threads|internal\/modules\/esm\/translators|zlib)$/;
// Takes locks, for those that do not only look.
const LOCKS = /koffi/;

test.each([
  { args: ['--version'], locks: false },
  { args: ['info', 'disk.qcow2'], locks: false },
  { args: ['map', 'disk.qcow2'], locks: false },
  { args: ['measure', 'disk.qcow2'], locks: false },
  { args: ['create', 'new.raw', '1M'], locks: false },
  { args: ['check', 'disk.qcow2'], locks: true },
])('$args loads what it runs', async ({ args, locks }) => {
  const loaded = await loadedBy(...args);
  expect(loaded).toContain('NativeModule fs');
  expect(loaded).toContain(MAIN);
  expect(loaded.filter((name) => SLOW.test(name))).toEqual([]);
  expect(loaded.some((name) => LOCKS.test(name))).toBe(locks);
});
