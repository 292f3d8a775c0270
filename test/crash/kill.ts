import { type ChildProcess, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Random } from '../fuzz/random.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

/** A command line that is killed, and what must hold of the files then. */
export interface KillCase {
  readonly name: string;
  readonly argv: readonly string[];
  /** Puts the files there that the command needs; called before every run. */
  prepare(folder: string): void | Promise<void>;
  /** What is wrong with the files; undefined: nothing. `ended`: the command was done before. */
  judge(folder: string, ended: boolean): Promise<string | undefined>;
}

export interface KillReport {
  /** Runs that were killed, and that ended before. */
  killed: number;
  ended: number;
  failure: string | undefined;
}

interface Outcome {
  milliseconds: number;
  wasKilled: boolean;
  stderr: string;
}

/**
 * Runs the built command again and again and kills it (SIGKILL), each time a little later or earlier:
 * at random between its start and a little past the time it takes. The first run is let end.
 * @throws Error the command failed by itself
 */
export async function killAtRandom(
  { name, argv, prepare, judge }: KillCase,
  { seed = 1, runs = 20 }: { seed?: number; runs?: number } = {},
): Promise<KillReport> {
  const random = new Random(seed, 0x9111);
  const report: KillReport = { killed: 0, ended: 0, failure: undefined };
  let longest = 0;
  for (let i = 0; i <= runs; i++) {
    const folder = makeTempDir('kill');
    try {
      await prepare(folder);
      const delay = i === 0 ? undefined : random.below(Math.ceil(longest * 1.1));
      const outcome = await runFor(argv, folder, delay);
      longest = Math.max(longest, outcome.milliseconds);
      report[outcome.wasKilled ? 'killed' : 'ended']++;
      const fault = await judge(folder, !outcome.wasKilled);
      if (fault === undefined) continue;
      const when = delay === undefined ? 'not killed' : `killed after ${delay} ms`;
      report.failure = `'${name}', seed ${seed}, run ${i}, ${when}: ${fault}`;
      return report;
    } finally {
      removeTempDir(folder);
    }
  }
  return report;
}

/** Runs the command in a folder, for so many milliseconds at most. */
function runFor(argv: readonly string[], cwd: string, most: number | undefined): Promise<Outcome> {
  const started = performance.now();
  const child: ChildProcess = spawn(process.execPath, [MAIN, ...argv], {
    cwd,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const timer = most === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), most);
  let stderr = '';
  child.stderr?.on('data', (text) => {
    stderr += text;
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status, signal) => {
      clearTimeout(timer);
      const wasKilled = signal === 'SIGKILL';
      if (!wasKilled && status !== 0) {
        reject(new Error(`${argv.join(' ')} ended with status ${status}: ${stderr}`));
        return;
      }
      resolve({ milliseconds: performance.now() - started, wasKilled, stderr });
    });
  });
}

/** Files of a folder as a crash state has them. */
export function filesOf(folder: string): Map<string, Uint8Array> {
  const names = fs.readdirSync(folder);
  return new Map(names.map((name) => [name, fs.readFileSync(path.join(folder, name))]));
}
