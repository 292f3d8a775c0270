import type { Context } from '../../src/cli/context.ts';
import { runCommandLine } from '../../src/cli/run.ts';

/** How a command line ended and what it printed. */
export interface Outcome {
  status: number;
  stdout: string;
  stderr: string;
}

/** Runs a command line in this process. */
export async function qcow2(...argv: string[]): Promise<Outcome> {
  const outcome: Outcome = { status: 0, stdout: '', stderr: '' };
  const context: Context = {
    write: (text) => {
      outcome.stdout += text;
    },
    writeError: (text) => {
      outcome.stderr += text;
    },
    imageOutput: () => ({
      isTerminal: false,
      write: async (bytes) => {
        outcome.stdout += Buffer.from(bytes).toString('latin1');
      },
    }),
    drained: () => Promise.resolve(),
    interruptible: () => new AbortController().signal,
    onProgressRequest: () => () => {},
  };
  outcome.status = await runCommandLine(argv, context);
  return outcome;
}
