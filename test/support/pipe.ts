import { fileURLToPath } from 'node:url';
import { type RunResult, run } from './run.ts';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

/** Runs a line of shell in a folder, in which `qcow2` is the built command line. */
export function pipe(line: string, cwd: string): Promise<RunResult> {
  const text = `set -o pipefail; qcow2() { '${process.execPath}' '${MAIN}' "$@"; }; ${line}`;
  return run('bash', ['-c', text], cwd);
}
