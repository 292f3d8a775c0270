import { Qcow2Error } from '../../errors.ts';
import type { Arguments } from '../arguments.ts';
import { completionScript, SHELLS } from '../completions.ts';
import type { Context } from '../context.ts';

/** `qcow2 completion SHELL`: the completion script of a shell. */
export async function run(args: Arguments<'completion'>, context: Context): Promise<number> {
  const [wanted] = args.operands;
  const shell = SHELLS.find((candidate) => candidate === wanted);
  if (shell === undefined)
    throw new Qcow2Error('INVALID_ARGUMENT', `'${wanted}' is not one of ${SHELLS.join(', ')}`);
  context.write(completionScript(shell));
  return 0;
}
