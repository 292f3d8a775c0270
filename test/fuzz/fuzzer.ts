import * as fs from 'node:fs';
import * as path from 'node:path';
import type { KernelBackend } from '../../src/kernel/kernel.ts';
import { examine } from './invariants.ts';
import { type Mutant, mutate, type Subject } from './mutate.ts';
import { Random } from './random.ts';

/** The mutant of one run: the same for the same seed, run and subjects. */
export function mutantOf(subjects: readonly Subject[], seed: number, run: number): Mutant {
  const random = new Random(seed, run);
  return mutate(random.pick(subjects), random);
}

/** A broken rule, and how to see it again. */
export interface Failure {
  readonly seed: number;
  readonly run: number;
  readonly mutant: Mutant;
  readonly error: unknown;
}

/** How long to fuzz and from where. */
export interface FuzzOptions {
  readonly seed: number;
  readonly firstRun: number;
  readonly runs: number;
  readonly onProgress?: (run: number) => void;
}

/** Which kernel reads an image again; the one in TypeScript is the slowest to make. */
function again(run: number): KernelBackend | undefined {
  if (run % 4 !== 0) return undefined;
  if (run % 32 === 0) return 'js';
  return run % 8 === 0 ? 'wasm-simd' : 'wasm';
}

/** Examines mutants until a rule is broken. Returns the failure, and how often each end was met. */
export async function fuzz(
  subjects: readonly Subject[],
  { seed, firstRun, runs, onProgress }: FuzzOptions,
): Promise<{ failure: Failure | undefined; counts: Map<string, number> }> {
  const counts = new Map<string, number>();
  for (let run = firstRun; run < firstRun + runs; run++) {
    const mutant = mutantOf(subjects, seed, run);
    try {
      const outcome = await examine(mutant, {
        again: again(run),
        check: run % 32 === 3,
        convert: run % 32 === 1,
      });
      const end = 'code' in outcome ? outcome.code : 'read';
      counts.set(end, (counts.get(end) ?? 0) + 1);
    } catch (error) {
      return { failure: { seed, run, mutant, error }, counts };
    }
    if (run % 1000 === 0) onProgress?.(run);
  }
  return { failure: undefined, counts };
}

/** Writes the image of a failure and the files it names into a folder; returns the text to print. */
export function report({ seed, run, mutant, error }: Failure, folder: string): string {
  fs.mkdirSync(folder, { recursive: true });
  const file = path.join(folder, `seed-${seed}-run-${run}.qcow2`);
  fs.writeFileSync(file, mutant.bytes);
  for (const [name, bytes] of mutant.files) fs.writeFileSync(path.join(folder, name), bytes);
  const what = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return `seed ${seed}, run ${run}: ${mutant.description}\nsaved as ${file}\n${what}`;
}
