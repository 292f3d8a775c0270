import { type ChildProcess, spawn } from 'node:child_process';
import { copyFileSync, readdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { BatchEvent } from '../../src/batch/events.ts';
import { run } from '../support/run.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** Worker threads need a built package: makes one in a folder of its own. Returns its `dist`. */
export async function buildPackage(folder: string): Promise<string> {
  const dist = join(folder, 'dist');
  // Types are checked elsewhere: what can be emitted is enough here.
  await run(join(ROOT, 'node_modules/.bin/tsc'), ['-p', '.', '--outDir', dist], ROOT);
  copyFileSync(join(ROOT, 'package.json'), join(folder, 'package.json'));
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  return dist;
}

/** How a process ended and what it printed. */
export interface Ended {
  status: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** Starts a script of the built package with Node. */
export function startNode(args: readonly string[], cwd: string): ChildProcess {
  const child = spawn(process.execPath, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  child.stdout.setEncoding('utf8');
  child.stderr.setEncoding('utf8');
  return child;
}

export function ended(child: ChildProcess): Promise<Ended> {
  const texts = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name]?.on('data', (text: string) => {
      texts[name] += text;
    });
  return new Promise((resolve) => {
    child.on('close', (status, signal) => resolve({ status, signal, ...texts }));
  });
}

/** The events of `--log=json`: every line must be a whole JSON object. */
export function eventsOf(stdout: string): BatchEvent[] {
  if (!stdout.endsWith('\n')) throw new Error(`the last line has no end: ${stdout.slice(-80)}`);
  return stdout
    .slice(0, -1)
    .split('\n')
    .map((line) => JSON.parse(line) as BatchEvent);
}

/** Names in a folder, hidden ones too, in order. */
export function namesIn(folder: string): string[] {
  return readdirSync(folder).sort();
}
