import { describe, expect, it } from 'vitest';
import { LiveLines } from '../../src/batch/live-lines.ts';
import { type BarOptions, barLines } from '../../src/batch/progress-bars.ts';
import { BatchProgress } from '../../src/batch/progress-state.ts';
import { fitText, textWidth } from '../../src/batch/text-width.ts';

const MIB = 1024 * 1024;

const START = { threads: 1, thread: 0, attempt: 1 };

/** Three of eight images done, one of them failed, two running. */
function someProgress(): BatchProgress {
  const progress = new BatchProgress();
  const files = { inputs: ['in'], target: 'out' };
  progress.update({ event: 'batch-started', total: 8, concurrency: 2 }, 0);
  for (let job = 0; job < 5; job++)
    progress.update({ event: 'job-started', job, ...files, ...START }, job * 1000);
  const figures = { bytesVirtual: MIB, bytesSource: 0, bytesWritten: 0 };
  const finished = { seconds: 1, ...figures, phases: {}, attempts: 1 };
  progress.update({ event: 'job-finished', job: 0, ...files, ...finished }, 5000);
  progress.update({ event: 'job-finished', job: 2, ...files, ...finished }, 5000);
  progress.update(
    { event: 'job-failed', job: 1, ...files, code: 'IO', message: 'x', attempts: 1 },
    5000,
  );
  const some = { done: 300 * MIB, total: 400 * MIB, written: 0, rate: 100 * MIB, eta: 1 };
  const phase = { phase: 'convert', step: 0, steps: 1 } as const;
  progress.update({ event: 'job-progress', job: 3, ...phase, ...some }, 5000);
  return progress;
}

function options(columns: number, rows = 24): BarOptions {
  const label = (job: number): string => `images/web-server-${job}.qcow2`;
  return { columns, rows, colour: false, now: 6000, label };
}

describe('progress bars', () => {
  it('show every running image and the batch', () => {
    expect(barLines(someProgress(), options(80))).toEqual([
      'images/web-server-3.qcow2          [###################......]  75%   100 MiB/s',
      'images/web-server-4.qcow2          [.........................]   0%            ',
      '3 of 8 images, 1 failed            [############.............]  46%   0:07 left',
    ]);
  });

  it('have no bar on a narrow terminal, and names that are cut in front', () => {
    expect(barLines(someProgress(), options(46))).toEqual([
      'images/web-server-3.qcow2     75%   100 MiB/s',
      'images/web-server-4.qcow2      0%            ',
      '3 of 8 images, 1 failed       46%   0:07 left',
    ]);
    expect(barLines(someProgress(), options(24))).toEqual([
      '…eb-server-3.qcow2  75%',
      '…eb-server-4.qcow2   0%',
      '3/8, 1 failed       46%',
    ]);
  });

  it('are always narrower than the terminal', () => {
    for (let columns = 1; columns < 200; columns++)
      for (const line of barLines(someProgress(), options(columns)))
        expect(textWidth(line)).toBeLessThan(columns);
  });

  it('count the images that do not fit into the height', () => {
    const progress = new BatchProgress();
    progress.update({ event: 'batch-started', total: 100, concurrency: 64 }, 0);
    for (let job = 0; job < 64; job++)
      progress.update({ event: 'job-started', job, inputs: ['i'], target: 't', ...START }, 0);
    const lines = barLines(progress, options(80, 10));
    expect(lines.length).toBe(8);
    expect(lines[6]).toBe('and 58 more');
  });

  it('colour what is done, and change nothing else', () => {
    const plain = barLines(someProgress(), options(80));
    const coloured = barLines(someProgress(), { ...options(80), colour: true });
    expect(coloured[0]).toContain('[\u001b[32m###################\u001b[39m......]');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are taken out
    expect(coloured.map((line) => line.replace(/\u001b\[\d+m/g, ''))).toEqual(plain);
  });
});

describe('lines drawn in place', () => {
  it('hide the cursor, replace each other, and give the cursor back once', () => {
    let written = '';
    const lines = new LiveLines((text) => {
      written += text;
    });
    lines.clear();
    lines.draw(['a', 'b']);
    lines.draw(['c']);
    lines.clear();
    lines.clear();
    const hide = '\u001b[?25l';
    const show = '\u001b[?25h';
    expect(written).toBe(`${hide}a\nb\n\r\u001b[2A\u001b[Jc\n\r\u001b[1A\u001b[J${show}`);
  });
});

describe('text on a terminal', () => {
  it.each([
    ['abc', 3],
    ['日本', 4],
    ['e\u0301', 1],
    ['👩‍👩‍👧', 2],
    ['한국', 4],
    ['', 0],
  ])('%s takes %i columns', (text, width) => {
    expect(textWidth(text)).toBe(width);
    expect(fitText(text, 8)).toBe(text + ' '.repeat(8 - width));
  });

  it.each([
    ['abcdef', 4, '…def'],
    ['abcdef', 1, '…'],
    ['abcdef', 0, ''],
    ['日本語', 5, '…本語'],
    ['日本語', 4, '…語 '],
  ])('%s in %i columns is "%s"', (text, width, fitted) => {
    expect(fitText(text, width)).toBe(fitted);
  });
});
