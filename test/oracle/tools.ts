import { accessSync, closeSync, fsyncSync, openSync, readFileSync, writeSync } from 'node:fs';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describeRun, type RunResult, run, runOk } from '../support/run.ts';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

/** The command under test: QCOW2_ORACLE_SUBJECT, else the built command line of this package. */
const replacement = process.env.QCOW2_ORACLE_SUBJECT;
const isOracleItself = basename(replacement ?? '') === 'qemu-img';

/** Runs the command under test. Its own flags are dropped when the oracle stands in for it. */
export function subject(args: readonly string[], cwd: string): Promise<RunResult> {
  if (replacement === undefined) return run(process.execPath, [MAIN, ...args], cwd);
  return run(replacement, isOracleItself ? withoutOwnFlags(args) : args, cwd);
}

function withoutOwnFlags(args: readonly string[]): string[] {
  return args.filter(
    (arg, at) => arg !== '--allow-external' && args[at - 1] !== '--allow-external',
  );
}

/** What qemu-img says when its timing of a key derivation came to nothing; it may work the next time. */
const UNTIMED = 'Unable to get accurate CPU usage';
const ATTEMPTS = 30;

/** Runs qemu-img, which must succeed. */
export async function qemuImg(args: readonly string[], cwd: string): Promise<RunResult> {
  for (let attempt = 1; ; attempt++) {
    const result = await run('qemu-img', args, cwd);
    if (result.status === 0) return result;
    if (attempt === ATTEMPTS || !result.stderr.includes(UNTIMED))
      throw new Error(describeRun(result));
  }
}

/**
 * Runs qemu-io commands on one image in one process.
 *
 * @throws Error when a command of the batch fails: qemu-io's status tells of some failures only.
 */
export async function qemuIo(
  image: string,
  commands: readonly string[],
  cwd: string,
  format = 'qcow2',
): Promise<RunResult> {
  const args = ['-f', format, ...commands.flatMap((command) => ['-c', command]), image];
  const result = await runOk('qemu-io', args, cwd);
  const all = result.stdout + result.stderr;
  if (/fail|error|invalid|not found/i.test(all)) throw new Error(`${result.command}\n${all}`);
  return result;
}

/**
 * Checks that there is an oracle to compare with and something to compare.
 *
 * @throws Error that says what to install or build.
 */
export async function requireOracle(cwd: string): Promise<void> {
  for (const program of ['qemu-img', 'qemu-io']) {
    await runOk(program, ['--version'], cwd).catch((error: unknown) => {
      throw new Error(
        `the oracle tests compare with ${program}, which does not run here; install qemu-utils`,
        { cause: error },
      );
    });
  }
  if (replacement !== undefined) return;
  try {
    accessSync(MAIN);
  } catch (error) {
    throw new Error(`the oracle tests run ${MAIN}, which is not built; run "npm run build"`, {
      cause: error,
    });
  }
}

/**
 * Writes a file's bytes over themselves: no holes and no preallocated blocks remain.
 *
 * Where a file has many holes, what `qemu-img map` calls zero depends on the file system and even
 * on what is cached; of dense files it tells what the image's own tables say.
 */
export function makeDense(path: string): void {
  const bytes = readFileSync(path);
  const file = openSync(path, 'r+');
  try {
    writeSync(file, bytes, 0, bytes.length, 0);
  } finally {
    closeSync(file);
  }
}

/** Waits until a file is on disk: the block count that `info` shows is final then. */
export function settle(path: string): void {
  const file = openSync(path, 'r');
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}
