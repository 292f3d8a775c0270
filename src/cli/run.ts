import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { isQcow2Error, printable, Qcow2Error } from '../errors.ts';
import { writesWithoutLocks } from '../storage/file.ts';
import { prepareLockCheck } from '../storage/file-locks.ts';
import { type Arguments, parseArguments } from './arguments.ts';
import type { Context } from './context.ts';
import { generalHelp, verbHelp } from './help.ts';
import type { VerbSpec } from './option-specs.ts';
import { isVerb, type OptionName, VERBS, type VerbName } from './options.ts';

/** A module of `commands/`: does one verb and returns the exit status. */
interface Command<V extends VerbName> {
  run(args: Arguments<V>, context: Context): Promise<number>;
}

/** Commands load when they are asked for, so that `info` does not wait for the converter. */
const COMMANDS: { readonly [V in VerbName]: () => Promise<Command<V>> } = {
  info: () => import('./commands/info.ts'),
  map: () => import('./commands/map.ts'),
  check: () => import('./commands/check.ts'),
  create: () => import('./commands/create.ts'),
  convert: () => import('./commands/convert.ts'),
  compare: () => import('./commands/compare.ts'),
  measure: () => import('./commands/measure.ts'),
  dd: () => import('./commands/dd.ts'),
  bench: () => import('./commands/bench.ts'),
  resize: () => import('./commands/resize.ts'),
  snapshot: () => import('./commands/snapshot.ts'),
  amend: () => import('./commands/amend.ts'),
  bitmap: () => import('./commands/bitmap.ts'),
  rebase: () => import('./commands/rebase.ts'),
  commit: () => import('./commands/commit.ts'),
  adopt: () => import('./commands/adopt.ts'),
  batch: () => import('./commands/batch.ts'),
  worker: () => import('./commands/worker.ts'),
  queue: () => import('./commands/queue.ts'),
  completion: () => import('./commands/completion.ts'),
};

/**
 * Does what a command line says and returns the exit status: 0, or 1 after an error, which is
 * printed on one line. Never throws.
 * @param argv without the program's name
 */
export async function runCommandLine(argv: readonly string[], context: Context): Promise<number> {
  try {
    return await dispatch(argv, context);
  } catch (error) {
    context.writeError(errorLine(error));
    return 1;
  }
}

async function dispatch(argv: readonly string[], context: Context): Promise<number> {
  const [verb, ...rest] = argv;
  if (verb === '-h' || verb === '--help') {
    context.write(generalHelp());
    return 0;
  }
  if (verb === '-V' || verb === '--version') {
    context.write(`qcow2 version ${version()}\n`);
    return 0;
  }
  if (verb === undefined) throw usageError('a verb is needed');
  if (!isVerb(verb)) throw usageError(`unknown verb '${verb}'`);
  return runVerb(verb, rest, context);
}

async function runVerb<V extends VerbName>(
  verb: V,
  argv: readonly string[],
  context: Context,
): Promise<number> {
  const args = parse(verb, argv);
  if (args === null) {
    context.write(verbHelp(verb));
    return 0;
  }
  const spec: VerbSpec = VERBS[verb];
  if (checksLocks(verb, args)) prepareLockCheck(!spec.looksOnly);
  if (verb === 'batch' && startsThreads(args as unknown as Arguments<'batch'>))
    (await import('../batch/start-worker.ts')).prepareJobWorker();
  const command = await COMMANDS[verb]();
  try {
    return await command.run(args, context);
  } finally {
    if (writesWithoutLocks() && !args.has('quiet' as OptionName<V>))
      context.writeError(UNLOCKED_WARNING);
  }
}

/** Once, and not with `-q`. */
const UNLOCKED_WARNING =
  'qcow2: warning: other programs could not see that the image was being written: image locks need Linux and the optional package koffi\n';

/** Whether files will be opened, unless another program has locked them. */
function checksLocks<V extends VerbName>(verb: V, args: Arguments<V>): boolean {
  if (verb === 'completion' || verb === 'queue' || args.operands.length === 0) return false;
  return !args.has('force-share' as OptionName<V>);
}

/** Whether there will be a batch for which a thread besides this one is started. */
function startsThreads(args: Arguments<'batch'>): boolean {
  if (args.operands.length === 0 || args.has('queue')) return false;
  if (args.has('jobs') || args.has('memory')) return false;
  return availableParallelism() > 1;
}

/** Parses, and says in an error where the options are explained. */
function parse<V extends VerbName>(verb: V, argv: readonly string[]): Arguments<V> | null {
  try {
    return parseArguments(verb, argv);
  } catch (error) {
    throw isQcow2Error(error) ? usageError(error.message, verb) : error;
  }
}

function usageError(message: string, verb?: VerbName): Qcow2Error {
  const help = `qcow2 ${verb === undefined ? '' : `${verb} `}--help`;
  return new Qcow2Error('INVALID_ARGUMENT', `${message} (see '${help}')`);
}

/** An error as the line people and scripts read. */
export function errorLine(error: unknown): string {
  const text = isQcow2Error(error) ? error.message : `internal error: ${error}`;
  return `qcow2: ${printable(withoutPasswords(text.trimEnd()))}\n`;
}

/** A URL that was given where none belongs is part of the error. */
function withoutPasswords(text: string): string {
  return text.replace(/\b([a-z][a-z0-9+.-]*:\/\/)[^\s']*@/gi, '$1***@');
}

function version(): string {
  const file = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
