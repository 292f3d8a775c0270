import { execFile } from 'node:child_process';

/** How a command ended. A command ended by a signal has status 128 + its number, as in a shell. */
export interface RunResult {
  readonly command: string;
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

const SIGNALS: Readonly<Record<string, number>> = { SIGABRT: 6, SIGKILL: 9, SIGSEGV: 11 };
const TIMEOUT_MS = 30_000;

/**
 * Runs a command without a shell and reports how it ended; a non-zero status is no error here.
 *
 * @throws Error when the program cannot be started or does not end within half a minute.
 */
export function run(program: string, args: readonly string[], cwd: string): Promise<RunResult> {
  const command = [program, ...args].join(' ');
  const options = {
    cwd,
    timeout: TIMEOUT_MS,
    killSignal: 'SIGTERM',
    maxBuffer: 1 << 26,
    env: { ...process.env, LC_ALL: 'C' },
  } as const;
  return new Promise((resolve, reject) => {
    execFile(program, args, options, (error, stdout, stderr) => {
      if (error === null) return resolve({ command, status: 0, stdout, stderr });
      if (typeof error.code === 'number') {
        return resolve({ command, status: error.code, stdout, stderr });
      }
      const signal = error.signal === null ? undefined : SIGNALS[error.signal ?? ''];
      if (signal !== undefined) return resolve({ command, status: 128 + signal, stdout, stderr });
      reject(new Error(`cannot run ${command}: ${error.message}`));
    });
  });
}

/**
 * Like {@link run} for a command that must succeed.
 *
 * @throws Error with the command's own words when its status is not 0.
 */
export async function runOk(
  program: string,
  args: readonly string[],
  cwd: string,
): Promise<RunResult> {
  const result = await run(program, args, cwd);
  if (result.status !== 0) throw new Error(describeRun(result));
  return result;
}

/** A command, its status and all it wrote, for failure messages. */
export function describeRun(result: RunResult): string {
  return `${result.command}\nended with status ${result.status}\n${result.stdout}${result.stderr}`;
}
