import { Qcow2Error } from '../../errors.ts';
import { openChain } from '../../node/open-image.ts';
import { amend } from '../../operations/amend.ts';
import { amendOptionsHelp, parseAmendOptions } from '../amend-options.ts';
import { type Arguments, asksForOptionList } from '../arguments.ts';
import { CACHE_MODES } from '../cache-modes.ts';
import { inputImage } from '../common-options.ts';
import type { Context } from '../context.ts';
import { Progress } from '../progress.ts';

/** `qcow2 amend`: changes options of an image. */
export async function run(args: Arguments<'amend'>, context: Context): Promise<number> {
  const lists = args.values('options');
  if (lists.length === 0) throw new Qcow2Error('INVALID_ARGUMENT', 'Must specify options (-o)');
  if (asksForOptionList(lists)) {
    context.write(amendOptionsHelp());
    return 0;
  }
  args.choice('cache', CACHE_MODES);
  const { path, ...input } = inputImage(
    {
      value: (name) => args.value(name),
      values: (name) => args.values(name),
      has: (name) => name === 'image-opts' && args.has(name),
    },
    args.operands[0] ?? '',
  );
  const options = parseAmendOptions(lists);
  const shown = args.has('progress') && !args.has('quiet');
  const progress = new Progress(shown ? context.write : undefined);
  let succeeded = false;
  try {
    const image = await openChain(path, { ...input, writable: true });
    try {
      const signal = context.interruptible();
      const onProgress = (done: number, total: number): void => progress.update(done, total);
      await amend(image, { ...options, signal, onProgress });
    } catch (error) {
      // What cannot be closed after an error fails for the same reason.
      await image.close().catch(() => undefined);
      throw error;
    }
    await image.close();
    succeeded = true;
  } finally {
    progress.end(succeeded);
  }
  return 0;
}
