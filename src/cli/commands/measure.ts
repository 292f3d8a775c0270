import { Qcow2Error } from '../../errors.ts';
import { openChain } from '../../node/open-image.ts';
import { type MeasureOptions, type MeasureResult, measure } from '../../operations/measure.ts';
import { type Arguments, asksForOptionList } from '../arguments.ts';
import { inputImage, knownFormat } from '../common-options.ts';
import type { Context } from '../context.ts';
import { CreateOptionValues, createOptionsHelp } from '../create-options.ts';
import { measureJson, measureText } from '../print-measure.ts';
import { parseSize } from '../sizes.ts';
import { snapshotQuery } from '../snapshot-query.ts';

/** `qcow2 measure`: how much space a new image takes. */
export async function run(args: Arguments<'measure'>, context: Context): Promise<number> {
  const style = args.choice('output', ['human', 'json']);
  const format = knownFormat(args.value('target-format') ?? 'raw');
  if (asksForOptionList(args.values('options'))) {
    context.write(createOptionsHelp(format));
    return 0;
  }
  requireConsistent(args);
  const { size: _, ...create } = new CreateOptionValues(format, args.values('options')).settings();
  const result = await measured(args, { format, create }, context);
  context.write(style === 'json' ? measureJson(result) : measureText(result));
  return 0;
}

async function measured(
  args: Arguments<'measure'>,
  options: MeasureOptions,
  context: Context,
): Promise<MeasureResult> {
  const size = args.value('size');
  if (size !== undefined) return measure(parseSize(size, 'image size'), options);
  const { path, ...input } = inputImage(args, args.operands[0] ?? '');
  const snapshot = args.value('snapshot');
  const image = await openChain(path, {
    ...input,
    holdLocks: false,
    ...(snapshot !== undefined && { snapshot: snapshotQuery(snapshot) }),
  });
  try {
    return await measure(image, { ...options, signal: context.interruptible() });
  } finally {
    await image.close();
  }
}

function requireConsistent(args: Arguments<'measure'>): void {
  const isFile = args.operands.length > 0;
  if (args.has('size') && isFile) throw invalid('--size N and a file exclude each other');
  if (!isFile && (args.has('format') || args.has('snapshot') || args.has('image-opts')))
    throw invalid('--image-opts, -f and -l need a file');
  if (!args.has('size') && !isFile) throw invalid('either --size N or a file is needed');
}

function invalid(message: string): Qcow2Error {
  return new Qcow2Error('INVALID_ARGUMENT', message);
}
