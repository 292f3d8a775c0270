import { Qcow2Error } from '../../errors.ts';
import { rebaseFile } from '../../node/rebase-file.ts';
import type { NewBacking } from '../../operations/rebase.ts';
import type { Arguments } from '../arguments.ts';
import { CACHE_MODES } from '../cache-modes.ts';
import { inputImage } from '../common-options.ts';
import type { Context } from '../context.ts';
import { Progress } from '../progress.ts';

/** `qcow2 rebase`: an overlay gets another backing file. */
export async function run(args: Arguments<'rebase'>, context: Context): Promise<number> {
  const unsafe = args.has('unsafe');
  if (!unsafe && !args.has('backing-file'))
    throw invalid('Must specify backing file (-b) or use unsafe mode (-u)');
  args.choice('cache', CACHE_MODES);
  args.choice('source-cache', CACHE_MODES);
  const input = inputImage(args, args.operands[0] ?? '');
  const backing = newBacking(args);
  const shown = args.has('progress') && !args.has('quiet');
  const progress = new Progress(shown ? context.write : undefined);
  const stopReporting = context.onProgressRequest(() => context.writeError(`${progress.line()}\n`));
  let succeeded = false;
  try {
    const { snapshots } = await rebaseFile({
      ...input,
      backing,
      unsafe,
      signal: context.interruptible(),
      onProgress: (done, total) => progress.update(done, total),
    });
    succeeded = true;
    if (snapshots > 0 && !unsafe) context.writeError(SNAPSHOTS);
  } finally {
    stopReporting();
    progress.end(succeeded);
  }
  return 0;
}

const SNAPSHOTS =
  'qcow2: warning: internal snapshots show the new backing file where they hold nothing themselves\n';

/** `-b` and `-F`; an empty name is none. */
function newBacking(args: Arguments<'rebase'>): NewBacking | undefined {
  const name = args.value('backing-file') ?? '';
  const format = args.value('backing-format');
  if (format !== undefined && format !== 'qcow2' && format !== 'raw')
    throw invalid(`Invalid format name: '${format}'`);
  if (name === '') return undefined;
  if (format !== undefined) return { name, format };
  throw invalid(
    `Could not change the backing file to '${name}': backing format must be specified (-F)`,
  );
}

function invalid(text: string): Qcow2Error {
  return new Qcow2Error('INVALID_ARGUMENT', text);
}
