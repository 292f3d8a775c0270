import { isQcow2Error, Qcow2Error } from '../../errors.ts';
import { compareFiles } from '../../workers/compare-files.ts';
import type { Arguments } from '../arguments.ts';
import { CACHE_MODES } from '../cache-modes.ts';
import { inputImage, knownFormat } from '../common-options.ts';
import type { Context } from '../context.ts';
import { parseImageOptions } from '../image-options.ts';
import { compareText } from '../print-compare.ts';
import { Progress } from '../progress.ts';

/** Exit statuses of qemu-img compare. */
const IDENTICAL = 0;
const DIFFERENT = 1;
const NOT_OPENED = 2;
const NOT_MAPPED = 3;
const NOT_READ = 4;

/** `qcow2 compare`: whether two images show the same disk. */
export async function run(args: Arguments<'compare'>, context: Context): Promise<number> {
  const quiet = args.has('quiet');
  const progress = new Progress(args.has('progress') && !quiet ? context.write : undefined);
  const stopReporting = context.onProgressRequest(() => context.writeError(`${progress.line()}\n`));
  let isOpen = false;
  try {
    const result = await compareFiles({
      ...comparison(args),
      strict: args.has('strict'),
      blocking: true,
      signal: context.interruptible(),
      onOpen: () => {
        isOpen = true;
      },
      onProgress: (done, total) => progress.update(done, total),
    });
    if (!quiet) context.write(compareText(result));
    return result.identical ? IDENTICAL : DIFFERENT;
  } catch (error) {
    if (!isQcow2Error(error) || error.code === 'ABORTED') throw error;
    context.writeError(`qcow2: ${error.message}\n`);
    return isOpen ? failureStatus(error) : NOT_OPENED;
  } finally {
    stopReporting();
    progress.end(false);
  }
}

function comparison(args: Arguments<'compare'>) {
  args.choice('source-cache', CACHE_MODES);
  const [firstOperand = '', secondOperand = ''] = args.operands;
  const { allowExternal, share, sync: _, ...first } = inputImage(args, firstOperand);
  const format = args.value('second-format');
  if (format !== undefined && args.has('image-opts'))
    throw new Qcow2Error('INVALID_ARGUMENT', '--image-opts and -F exclude each other');
  const second = args.has('image-opts')
    ? parseImageOptions(secondOperand)
    : { path: secondOperand, ...(format !== undefined && { format: knownFormat(format) }) };
  return { inputs: [first, second] as const, allowExternal, share };
}

/** Tells failing to find where data are from failing to read them. */
function failureStatus({ code, details }: Qcow2Error): number {
  const isTable = details.structure === 'L1 entry' || details.structure === 'L1 table';
  return code === 'BAD_ENTRY' || isTable ? NOT_MAPPED : NOT_READ;
}
