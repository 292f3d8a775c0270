import { printable, Qcow2Error } from '../../errors.ts';
import type { OperationControl } from '../../operations/control.ts';
import type { BitmapCopying } from '../../operations/copy-bitmaps.ts';
import type { ReadableOptions } from '../../operations/stream.ts';
import { convertFile } from '../../workers/convert-file.ts';
import { type Arguments, asksForOptionList } from '../arguments.ts';
import { CACHE_MODES } from '../cache-modes.ts';
import { inputImage, inputOptions, knownFormat } from '../common-options.ts';
import type { Context } from '../context.ts';
import { CreateOptionValues, createOptionsHelp } from '../create-options.ts';
import { Progress } from '../progress.ts';
import { parseSize, parseWholeNumber } from '../sizes.ts';
import { snapshotQuery } from '../snapshot-query.ts';
import { convertToStdout } from './convert-stdout.ts';

const MAX_THREADS = 16;
const MAX_SPARSE_SIZE = 16 * 1024 * 1024;

/** `qcow2 convert`: copies images into a new one. */
export async function run(args: Arguments<'convert'>, context: Context): Promise<number> {
  const format = knownFormat(args.value('target-format') ?? 'raw');
  if (asksForOptionList(args.values('options'))) {
    context.write(createOptionsHelp(format));
    return 0;
  }
  requireConsistent(args);
  const toStdout = args.operands.at(-1) === '-';
  if (toStdout) requireStreamable(args);
  const options = { ...convertOptions(args, format), bitmaps: bitmapOptions(args, context) };
  const shown = args.has('progress') && !args.has('quiet');
  // The image itself goes to standard output.
  const write = toStdout ? context.writeError : context.write;
  const progress = new Progress(shown ? write : undefined);
  const stopReporting = context.onProgressRequest(() => context.writeError(`${progress.line()}\n`));
  let succeeded = false;
  try {
    const control: OperationControl = {
      signal: context.interruptible(),
      onProgress: (done, total) => progress.update(done, total),
    };
    if (toStdout)
      await convertToStdout(options, { ...streamOptions(args, format), ...control }, context);
    else await convertFile({ ...options, ...control });
    succeeded = true;
  } finally {
    stopReporting();
    progress.end(succeeded);
  }
  return 0;
}

function convertOptions(args: Arguments<'convert'>, format: 'qcow2' | 'raw') {
  const { allowExternal, share } = inputOptions(args);
  const values = targetOptions(args, format);
  const { size: _, ...create } = values.settings();
  if (create.backingFile !== undefined && args.operands.length > 2)
    throw invalid('a backing file of the target makes no sense with several inputs');
  const snapshot = args.value('snapshot');
  const sparse = args.value('sparse-size');
  const threads = args.value('threads');
  return {
    inputs: args.operands.slice(0, -1).map((operand) => namedInput(args, operand)),
    target: args.operands.at(-1) ?? '',
    targetFormat: format,
    create,
    blocking: true,
    durable: args.choice('cache', CACHE_MODES) !== 'unsafe',
    compress: args.has('compress'),
    ...values.compressionLevel(),
    noCreate: args.has('no-create'),
    targetIsZero: args.has('target-is-zero'),
    allowExternal,
    share,
    spill: { folder: args.value('spill') },
    ...(snapshot !== undefined && { snapshot: snapshotQuery(snapshot) }),
    ...(sparse !== undefined && { sparseSize: sparseSize(sparse) }),
    ...(threads !== undefined && { threads: threadCount(threads) }),
  };
}

/** What a target on standard output is to be like. */
function streamOptions(args: Arguments<'convert'>, format: 'qcow2' | 'raw'): ReadableOptions {
  const values = targetOptions(args, format);
  const { size: _, ...create } = values.settings();
  const sparse = args.value('sparse-size');
  const size = sparse === undefined ? undefined : sparseSize(sparse);
  return {
    format,
    create,
    compress: args.has('compress'),
    ...values.compressionLevel(),
    zeros: size === undefined ? 'mapped' : size === 0 ? 'stored' : 'found',
  };
}

/** What every thread needs to open an input. */
function namedInput(args: Arguments<'convert'>, operand: string) {
  const { path, format, dataFile, backingFile } = inputImage(args, operand);
  return { path, format, dataFile, backingFile };
}

/** `-o` with `-B` and `-F`, which say the same. */
function targetOptions(args: Arguments<'convert'>, format: 'qcow2' | 'raw'): CreateOptionValues {
  const values = new CreateOptionValues(format, args.values('options'));
  const backingFile = args.value('backing-file');
  const backingFormat = args.value('backing-format');
  if (backingFile !== undefined) values.set('backing_file', backingFile);
  if (backingFormat !== undefined) values.set('backing_fmt', backingFormat);
  return values;
}

/** `--bitmaps` */
function bitmapOptions(args: Arguments<'convert'>, context: Context): BitmapCopying | undefined {
  if (!args.has('bitmaps')) return undefined;
  const onSkipped = (name: string): void => {
    const text = printable(`Skipping inconsistent bitmap '${name}'`);
    context.writeError(`qcow2: warning: ${text}\n`);
  };
  return { skipBroken: args.has('skip-broken-bitmaps'), onSkipped };
}

/** Options that exclude or need each other, and those that are checked and have no effect here. */
function requireConsistent(args: Arguments<'convert'>): void {
  args.choice('source-cache', CACHE_MODES);
  const rate = args.value('rate-limit');
  if (rate !== undefined) parseSize(rate, 'rate limit');
  if (args.has('target-is-zero') && !args.has('no-create'))
    throw invalid('--target-is-zero needs -n: a new target is known to read as zeros');
  if (args.has('compress') && args.value('target-format') !== 'qcow2')
    throw invalid('-c needs -O qcow2: raw images cannot be compressed');
  if (args.has('snapshot') && args.operands.length > 2)
    throw invalid('-l needs a single input: it names a snapshot of it');
  if (args.has('skip-broken-bitmaps') && !args.has('bitmaps'))
    throw invalid('Use of --skip-broken-bitmaps requires --bitmaps');
  if (args.has('bitmaps') && args.operands.length > 2)
    throw invalid('Copying bitmaps only possible with single source');
  if (args.has('options') && args.has('no-create'))
    throw invalid('-o has no effect with -n: the target is not created');
  if (args.has('copy-offload') && args.has('sparse-size'))
    throw invalid('-C and -S exclude each other: offloaded ranges are not searched for zeros');
}

/** Options that make no sense for a target that is no file. */
function requireStreamable(args: Arguments<'convert'>): void {
  if (args.has('no-create')) throw invalid('-n needs a target that exists: standard output is new');
  if (args.has('bitmaps')) throw invalid('--bitmaps needs a target that is a file');
}

function sparseSize(text: string): number {
  const size = parseSize(text, 'sparse size');
  if (size % 512 === 0 && size <= MAX_SPARSE_SIZE) return size;
  throw invalid(`invalid sparse size '${text}': a multiple of 512 up to 16M is needed, or 0`);
}

function threadCount(text: string): number {
  const count = parseWholeNumber(text, 'number of workers');
  if (count >= 1 && count <= MAX_THREADS) return count;
  throw invalid(`invalid number of workers '${text}': 1 to ${MAX_THREADS} are possible`);
}

function invalid(message: string): Qcow2Error {
  return new Qcow2Error('INVALID_ARGUMENT', message);
}
