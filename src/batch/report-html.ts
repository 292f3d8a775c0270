import { printable } from '../errors.ts';
import type { BatchReport, ReportJob } from './report.ts';
import { REPORT_STYLE } from './report-style.ts';

const MIB = 1024 ** 2;

/** Pixels of a row of the timeline, and of its whole width. */
const ROW = 22;
const WIDTH = 1000;
const LEFT = 72;
/** Bars narrower than this have no name in them. */
const LEAST_NAMED = 60;
const CHARACTER = 6.4;

/**
 * A report as a page by itself: it asks for nothing from anywhere and runs no scripts.
 * @example
 * import { BatchRecorder, htmlReport, readJobFile, runBatch } from 'qcow2';
 * import { writeFile } from 'node:fs/promises';
 *
 * const recorder = new BatchRecorder();
 * await runBatch(readJobFile('jobs.json'), { onEvent: (event) => recorder.add(event) });
 * await writeFile('report.html', htmlReport(recorder.report()));
 */
export function htmlReport(report: BatchReport): string {
  const { succeeded, skipped, failed } = report;
  const title = `${succeeded} converted${skipped ? `, ${skipped} done before` : ''}${failed ? `, ${failed} failed` : ''}`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>qcow2 batch: ${escaped(title)}</title>
<style>${REPORT_STYLE}</style>
</head>
<body>
<main>
<h1>qcow2 batch</h1>
<p class="when"><time datetime="${escaped(report.began)}">${escaped(report.began.replace('T', ' ').replace(/\..*/, ' UTC'))}</time></p>
${figures(report)}
${failures(report)}
${timeline(report)}
${table(report)}
</main>
</body>
</html>
`;
}

/** Text, an attribute or a name, so that it stays that; what could reorder a line is spelt out. */
function escaped(text: string): string {
  const entities: Record<string, string> = {
    '&': '&amp;',
    '<': '&lt;',
    '>': '&gt;',
    '"': '&quot;',
    "'": '&#39;',
  };
  return printable(text).replace(/[&<>"']/g, (character) => entities[character]!);
}

function figures(report: BatchReport): string {
  const { succeeded, skipped, failed, seconds, concurrency } = report;
  const { bytesVirtual, bytesSource, bytesWritten } = report;
  const converted = report.jobs.filter(({ result }) => result === 'converted');
  const virtual = converted.reduce((sum, job) => sum + (job.bytesVirtual ?? 0), 0);
  const list: [string, string, string][] = [
    ['converted', String(succeeded), skipped > 0 ? `and ${skipped} done before` : ''],
    ['failed', String(failed), failed > 0 ? 'see below' : ''],
    ['time', secondsText(seconds), `${concurrency} ${concurrency === 1 ? 'thread' : 'threads'}`],
    ['disks', sizeText(bytesVirtual), seconds > 0 ? `${sizeText(virtual / seconds)}/s` : ''],
    ['files before', sizeText(bytesSource), ''],
    ['files after', sizeText(bytesWritten), changeText(bytesSource, bytesWritten)],
  ];
  const items = list.map(([name, value, more]) => {
    const bad = name === 'failed' && failed > 0 ? ' class="bad"' : '';
    return `<div${bad}><dt>${name}</dt><dd>${escaped(value)}<small>${escaped(more)}</small></dd></div>`;
  });
  return `<dl class="figures">${items.join('')}</dl>`;
}

function failures({ jobs }: BatchReport): string {
  const bad = jobs.filter(({ result }) => result === 'failed' || result === 'aborted');
  if (bad.length === 0) return '';
  const items = bad.map(({ code = '', message = '', attempts, ...job }) => {
    const tries = attempts > 1 ? ` <small>${attempts} attempts</small>` : '';
    return `<li><b>${escaped(nameOf(job))}</b> <code>${escaped(code)}</code>${tries}<br>${escaped(message)}</li>`;
  });
  return `<section><h2>Failures</h2><ul class="failures">${items.join('')}</ul></section>`;
}

/** A row a thread, a bar an image: the bar is as long as the image took. */
function timeline(report: BatchReport): string {
  const shown = report.jobs.filter(({ thread }) => thread !== null);
  if (shown.length === 0) return '';
  const rows = Math.max(...shown.map(({ thread }) => thread!)) + 1;
  const end = Math.max(0.001, ...shown.map(({ began, seconds }) => began! + seconds!));
  const scale = (WIDTH - LEFT - 8) / end;
  const height = rows * ROW;
  const step = niceStep(end);
  const lines: string[] = [];
  for (let at = 0; at <= end; at += step) {
    const x = (LEFT + at * scale).toFixed(1);
    lines.push(`<line x1="${x}" y1="0" x2="${x}" y2="${height}"/>`);
    lines.push(`<text x="${x}" y="${height + 15}">${axisText(at)}</text>`);
  }
  const names = Array.from({ length: rows }, (_, row) => {
    return `<text class="row" x="0" y="${row * ROW + 15}">thread ${row + 1}</text>`;
  });
  const bars = shown.map((job) => bar(job, scale));
  return `<section><h2>Timeline</h2><figure><svg viewBox="0 0 ${WIDTH} ${height + 22}" role="img" aria-label="When each image was converted, by thread">
<g class="grid">${lines.join('')}</g>${names.join('')}${bars.join('\n')}
</svg><figcaption><span class="converted"></span>converted <span class="failed"></span>failed <span class="aborted"></span>aborted. Marks in a bar: more threads joined.</figcaption></figure></section>`;
}

function bar(job: ReportJob, scale: number): string {
  const x = LEFT + job.began! * scale;
  const y = job.thread! * ROW + 2;
  const width = Math.max(2, job.seconds! * scale - 0.5);
  const room = Math.floor((width - 8) / CHARACTER);
  const name = nameOf(job);
  const short = name.length > room ? `…${name.slice(name.length - room + 1)}` : name;
  const label =
    width >= LEAST_NAMED
      ? `<text x="${(x + 4).toFixed(1)}" y="${y + 13}">${escaped(short)}</text>`
      : '';
  const marks = job.threads.slice(1).map(({ at }) => {
    return `<rect class="joined" x="${(LEFT + at * scale).toFixed(1)}" y="${y}" width="2" height="${ROW - 4}"/>`;
  });
  const most = job.threads.at(-1)?.threads ?? 1;
  const tip = `${name}: ${job.result}, ${secondsText(job.seconds!)}, ${most === 1 ? '1 thread' : `${most} threads`}`;
  return `<g class="bar ${job.result}"><title>${escaped(tip)}</title><rect x="${x.toFixed(1)}" y="${y}" width="${width.toFixed(1)}" height="${ROW - 4}" rx="2"/>${marks.join('')}${label}</g>`;
}

const HEADINGS = ['Image', 'Result', 'Disk', 'Before', 'After', 'Time', 'Rate', 'Digest'];

function table({ jobs }: BatchReport): string {
  const head = HEADINGS.map((heading, i) => {
    return `<th scope="col"${isNumber(i) ? ' class="number"' : ''}>${heading}</th>`;
  });
  const rows = jobs.map((job) => {
    const cells = cellsOf(job).map((cell, i) => {
      return `<td${isNumber(i) ? ' class="number"' : ''}>${cell}</td>`;
    });
    return `<tr class="${job.result}">${cells.join('')}</tr>`;
  });
  return `<section><h2>Images</h2><div class="scroll"><table><thead><tr>${head.join('')}</tr></thead><tbody>
${rows.join('\n')}
</tbody></table></div></section>`;
}

function isNumber(column: number): boolean {
  return column >= 2 && column <= 6;
}

function cellsOf(job: ReportJob): string[] {
  const { result, attempts, bytesVirtual, bytesSource, bytesWritten, seconds, rate } = job;
  const size = (bytes: number | undefined): string =>
    bytes === undefined ? '' : sizeText(bytes).replace(' ', '&nbsp;');
  const tries = attempts > 1 ? ` <small>${attempts} attempts</small>` : '';
  const phases = Object.entries(job.phases ?? {}).map(([phase, took]) => `${phase} ${took} s`);
  const { checksum } = job;
  return [
    `${escaped(nameOf(job))}<small>${escaped(job.target)}</small>`,
    `<span class="mark ${result}">${result}</span>${tries}`,
    size(bytesVirtual),
    size(bytesSource),
    size(bytesWritten),
    seconds === null
      ? ''
      : `<span title="${escaped(phases.join(', '))}">${secondsText(seconds)}</span>`,
    rate === null ? '' : `${size(rate)}/s`,
    checksum
      ? `<code title="${checksum.digest}">${checksum.digest.slice(0, 12)}…</code><small>${escaped(checksum.algorithm)}</small>`
      : '',
  ];
}

function nameOf({ inputs }: Pick<ReportJob, 'inputs'>): string {
  return inputs.join(' + ');
}

function sizeText(bytes: number): string {
  const units = ['KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let value = bytes / 1024;
  let unit = 0;
  for (; value >= 1000 && unit < units.length - 1; unit++) value /= 1024;
  return `${value >= 100 || value === 0 ? value.toFixed(0) : value.toPrecision(3)} ${units[unit]}`;
}

function secondsText(seconds: number): string {
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  const minutes = Math.floor(seconds / 60);
  const rest = String(Math.round(seconds % 60)).padStart(2, '0');
  if (minutes < 60) return `${minutes}:${rest} min`;
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, '0')} h`;
}

function axisText(seconds: number): string {
  return seconds < 60 ? `${Number(seconds.toFixed(3))} s` : secondsText(seconds);
}

function changeText(before: number, after: number): string {
  if (before < MIB) return '';
  const percent = Math.round((100 * (after - before)) / before);
  return percent === 0 ? 'as before' : `${percent > 0 ? '+' : '−'}${Math.abs(percent)} %`;
}

/** Seconds between two lines of the timeline: at most ten of them. */
function niceStep(end: number): number {
  for (let step = 0.001; ; step *= 10)
    for (const factor of [1, 2, 5]) if (end / (step * factor) <= 10) return step * factor;
}
