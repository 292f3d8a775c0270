import { readJobFile } from '../../batch/job-file.ts';
import { type BatchJob, jobsFromInputs } from '../../batch/jobs.ts';
import { MAX_CONCURRENCY, runBatch } from '../../batch/local-runner.ts';
import { BatchProgress } from '../../batch/progress-state.ts';
import { Qcow2Error } from '../../errors.ts';
import { type Arguments, asksForOptionList } from '../arguments.ts';
import { BarLog, type BatchLog, JsonLog, LineLog } from '../batch-log.ts';
import { CACHE_MODES } from '../cache-modes.ts';
import { inputOptions, knownFormat } from '../common-options.ts';
import type { Context } from '../context.ts';
import { CreateOptionValues, createOptionsHelp } from '../create-options.ts';
import { parseWholeNumber } from '../sizes.ts';

/** `qcow2 batch`: converts many images; one that fails does not stop the others. */
export async function run(args: Arguments<'batch'>, context: Context): Promise<number> {
  if (asksForOptionList(args.values('options'))) {
    context.write(createOptionsHelp(knownFormat(args.value('target-format') ?? 'raw')));
    return 0;
  }
  const style = args.choice('log', ['human', 'json']);
  if (style === 'json' && args.has('quiet')) throw invalid('-q and --log=json exclude each other');
  const concurrency = imagesAtATime(args.value('jobs'));
  const durable = args.choice('cache', CACHE_MODES) !== 'unsafe';
  const jobs = readJobs(args);
  const signal = context.interruptible();
  const log = style === 'json' ? new JsonLog(context) : humanLog(context, args.has('quiet'));
  const progress = new BatchProgress();
  const stopReporting = context.onProgressRequest(() => context.writeError(progressLine(progress)));
  // A second signal ends the process at once: the terminal must be in order by then.
  const close = (): void => log.close();
  signal.addEventListener('abort', close, { once: true });
  try {
    const onEvent = (event: Parameters<BatchLog['event']>[0]): void => {
      progress.update(event, performance.now());
      log.event(event);
    };
    const summary = await runBatch(jobs, { concurrency, durable, signal, onEvent });
    log.close();
    log.end(summary);
    return summary.failed > 0 ? 1 : 0;
  } finally {
    signal.removeEventListener('abort', close);
    stopReporting();
    log.close();
  }
}

function humanLog(context: Context, quiet: boolean): BatchLog {
  const { stderr, stdout, env } = process;
  if (quiet || !stderr.isTTY || env.TERM === 'dumb') return new LineLog(context, quiet);
  const colour = !env.NO_COLOR;
  return new BarLog(context, {
    columns: () => stderr.columns || 80,
    rows: () => stderr.rows || 24,
    colour,
    tableColour: colour && stdout.isTTY,
    tableColumns: () => (stdout.isTTY ? stdout.columns || 80 : undefined),
  });
}

function readJobs(args: Arguments<'batch'>): BatchJob[] {
  const jobFile = args.operands.find((operand) => /\.json$/i.test(operand));
  if (jobFile === undefined) return jobsFromArguments(args);
  if (args.operands.length > 1)
    throw invalid(`'${jobFile}' is a job file, which must be the only operand`);
  const own = [
    'format',
    'target-format',
    'directory',
    'options',
    'compress',
    'force-share',
  ] as const;
  if (own.some((name) => args.has(name)) || args.has('allow-external'))
    throw invalid(
      '-f, -O, -d, -o, -c, -U and --allow-external go into the job file, as "defaults"',
    );
  return readJobFile(jobFile);
}

function jobsFromArguments(args: Arguments<'batch'>): BatchJob[] {
  const directory = args.value('directory');
  if (directory === undefined) throw invalid('-d DIR is needed, the folder the targets go to');
  const targetFormat = knownFormat(args.value('target-format') ?? 'raw');
  const compress = args.has('compress');
  if (compress && targetFormat === 'raw')
    throw invalid('-c needs -O qcow2: raw images cannot be compressed');
  const { format: inputFormat, allowExternal, share } = inputOptions(args);
  const values = new CreateOptionValues(targetFormat, args.values('options'));
  if (values.has('size')) throw invalid('-o size makes no sense here: each image keeps its size');
  const create = values.settings();
  const level = values.compressionLevel();
  const common = {
    directory,
    targetFormat,
    compress,
    inputFormat,
    allowExternal,
    share,
    create,
    ...level,
  };
  return jobsFromInputs(args.operands, common);
}

function imagesAtATime(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const count = parseWholeNumber(text, 'number of images at a time');
  if (count >= 1 && count <= MAX_CONCURRENCY) return count;
  throw invalid(
    `invalid number of images at a time '${text}': 1 to ${MAX_CONCURRENCY} are possible`,
  );
}

function progressLine({ succeeded, failed, total, fraction }: BatchProgress): string {
  return `    (${(fraction * 100).toFixed(2)}/100%) ${succeeded + failed} of ${total} images\n`;
}

function invalid(message: string): Qcow2Error {
  return new Qcow2Error('INVALID_ARGUMENT', message);
}
