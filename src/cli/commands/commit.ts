import { commitFile } from '../../node/commit-file.ts';
import type { Arguments } from '../arguments.ts';
import { CACHE_MODES } from '../cache-modes.ts';
import { inputImage } from '../common-options.ts';
import type { Context } from '../context.ts';
import { Progress } from '../progress.ts';
import { parseSize } from '../sizes.ts';

/** `qcow2 commit`: an overlay goes into a file below it. */
export async function run(args: Arguments<'commit'>, context: Context): Promise<number> {
  args.choice('cache', CACHE_MODES);
  const rate = args.value('rate-limit');
  if (rate !== undefined) parseSize(rate, 'rate limit');
  const quiet = args.has('quiet');
  const { share: _, ...input } = inputImage(
    {
      value: (name) => args.value(name),
      values: (name) => args.values(name),
      has: (name) => name === 'image-opts' && args.has(name),
    },
    args.operands[0] ?? '',
  );
  const progress = new Progress(args.has('progress') && !quiet ? context.write : undefined);
  const stopReporting = context.onProgressRequest(() => context.writeError(`${progress.line()}\n`));
  let succeeded = false;
  try {
    await commitFile({
      ...input,
      base: args.value('base'),
      keep: args.has('keep'),
      signal: context.interruptible(),
      onProgress: (done, total) => progress.update(done, total),
    });
    succeeded = true;
  } finally {
    stopReporting();
    progress.end(succeeded);
  }
  if (!quiet) context.write('Image committed.\n');
  return 0;
}
