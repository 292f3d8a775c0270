import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { amplifiers } from './fixtures/amplification.ts';

/** What `measure.mjs` prints for a command. */
interface Measured {
  status: number;
  said: string;
  printed: number;
  /** Of processor time. */
  seconds: number;
  /** Added to the largest resident size. */
  kibibytes: number;
}

/** A process that runs command lines one after the other. */
class Measurer {
  readonly #child = spawn(process.execPath, [path.join(import.meta.dirname, 'measure.mjs')], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  readonly #lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();

  async run(command: readonly string[]): Promise<Measured> {
    this.#child.stdin.write(`${JSON.stringify(command)}\n`);
    const { done, value } = await this.#lines.next();
    if (done) throw new Error(`the process ended at ${command.join(' ')}`);
    return JSON.parse(value) as Measured;
  }

  stop(): void {
    this.#child.stdin.end();
  }
}

let measurer: Measurer;
beforeAll(() => {
  measurer = new Measurer();
});
afterAll(() => measurer.stop());

// The largest memory of a process never shrinks: those that may take most come last.
const byMemory = [...amplifiers].sort((a, b) => (a.mebibytes ?? 0) - (b.mebibytes ?? 0));

describe('small files that ask for much', () => {
  it.each(byMemory.map((amplifier) => [amplifier.name, amplifier] as const))(
    '%s',
    { timeout: 120_000 },
    async (name, { commands, write, mebibytes = 100, seconds = 2 }) => {
      const folder = makeTempDir('amplification');
      try {
        const image = path.join(folder, 'image');
        const target = path.join(folder, 'target');
        write(image);
        for (const words of commands) {
          const operands = words[0] === 'convert' ? [image, target] : [image];
          const measured = await measurer.run([...words, ...operands]);
          requireOutcome(measured, name, { mebibytes, seconds });
        }
        const left = fs.readdirSync(folder).filter((file) => file !== 'target');
        expect(left).toEqual(['image']);
      } finally {
        removeTempDir(folder);
      }
    },
  );
});

function requireOutcome(
  { status, said, seconds, kibibytes }: Measured,
  name: string,
  most: { mebibytes: number; seconds: number },
): void {
  const [, outcome = ''] = name.split(' → ');
  if (outcome === 'WORKS') {
    expect([status, said]).toEqual([0, '']);
  } else {
    expect(status).toBe(1);
    expect(said).toMatch(/^qcow2: [^\n]+\n$/);
    expect(said).toContain(outcome);
  }
  expect(seconds, 'seconds of processor time').toBeLessThan(most.seconds);
  expect(kibibytes / 1024, 'mebibytes').toBeLessThan(most.mebibytes);
}
