import {
  type BatchEvent,
  type BatchSummary,
  type JobEnd,
  type JobFailed,
  type JobFiles,
  type JobFinished,
  type JobRepeated,
  type JobRetry,
  UNTOLD,
} from '../batch/events.ts';
import { LiveLines } from '../batch/live-lines.ts';
import { barLines } from '../batch/progress-bars.ts';
import { BatchProgress } from '../batch/progress-state.ts';
import { fitText, textWidth } from '../batch/text-width.ts';
import { printable } from '../errors.ts';
import type { Context } from './context.ts';
import { sizeText } from './print-human.ts';

/** What logs write to. */
type Output = Pick<Context, 'write' | 'writeError' | 'drained'>;

/** Tells people or programs what a batch does. */
export interface BatchLog {
  event(event: BatchEvent): void;
  /** Gives the terminal back; may be called at any time, and again. */
  close(): void;
  end(summary: BatchSummary): void;
}

/** One line of JSON per event on standard output, and nothing else. */
export class JsonLog implements BatchLog {
  readonly #context: Output;
  #blocked = false;

  constructor(context: Output) {
    this.#context = context;
  }

  /** A reader that is too slow misses progress, so that nothing piles up here. */
  event(event: BatchEvent): void {
    if (this.#blocked && event.event === 'job-progress') return;
    this.#context.write(`${JSON.stringify(event)}\n`);
    this.#blocked = true;
    void this.#context.drained().then(() => {
      this.#blocked = false;
    });
  }

  close(): void {}
  end(): void {}
}

/** A line per image as it ends; with `quiet`, only for those that failed. */
export class LineLog implements BatchLog {
  readonly #context: Output;
  readonly #quiet: boolean;

  constructor(context: Output, quiet: boolean) {
    this.#context = context;
    this.#quiet = quiet;
  }

  event(event: BatchEvent): void {
    const trouble = lineOf(event);
    if (trouble !== undefined) this.#context.writeError(trouble);
    if (this.#quiet) return;
    if (event.event === 'job-skipped')
      this.#context.write(`${names(event)}: done before${checksumText(event)}\n`);
    if (event.event !== 'job-finished') return;
    const { bytesVirtual, seconds } = event;
    const figures = `${sizeText(bytesVirtual)} in ${seconds.toFixed(2)} s`;
    const rate = rateText(event);
    this.#context.write(
      `${names(event)}: ${rate === '' ? figures : `${figures}, ${rate}`}${checksumText(event)}\n`,
    );
  }

  close(): void {}

  end(summary: BatchSummary): void {
    this.#context.writeError(abortLine(summary));
    if (!this.#quiet) this.#context.write(totalLine(summary));
  }
}

/** The screen a batch is shown on: bars on standard error, the table on standard output. */
export interface Screen {
  columns(): number;
  rows(): number;
  /** For the bars. */
  colour: boolean;
  /** For the table. */
  tableColour: boolean;
  /** Width the table must fit into; undefined when it does not go to a terminal. */
  tableColumns(): number | undefined;
}

/** Seconds from which on a rate means something: what is shown as more than 0.00. */
const SHORTEST = 0.005;

/** Milliseconds between two drawings. */
const DRAW_INTERVAL = 100;

/** Bars while the batch runs, a table when it has ended. */
export class BarLog implements BatchLog {
  readonly #context: Output;
  readonly #screen: Screen;
  readonly #lines: LiveLines;
  readonly #progress = new BatchProgress();
  readonly #names = new Map<number, string>();
  readonly #timer: NodeJS.Timeout;

  constructor(context: Output, screen: Screen) {
    this.#context = context;
    this.#screen = screen;
    this.#lines = new LiveLines(context.writeError);
    this.#timer = setInterval(this.#draw, DRAW_INTERVAL);
    process.on('exit', this.#restore);
    process.on('SIGTSTP', this.#suspend);
  }

  event(event: BatchEvent): void {
    this.#progress.update(event, performance.now());
    if (event.event === 'job-started') this.#names.set(event.job, jobName(event));
    if (event.event === 'job-finished' || event.event === 'job-failed')
      this.#names.delete(event.job);
    const line = lineOf(event);
    if (line === undefined) return;
    this.#lines.clear();
    this.#context.writeError(line);
  }

  close(): void {
    clearInterval(this.#timer);
    process.off('exit', this.#restore);
    process.off('SIGTSTP', this.#suspend);
    this.#restore();
  }

  end(summary: BatchSummary): void {
    const { tableColumns, tableColour } = this.#screen;
    this.#context.writeError(abortLine(summary));
    this.#context.write(summaryTable(summary, tableColumns(), tableColour));
  }

  readonly #restore = (): void => this.#lines.clear();

  readonly #suspend = (): void => {
    this.#restore();
    process.kill(process.pid, 'SIGSTOP');
  };

  readonly #draw = (): void => {
    const { columns, rows, colour } = this.#screen;
    const label = (job: number): string => this.#names.get(job) ?? '';
    const size = { columns: columns(), rows: rows() };
    const now = performance.now();
    this.#lines.draw(barLines(this.#progress, { ...size, colour, now, label }));
  };
}

const HEADINGS = ['IMAGE', 'RESULT', 'SIZE', 'TIME', 'RATE'] as const;
const RESULT_WIDTH = 7;
const COLUMN_GAP = 2;
const RED = '\u001b[31m';
const DEFAULT_COLOUR = '\u001b[39m';

/**
 * What became of each image, and a line for all.
 * @param columns width of the terminal; absent: as wide as the names are
 */
export function summaryTable(
  summary: BatchSummary,
  columns: number | undefined,
  colour: boolean,
): string {
  const rows = [[...HEADINGS], ...summary.results.map(tableRow)];
  const widths = HEADINGS.map((_, i) => Math.max(...rows.map((row) => textWidth(row[i]!))));
  widths[1] = Math.max(widths[1]!, RESULT_WIDTH);
  const others = widths.slice(1).reduce((sum, width) => sum + width + COLUMN_GAP, 0);
  if (columns !== undefined) widths[0] = Math.max(8, Math.min(widths[0]!, columns - 1 - others));
  const lines = rows.map((row) => {
    const [image = '', result = '', ...figures] = row;
    const numbers = figures.map((text, i) => text.padStart(widths[i + 2]! + COLUMN_GAP)).join('');
    const bad = colour && (result === 'failed' || result === 'aborted');
    const shown = bad ? RED + result + DEFAULT_COLOUR : result;
    const padding = ' '.repeat(widths[1]! - result.length);
    const gap = ' '.repeat(COLUMN_GAP);
    return (fitText(image, widths[0]!) + gap + shown + padding + numbers).trimEnd();
  });
  const digests = summary.results.flatMap((result) =>
    'checksum' in result ? `${names(result)}${checksumText(result)}\n` : [],
  );
  return `${lines.join('\n')}\n${digests.join('')}${totalLine(summary)}`;
}

function tableRow(result: JobEnd): string[] {
  if (result.event === 'job-skipped')
    return [jobName(result), 'before', sizeText(result.bytesVirtual), '', ''];
  if (result.event === 'job-failed')
    return [jobName(result), result.code === 'ABORTED' ? 'aborted' : 'failed', '', '', ''];
  const { bytesVirtual, seconds } = result;
  return [
    jobName(result),
    'ok',
    sizeText(bytesVirtual),
    `${seconds.toFixed(2)} s`,
    rateText(result),
  ];
}

function jobName({ inputs }: JobFiles): string {
  return inputs.map(printable).join(' + ');
}

function names(files: JobFiles): string {
  return `${jobName(files)} -> ${printable(files.target)}`;
}

function checksumText({ checksum }: Pick<JobFinished, 'checksum'>): string {
  return checksum === undefined ? '' : `, ${checksum.algorithm} ${checksum.digest}`;
}

/** For standard error; undefined: nothing to tell there. */
function lineOf(event: BatchEvent): string | undefined {
  switch (event.event) {
    case 'job-failed':
      return failureLine(event);
    case 'job-retry':
      return retryLine(event);
    case 'job-repeated':
      return repeatedLine(event);
    default:
      return undefined;
  }
}

function retryLine({ attempt, delay, message, ...files }: JobRetry): string {
  const when = `attempt ${attempt} failed, the next in ${delay.toFixed(1)} s`;
  return `qcow2: ${jobName(files)}: ${printable(message)} (${when})\n`;
}

function repeatedLine({ source }: JobRepeated): string {
  return `qcow2: ${printable(source)}: ${UNTOLD}\n`;
}

/** Of the disk's length: holes count. Empty where the time is too short to tell. */
function rateText({ bytesVirtual, seconds }: JobFinished): string {
  if (seconds < SHORTEST) return '';
  return `${(bytesVirtual / 1024 ** 2 / seconds).toFixed(0)} MiB/s`;
}

/** Aborted images are told of once, at the end. */
function failureLine(failure: JobFailed): string {
  if (failure.code === 'ABORTED') return '';
  return `qcow2: ${jobName(failure)}: ${printable(failure.message)}\n`;
}

function abortLine({ results }: BatchSummary): string {
  const aborted = results.filter((result) => 'code' in result && result.code === 'ABORTED').length;
  return aborted === 0
    ? ''
    : `qcow2: the batch was aborted, ${imageCount(aborted)} not converted\n`;
}

function totalLine({ succeeded, skipped, failed, seconds }: BatchSummary): string {
  const before = skipped === 0 ? '' : `, ${skipped} done before`;
  const failures = failed === 0 ? '' : `, ${failed} failed`;
  return `${imageCount(succeeded)} converted${before}${failures}, ${seconds.toFixed(2)} s\n`;
}

function imageCount(count: number): string {
  return count === 1 ? '1 image' : `${count} images`;
}
