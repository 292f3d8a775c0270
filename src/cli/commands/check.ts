import { isQcow2Error } from '../../errors.ts';
import { fileResolver, openNamed } from '../../node/open-image.ts';
import { openStorage } from '../../node/open-storage.ts';
import { type CheckResult, check } from '../../operations/check.ts';
import { shownName } from '../../storage/http-url.ts';
import type { Arguments } from '../arguments.ts';
import { inputImage } from '../common-options.ts';
import type { Context } from '../context.ts';
import { checkJson, checkText, findingLines } from '../print-check.ts';

/** Lines printed about single findings at most. */
const MAX_LINES = 100_000;

/** Exit statuses of qemu-img check: 1 also stands for every error. */
const SOUND = 0;
const INCOMPLETE = 1;
const CORRUPT = 2;
const LEAKS = 3;
const NO_CHECK = 63;

/** `qcow2 check`: whether an image's metadata are consistent. */
export async function run(args: Arguments<'check'>, context: Context): Promise<number> {
  const style = args.choice('output', ['human', 'json']);
  const input = inputImage(args, args.operands[0] ?? '');
  const { path, allowExternal, sync, share } = input;
  const options = { sync, share };
  const storage = await openStorage(path, options);
  const given = await openNamed(input, options, storage);
  try {
    const resolver = fileResolver(path, allowExternal, options);
    const result = await check(storage, { ...given, resolver, maxFindings: MAX_LINES });
    for (const line of findingLines(result)) context.writeError(line);
    if (!args.has('quiet')) {
      context.write(style === 'json' ? checkJson(result, shownName(path)) : checkText(result));
    }
    if (result.checkErrors > 0) context.writeError('qcow2: Check failed\n');
    return statusOf(result);
  } catch (error) {
    if (!hasNoCheck(error)) throw error;
    context.writeError('qcow2: This image format does not support checks\n');
    return NO_CHECK;
  } finally {
    await storage.close();
  }
}

/** Data that cannot be read counts as corruption here, though qemu-img does not look for it. */
function statusOf({ checkErrors, corruptions, refusals, leaks }: CheckResult): number {
  if (checkErrors > 0) return INCOMPLETE;
  if (corruptions > 0 || refusals > 0) return CORRUPT;
  return leaks > 0 ? LEAKS : SOUND;
}

function hasNoCheck(error: unknown): boolean {
  return isQcow2Error(error) && error.details.structure === 'image format';
}
