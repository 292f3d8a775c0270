import { type BatchProgress, imageFraction, type RunningImage } from './progress-state.ts';
import { fitText } from './text-width.ts';

/** What the bars are drawn for. */
export interface BarOptions {
  /** Width and height of the terminal. */
  columns: number;
  rows: number;
  colour: boolean;
  /** Milliseconds, on the clock of the events. */
  now: number;
  /** Name of a job, free of control characters. */
  label: (job: number) => string;
}

/** What is done for an image when it is not being converted; no wider than a rate. */
const PHASE_WORDS = { check: 'checking', verify: 'verifying' };

const MIB = 1024 * 1024;
const RATE_COLUMNS = 12;
const PERCENT_COLUMNS = 5;
/** Narrower terminals get short texts. */
const NARROW = 42;
/** Those narrower still have room for the number of images only. */
const TINY = 20;
/** The remaining time is not guessed before this many milliseconds. */
const ESTIMATE_AFTER = 2000;

/**
 * One line per running image and one for the batch, each narrower than the terminal. Lines that do
 * not fit into its height are counted in a line of their own.
 */
export function barLines(progress: BatchProgress, options: BarOptions): string[] {
  const running = [...progress.running.values()];
  const room = Math.max(1, options.rows - 3);
  const shown = running.length > room ? running.slice(0, room - 1) : running;
  const lines = shown.map((image) => imageLine(image, options));
  const width = options.columns - 1;
  if (shown.length < running.length)
    lines.push(fitText(`and ${running.length - shown.length} more`, width).trimEnd());
  lines.push(batchLine(progress, options));
  return lines;
}

function imageLine(image: RunningImage, options: BarOptions): string {
  const { job, phase, rate } = image;
  // Tables are counted while the source is checked, not bytes.
  const speed = rate === null || phase === 'check' ? '' : `${(rate / MIB).toFixed(0)} MiB/s`;
  const tail = phase === 'convert' ? speed : PHASE_WORDS[phase];
  return line(options.label(job), imageFraction(image), tail, options);
}

function batchLine(progress: BatchProgress, options: BarOptions): string {
  const { failed, total, fraction, skipped, ended: count } = progress;
  const elapsed = options.now - progress.began;
  // What an earlier run has done took none of this time.
  const before = total > 0 ? skipped / total : 0;
  const made = fraction - before;
  const left =
    elapsed >= ESTIMATE_AFTER && made > 0 ? (elapsed * (1 - fraction)) / made : Number.NaN;
  const failures = failed > 0 && options.columns >= TINY ? `, ${failed} failed` : '';
  const narrow = options.columns < NARROW;
  const label = narrow ? `${count}/${total}${failures}` : `${count} of ${total} images${failures}`;
  return line(label, fraction, Number.isNaN(left) ? '' : `${clock(left)} left`, options);
}

function line(label: string, fraction: number, tail: string, options: BarOptions): string {
  const width = options.columns - 1;
  const percent = `${Math.floor(fraction * 100)}%`.padStart(PERCENT_COLUMNS);
  const right = options.columns >= NARROW ? percent + tail.padStart(RATE_COLUMNS) : percent;
  const barWidth = width >= 50 ? Math.min(40, Math.floor(width * 0.35)) : 0;
  const bar = barWidth > 0 ? ` ${barText(fraction, barWidth, options.colour)}` : '';
  const labelWidth = width - right.length - (barWidth > 0 ? barWidth + 1 : 0);
  if (labelWidth < 1) return fitText(percent.trim(), Math.max(0, width)).trimEnd();
  return fitText(label, labelWidth) + bar + right;
}

function barText(fraction: number, width: number, colour: boolean): string {
  const filled = Math.round(fraction * (width - 2));
  const marks = '#'.repeat(filled);
  const rest = '.'.repeat(width - 2 - filled);
  return `[${colour && filled > 0 ? `\u001b[32m${marks}\u001b[39m` : marks}${rest}]`;
}

function clock(milliseconds: number): string {
  const seconds = Math.ceil(milliseconds / 1000);
  const two = (value: number): string => String(value).padStart(2, '0');
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}:${two(seconds % 60)}`;
  return `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(seconds % 60)}`;
}
