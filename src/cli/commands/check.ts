import { isQcow2Error, printable, Qcow2Error } from '../../errors.ts';
import { fileResolver, openNamed } from '../../node/open-image.ts';
import { openUnpacked } from '../../node/open-unpacked.ts';
import { type CheckResult, check } from '../../operations/check.ts';
import { type RepairMode, type RepairResult, repair } from '../../operations/repair.ts';
import { couldNotOpen, shownName } from '../../storage/http-url.ts';
import type { Arguments } from '../arguments.ts';
import { inputImage } from '../common-options.ts';
import type { Context } from '../context.ts';
import { checkJson, checkText, findingLines, repairText } from '../print-check.ts';

/** Lines printed about single findings at most. */
const MAX_LINES = 100_000;

/** Exit statuses of qemu-img check: 1 also stands for every error. */
const SOUND = 0;
const INCOMPLETE = 1;
const CORRUPT = 2;
const LEAKS = 3;
const NO_CHECK = 63;

/** Codes of errors that an image ends with before it is checked. */
const OPENING: ReadonlySet<string> = new Set([
  'NOT_QCOW2',
  'UNSUPPORTED',
  'MALFORMED',
  'TOO_LARGE',
]);

/** `qcow2 check`: whether an image's metadata are consistent; `-r` repairs them. */
export async function run(args: Arguments<'check'>, context: Context): Promise<number> {
  const style = args.choice('output', ['human', 'json']);
  const mode = repairMode(args);
  const input = inputImage(args, args.operands[0] ?? '');
  const { path, allowExternal, sync, share } = input;
  if (mode !== undefined && share)
    throw new Qcow2Error('INVALID_ARGUMENT', '-U and -r exclude each other');
  const files = { sync, share };
  const how = { ...files, mode: mode === undefined ? 'r' : 'r+' } as const;
  const storage = await openUnpacked(path, input.format, how);
  const given = await openNamed(input, files, storage);
  const shown = { style, path: shownName(path), quiet: args.has('quiet') };
  try {
    const resolver = fileResolver(path, allowExternal, files);
    const options = { ...given, resolver, maxFindings: MAX_LINES };
    if (mode === undefined) return print(await check(storage, options), shown, context);
    const signal = context.interruptible();
    return printRepair(await repair(storage, { ...options, mode, signal }), shown, context);
  } catch (error) {
    if (!hasNoCheck(error)) throw isOfOpening(error) ? couldNotOpen(error, path) : error;
    context.writeError('qcow2: This image format does not support checks\n');
    return NO_CHECK;
  } finally {
    await storage.close();
  }
}

function repairMode(args: Arguments<'check'>): RepairMode | undefined {
  const value = args.value('repair');
  if (value === undefined || value === 'leaks' || value === 'all') return value;
  const text = `--repair expects 'leaks' or 'all', not '${value}'`;
  throw new Qcow2Error('INVALID_ARGUMENT', text);
}

/** How a result is printed. */
interface Output {
  readonly style: 'human' | 'json';
  readonly path: string;
  readonly quiet: boolean;
}

function printRepair(repaired: RepairResult, output: Output, context: Context): number {
  const { before, after, repairs, repairsOmitted, unrepaired, needsAll } = repaired;
  if (before !== after || needsAll)
    for (const line of findingLines(before)) context.writeError(line);
  for (const line of repairs) context.writeError(`${printable(line)}\n`);
  if (repairsOmitted > 0) context.writeError(`${repairsOmitted} further repairs are not shown\n`);
  const reasons = unrepaired.map((line) => `${printable(line)}\n`);
  if (needsAll) {
    context.writeError(`qcow2: Check failed: ${reasons.join('')}`);
    return INCOMPLETE;
  }
  const isChanged = repaired.leaksFixed > 0 || repaired.corruptionsFixed > 0;
  if (isChanged && output.style === 'human' && !output.quiet) context.write(repairText(repaired));
  const status = print(after, output, context, repaired);
  for (const reason of reasons) context.writeError(reason);
  return status;
}

function print(
  result: CheckResult,
  { style, path, quiet }: Output,
  context: Context,
  repaired?: RepairResult,
): number {
  for (const line of findingLines(result)) context.writeError(line);
  if (!quiet)
    context.write(style === 'json' ? checkJson(result, path, repaired) : checkText(result));
  if (result.checkErrors > 0) context.writeError('qcow2: Check failed\n');
  return statusOf(result);
}

/** Data that cannot be read counts as corruption here, though qemu-img does not look for it. */
function statusOf({ checkErrors, corruptions, refusals, leaks }: CheckResult): number {
  if (checkErrors > 0) return INCOMPLETE;
  if (corruptions > 0 || refusals > 0) return CORRUPT;
  return leaks > 0 ? LEAKS : SOUND;
}

/** What is wrong with a header says nothing of the file; with tables it does, in other words. */
function isOfOpening(error: unknown): boolean {
  return isQcow2Error(error) && OPENING.has(error.code);
}

function hasNoCheck(error: unknown): boolean {
  return isQcow2Error(error) && error.details.structure === 'image format';
}
