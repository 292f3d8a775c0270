import { linkSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { makeContent } from '../support/data.ts';
import { makeLimiter } from '../support/limit.ts';
import { describeRun, type RunResult, run } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { MIXED, makeSources, ODD_SOURCES } from './targets.ts';
import { requireOracle, subject } from './tools.ts';

/** A raw backing file with other content than any source has. */
export const BASE = 'base.raw';

/** A run's folder with all sources, and folders for single cases below it. */
export class Workshop {
  readonly root: string;
  readonly #limit = makeLimiter(2);
  #cases = 0;

  constructor(label: string) {
    this.root = makeTempDir(label);
  }

  /** Makes the sources. @throws Error when there is no oracle or no build. */
  async open(): Promise<void> {
    await requireOracle(this.root);
    makeSources(this.root);
    writeFileSync(join(this.root, BASE), makeContent('text', 3 << 20, 61));
  }

  close(): void {
    removeTempDir(this.root);
  }

  /** Runs one case, two at a time, in a folder that holds all sources and goes away afterwards. */
  inFolder(work: (dir: string) => Promise<void>): Promise<void> {
    return this.#limit(async () => {
      this.#cases += 1;
      const dir = join(this.root, `case-${this.#cases}`);
      mkdirSync(dir);
      for (const file of [BASE, MIXED.file, ...ODD_SOURCES.map((source) => source.file)]) {
        linkSync(join(this.root, file), join(dir, file));
      }
      await work(dir);
      removeTempDir(dir);
    });
  }
}

/** Runs the command under test, which must succeed and have nothing to complain of. */
export async function succeed(args: readonly string[], dir: string): Promise<RunResult> {
  const result = await subject(args, dir);
  expect(result.status, describeRun(result)).toBe(0);
  expect(result.stderr, describeRun(result)).toBe('');
  return result;
}

/** Runs the command under test, which must end with status 1 and a reason, not a stack trace. */
export async function fail(args: readonly string[], dir: string): Promise<RunResult> {
  const result = await subject(args, dir);
  expect(result.status, describeRun(result)).toBe(1);
  expect(result.stderr, describeRun(result)).toMatch(/\S/);
  expect(result.stderr, describeRun(result)).not.toMatch(/\n\s+at /);
  return result;
}

/** {@link fail} in the manner of this tool: the reason is one line. Returns it. */
export async function failInOneLine(args: readonly string[], dir: string): Promise<string> {
  const result = await fail(args, dir);
  expect(result.stderr, describeRun(result)).toMatch(/^[^\n]+\n$/);
  return result.stderr;
}

/** What `qemu-img check` counts; a count of 0 is left out by some versions. */
export interface CheckReport {
  readonly 'total-clusters'?: number;
  readonly 'allocated-clusters'?: number;
  readonly 'compressed-clusters'?: number;
}

/** `qemu-img check` must find neither corruptions nor leaks; returns its counts. */
export async function expectClean(image: string, dir: string): Promise<CheckReport> {
  const result = await run('qemu-img', ['check', '--output=json', '-f', 'qcow2', image], dir);
  expect(result.status, describeRun(result)).toBe(0);
  const report = JSON.parse(result.stdout);
  const { corruptions = 0, leaks = 0, 'check-errors': errors } = report;
  expect({ corruptions, leaks, errors }).toEqual({ corruptions: 0, leaks: 0, errors: 0 });
  return report;
}

/** `qemu-img compare` must find the same bytes; beyond the shorter disk's end it accepts zeros. */
export async function expectSame(
  [leftFormat, left]: readonly [string, string],
  [rightFormat, right]: readonly [string, string],
  dir: string,
): Promise<void> {
  const args = ['compare', '-f', leftFormat, '-F', rightFormat, left, right];
  const result = await run('qemu-img', args, dir);
  expect(result.status, describeRun(result)).toBe(0);
}
