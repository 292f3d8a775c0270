import { expandPatterns } from '../../batch/glob.ts';
import { JOB_FILE_NAME, readJobFile } from '../../batch/job-file.ts';
import { type BatchJob, jobsFromInputs } from '../../batch/jobs.ts';
import { type BatchOptions, MAX_CONCURRENCY, runBatch } from '../../batch/local-runner.ts';
import { BatchProgress } from '../../batch/progress-state.ts';
import { Qcow2Error } from '../../errors.ts';
import { type Arguments, asksForOptionList } from '../arguments.ts';
import { BarLog, type BatchLog, JsonLog, LineLog } from '../batch-log.ts';
import type { JobRunner } from '../batch-queue.ts';
import { ReportFiles } from '../batch-report.ts';
import { CACHE_MODES } from '../cache-modes.ts';
import { inputOptions, knownFormat } from '../common-options.ts';
import type { Context } from '../context.ts';
import { CreateOptionValues, createOptionsHelp } from '../create-options.ts';
import { parseSize, retriesOf, wholeNumber } from '../sizes.ts';

/** `qcow2 batch`: converts many images; one that fails does not stop the others. */
export async function run(args: Arguments<'batch'>, context: Context): Promise<number> {
  if (asksForOptionList(args.values('options'))) {
    context.write(createOptionsHelp(knownFormat(args.value('target-format') ?? 'raw')));
    return 0;
  }
  const style = args.choice('log', ['human', 'json']);
  if (style === 'json' && args.has('quiet')) throw invalid('-q and --log=json exclude each other');
  const runJobs = args.has('queue')
    ? (await import('../batch-queue.ts')).queueRunner(args, context)
    : localRunner(args);
  const reports = await ReportFiles.prepare(args.values('report'));
  const jobs = readJobs(args);
  if (args.has('queue') && !args.has('wait'))
    return (await import('../batch-queue.ts')).submit(jobs, args, context);
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
      reports?.add(event);
      log.event(event);
    };
    const summary = await runJobs(jobs, { signal, onEvent });
    log.close();
    reports?.write();
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

function localRunner(args: Arguments<'batch'>): JobRunner {
  if (args.has('wait')) throw invalid('--wait needs --queue: without it a batch waits always');
  const options = batchOptions(args);
  return (jobs, control) => runBatch(jobs, { ...options, ...control, blocking: true });
}

function batchOptions(args: Arguments<'batch'>): BatchOptions {
  const jobs = args.value('jobs');
  const retries = retriesOf(args.value('retries'));
  const journal = journalOf(args);
  if (journal !== undefined && args.value('cache') === 'unsafe')
    throw invalid('-t unsafe makes no sense with a journal, which must not say more than is true');
  const size = (name: 'memory' | 'image-memory'): number | undefined => {
    const text = args.value(name);
    return text === undefined ? undefined : parseSize(text, 'memory size');
  };
  return {
    durable: args.choice('cache', CACHE_MODES) !== 'unsafe',
    journal,
    resume: args.has('resume'),
    memory: size('memory'),
    imageMemory: size('image-memory'),
    ...(jobs !== undefined && {
      concurrency: wholeNumber(jobs, 'number of images at a time', 1, MAX_CONCURRENCY),
    }),
    ...(retries !== undefined && { retries }),
  };
}

function journalOf(args: Arguments<'batch'>): string | undefined {
  const journal = args.value('journal');
  if (journal !== undefined || !args.has('resume')) return journal;
  const jobFile = jobFileOf(args);
  if (jobFile !== undefined) return `${jobFile}.journal`;
  throw invalid('--resume needs --journal FILE when there is no job file beside which it could be');
}

function jobFileOf({ operands }: Arguments<'batch'>): string | undefined {
  return operands.find((operand) => JOB_FILE_NAME.test(operand));
}

function readJobs(args: Arguments<'batch'>): BatchJob[] {
  const jobFile = jobFileOf(args);
  const jobs = jobFile === undefined ? jobsFromArguments(args) : jobsFromFile(args, jobFile);
  const checksum = args.value('checksum');
  // Of a job file, too: what is to be checked is asked for more often than it is written down.
  return jobs.map((job) => ({
    ...job,
    ...(args.has('check') && { checkSource: true }),
    ...(args.has('verify') && { verify: true }),
    ...(checksum !== undefined && {
      checksum: args.choice('checksum', ['sha256', 'sha256-sparse']),
    }),
  }));
}

function jobsFromFile(args: Arguments<'batch'>, jobFile: string): BatchJob[] {
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
  return jobsFromInputs(expandPatterns(args.operands), common);
}

function progressLine({ ended, total, fraction }: BatchProgress): string {
  return `    (${(fraction * 100).toFixed(2)}/100%) ${ended} of ${total} images\n`;
}

function invalid(message: string): Qcow2Error {
  return new Qcow2Error('INVALID_ARGUMENT', message);
}
