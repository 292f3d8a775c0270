import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { BatchEvent } from '../../src/batch/events.ts';
import { BatchRecorder } from '../../src/batch/report.ts';
import { htmlReport } from '../../src/batch/report-html.ts';
import { qcow2 } from '../cli/command.ts';

const FIGURES = { bytesVirtual: 4000, bytesSource: 1000, bytesWritten: 2000 };
const EVIL = `<script>alert("1")</script>&'\u202e.img`;

function recorded(): BatchRecorder {
  const recorder = new BatchRecorder();
  const files = (job: number) => ({ job, inputs: [`${EVIL}${job}`], target: `out/${EVIL}` });
  const started = (job: number, thread: number): BatchEvent => ({
    event: 'job-started',
    ...files(job),
    threads: 1,
    thread,
    attempt: 1,
  });
  const events: [number, BatchEvent][] = [
    [1000, { event: 'batch-started', total: 4, concurrency: 2 }],
    [1000, { event: 'job-skipped', ...files(3), ...FIGURES }],
    [1000, started(0, 0)],
    [1500, started(1, 1)],
    [2000, { event: 'job-failed', ...files(1), code: 'IO', message: EVIL, attempts: 2 }],
    [2000, { event: 'job-threads', job: 0, threads: 2 }],
    [
      3000,
      {
        event: 'job-finished',
        ...files(0),
        ...FIGURES,
        seconds: 2,
        phases: { convert: 2 },
        attempts: 1,
        checksum: { algorithm: 'sha256', digest: 'ab'.repeat(32) },
      },
    ],
    [3000, { event: 'job-failed', ...files(2), code: 'ABORTED', message: 'stopped', attempts: 0 }],
    [3000, { event: 'batch-finished', succeeded: 1, skipped: 1, failed: 2, seconds: 2 }],
  ];
  for (const [at, event] of events) recorder.add(event, at);
  return recorder;
}

describe('a report', () => {
  it('is what happened', () => {
    const { jobs, ...all } = recorded().report();
    expect(all).toMatchObject({
      version: 1,
      seconds: 2,
      concurrency: 2,
      succeeded: 1,
      skipped: 1,
      failed: 2,
      bytesVirtual: 8000,
      bytesSource: 2000,
      bytesWritten: 4000,
    });
    expect(jobs.map(({ result }) => result)).toEqual(['converted', 'failed', 'aborted', 'skipped']);
    expect(jobs[0]).toMatchObject({
      began: 0,
      seconds: 2,
      thread: 0,
      threads: [
        { at: 0, threads: 1 },
        { at: 1, threads: 2 },
      ],
      rate: 2000,
    });
    expect(jobs[1]).toMatchObject({ began: 0.5, seconds: 0.5, thread: 1, attempts: 2, code: 'IO' });
    expect(jobs[2]).toMatchObject({ began: null, thread: null, attempts: 0 });
  });

  it('as a page asks for nothing, runs nothing, and keeps names what they are', () => {
    const page = htmlReport(recorded().report());
    expect(page).not.toMatch(/<script|alert\("|src=|href=|@import|url\(|\u202e/i);
    expect(page).not.toMatch(/https?:/);
    expect(page).toContain('&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#39;');
    expect(page).toContain("default-src 'none'");
    expect(page).toContain('prefers-color-scheme: dark');
    // Every element that is opened is closed.
    const open: string[] = [];
    for (const [, close, name, , empty] of page.matchAll(/<(\/?)([a-z0-9]+)([^<>]*?)(\/?)>/g)) {
      if (close) expect(open.pop()).toBe(name);
      else if (!empty && !['meta', 'br'].includes(name!)) open.push(name!);
    }
    expect(open).toEqual([]);
  });

  it('of nothing but failures is a page, too', () => {
    const recorder = new BatchRecorder();
    const files = { job: 0, inputs: ['a'], target: 'b' };
    recorder.add({ event: 'batch-started', total: 1, concurrency: 1 }, 0);
    recorder.add({ event: 'job-failed', ...files, code: 'ABORTED', message: 'x', attempts: 0 }, 0);
    expect(htmlReport(recorder.report())).not.toMatch(/NaN|Infinity|undefined/);
  });
});

describe('--report', () => {
  it('writes what its ending says, also of a batch with failures', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'qcow2-report-'));
    try {
      writeFileSync(join(dir, 'a.img'), 'x'.repeat(4096));
      const reports = ['r/a.json', 'r/a.HTML'].flatMap((name) => ['--report', join(dir, name)]);
      const args = ['batch', '-q', '-j', '1', '-d', join(dir, 'out'), ...reports];
      const { status } = await qcow2(...args, join(dir, 'a.img'), join(dir, 'nothere'));
      expect(status).toBe(1);
      const report = JSON.parse(readFileSync(join(dir, 'r/a.json'), 'utf8'));
      expect(report).toMatchObject({ version: 1, succeeded: 1, failed: 1 });
      expect(readFileSync(join(dir, 'r/a.HTML'), 'utf8')).toMatch(/^<!doctype html>/);
      const wrong = await qcow2(...args, '--report', 'x.pdf', join(dir, 'a.img'));
      expect(wrong.stderr).toMatch(/report 'x\.pdf' has no known format/);
      expect(existsSync('x.pdf')).toBe(false);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});
