import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
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
  /** Puts the files there that the command needs; every run begins with copies of them. */
  prepare(folder: string): Promise<void>;
  /** What is wrong with the files; undefined: nothing. `ended`: the command was done before. */
  judge(folder: string, ended: boolean): Promise<string | undefined>;
}

export interface KillOptions {
  readonly seed: number;
  /** Times the command is to be killed; it is run four times as often at most. */
  readonly kills: number;
  /** Runs at a time. */
  readonly parallel?: number;
}

export interface KillReport {
  /** Runs that were killed; those of them that had changed files and were not done; that ended before. */
  killed: number;
  midway: number;
  ended: number;
  /** Different states of the files that were judged. */
  states: number;
  failure: string | undefined;
}

/** When a command is killed: so long after it was started, or after it first changed a file. */
interface Moment {
  readonly after: 'start' | 'change';
  readonly milliseconds: number;
}

interface Outcome {
  /** From its start, and from its first change of a file, to its end. */
  readonly milliseconds: number;
  readonly changing: number;
  readonly wasKilled: boolean;
}

/** Of so many runs one is let end, to see how long the command takes by now. */
const LET_END = 16;

/** Of so many kills one may come before the command has changed anything. */
const AT_ANY_TIME = 6;

/** Kills come in this part of the time in which a command changes files; then it only has to exit. */
const CHANGING_SHARE = 0.9;

/** Runs at a time; they are judged when all of them have ended, so that kills are in time. */
const PARALLEL = 4;

/**
 * Runs the built command again and again and kills it (SIGKILL) at random moments, most of them spread
 * evenly over the time in which it changes files, until that has happened so many times.
 * @throws Error the command failed by itself
 */
export async function killAtRandom(
  killCase: KillCase,
  { seed, kills }: KillOptions,
): Promise<KillReport> {
  const random = new Random(seed, 0x9111);
  const report: KillReport = { killed: 0, midway: 0, ended: 0, states: 0, failure: undefined };
  const judged = new JudgedStates(killCase);
  const original = makeTempDir('kill');
  let whole: Outcome | undefined;
  let turn = 0;
  const nextMoment = (): Moment | undefined => {
    turn++;
    if (whole === undefined || turn % LET_END === 0) return undefined;
    const share = ((turn + random.below(1000) / 1000) / kills) % 1;
    if (turn % AT_ANY_TIME === 0)
      return { after: 'start', milliseconds: share * whole.milliseconds };
    return { after: 'change', milliseconds: share * CHANGING_SHARE * whole.changing };
  };
  try {
    await killCase.prepare(original);
    judged.begin(original);
    while (report.killed < kills && turn < 4 * kills && report.failure === undefined) {
      const length = whole === undefined ? 1 : Math.min(PARALLEL, kills - report.killed);
      const moments = Array.from({ length }, nextMoment);
      const runs = await Promise.all(
        moments.map(async (moment) => {
          const folder = makeTempDir('kill');
          fs.cpSync(original, folder, { recursive: true });
          return { moment, folder, outcome: await runFor(killCase.argv, folder, moment) };
        }),
      );
      for (const { moment, folder, outcome } of runs) {
        const { wasKilled } = outcome;
        if (!wasKilled) whole = outcome;
        report[wasKilled ? 'killed' : 'ended']++;
        const { fault, isMidway } = await judged.judge(folder, wasKilled);
        if (isMidway) report.midway++;
        report.states = judged.count;
        const when = wasKilled
          ? `killed ${moment?.milliseconds} ms after ${moment?.after}`
          : 'ended';
        if (fault !== undefined)
          report.failure ??= `'${killCase.name}', seed ${seed}, ${when}: ${fault}`;
        removeTempDir(folder);
      }
    }
    return report;
  } finally {
    removeTempDir(original);
  }
}

/** Judges every state of the files once: that a command is killed early leaves the same ones each time. */
class JudgedStates {
  readonly #case: KillCase;
  readonly #sound = new Set<string>();
  /** Files before a run, and after the runs that ended. */
  readonly #settled = new Set<string>();

  constructor(killCase: KillCase) {
    this.#case = killCase;
  }

  /** States found sound. */
  get count(): number {
    return this.#sound.size;
  }

  begin(folder: string): void {
    this.#settled.add(digestOf(folder));
  }

  async judge(
    folder: string,
    wasKilled: boolean,
  ): Promise<{ fault: string | undefined; isMidway: boolean }> {
    const digest = digestOf(folder);
    if (!wasKilled) this.#settled.add(digest);
    const isMidway = !this.#settled.has(digest);
    const state = `${wasKilled} ${digest}`;
    if (this.#sound.has(state)) return { fault: undefined, isMidway };
    const fault = await this.#case.judge(folder, !wasKilled);
    if (fault === undefined) this.#sound.add(state);
    return { fault, isMidway };
  }
}

/** Runs the command in a folder, till a moment at most. */
function runFor(
  argv: readonly string[],
  cwd: string,
  moment: Moment | undefined,
): Promise<Outcome> {
  let changed: number | undefined;
  let timer: NodeJS.Timeout | undefined;
  const killAfter = (event: Moment['after']): void => {
    if (moment?.after !== event) return;
    timer = setTimeout(() => child.kill('SIGKILL'), moment.milliseconds);
  };
  const watcher = fs.watch(cwd, () => {
    if (changed !== undefined) return;
    changed = performance.now();
    killAfter('change');
  });
  const started = performance.now();
  const child = spawn(process.execPath, [MAIN, ...argv], {
    cwd,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  killAfter('start');
  let stderr = '';
  child.stderr.on('data', (text) => {
    stderr += text;
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status, signal) => {
      clearTimeout(timer);
      watcher.close();
      const wasKilled = signal === 'SIGKILL';
      if (!wasKilled && status !== 0) {
        reject(new Error(`${argv.join(' ')} ended with status ${status}: ${stderr}`));
        return;
      }
      const now = performance.now();
      resolve({ milliseconds: now - started, changing: now - (changed ?? now), wasKilled });
    });
  });
}

/** Files of a folder as a crash state has them. */
export function filesOf(folder: string): Map<string, Uint8Array> {
  const names = fs.readdirSync(folder).sort();
  return new Map(names.map((name) => [name, fs.readFileSync(path.join(folder, name))]));
}

/** Tells states apart; names made up for what is not whole do not count. */
function digestOf(folder: string): string {
  const hash = createHash('sha1');
  for (const [name, bytes] of filesOf(folder))
    hash
      .update(name.startsWith('.') ? '.' : name)
      .update(`/${bytes.length}/`)
      .update(bytes);
  return hash.digest('hex');
}
