import { appendFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { BatchEvent, JobFinished, JobSkipped } from '../../src/batch/events.ts';
import type { BatchJob } from '../../src/batch/jobs.ts';
import { type BatchOptions, runBatch } from '../../src/batch/local-runner.ts';
import { makeContent } from '../support/data.ts';
import { runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { type Ended, ended, startNode } from './support.ts';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const IMAGES = 24;
const KILLS = 4;
let dir: string;
let count = 0;
let out: string;

beforeAll(() => {
  dir = makeTempDir('resume');
  for (let i = 0; i < IMAGES; i++)
    writeFileSync(join(dir, `${i}.img`), makeContent('text', 2 << 20, i + 1));
});
afterAll(() => removeTempDir(dir));
beforeEach(() => {
  out = join(dir, `out${count++}`);
  mkdirSync(out);
});

/** Finished jobs of a journal, by their names. */
function done(journal: string): string[] {
  const lines = readFileSync(journal, 'utf8').split('\n').slice(0, -1);
  return lines.flatMap((line) => (line.startsWith('{"done"') ? [JSON.parse(line).done] : []));
}

const partials = () => readdirSync(out).filter((name) => name.endsWith('.partial'));

describe('a batch that is killed', () => {
  const jobFile = () => join(out, 'jobs.json');
  const journal = () => `${jobFile()}.journal`;
  const batch = (...more: string[]) => [MAIN, 'batch', '--resume', ...more, jobFile()];

  /** Kills a run when it has finished some jobs more. */
  async function killed(finished: number): Promise<void> {
    const child = startNode(batch('--log=json'), dir);
    const end = ended(child);
    let text = '';
    child.stdout?.on('data', (chunk: string) => {
      text += chunk;
      const jobs = text.split('"event":"job-finished"').length - 1;
      if (jobs >= finished) child.kill('SIGKILL');
    });
    expect((await end).signal).toBe('SIGKILL');
  }

  it('goes on where it was, again and again', async () => {
    const names = Array.from({ length: IMAGES }, (_, i) => `${i}.img`);
    const jobs = names.map((name) => ({ input: `../${name}`, target: `${name}.qcow2` }));
    const defaults = { format: 'qcow2', compress: true, compressionLevel: 'best' };
    writeFileSync(jobFile(), JSON.stringify({ defaults, jobs }));
    let before = 0;
    let leftovers = 0;
    for (let kill = 0; kill < KILLS; kill++) {
      await killed(2 + kill);
      const now = done(journal()).length;
      expect(now).toBeGreaterThan(before);
      before = now;
      leftovers += partials().length;
      // What a power cut leaves of a line, too.
      if (kill === 1) appendFileSync(journal(), '{"done":"0123');
    }
    expect(leftovers).toBeGreaterThan(0);
    const last: Ended = await ended(startNode(batch(), dir));
    expect([last.status, last.stderr]).toEqual([0, '']);
    expect(last.stdout).toMatch(
      new RegExp(`\\n${IMAGES - before} images converted, ${before} done before, [0-9.]+ s\\n$`),
    );
    const ids = done(journal());
    expect([ids.length, new Set(ids).size]).toEqual([IMAGES, IMAGES]);
    expect(readdirSync(out).sort()).toEqual(
      ['jobs.json', 'jobs.json.journal', ...names.map((name) => `${name}.qcow2`)].sort(),
    );
    for (const name of names)
      await runOk('qemu-img', ['compare', name, join(out, `${name}.qcow2`)], dir);
    const again = await ended(startNode(batch('-q'), dir));
    expect([again.status, again.stdout, again.stderr]).toEqual([0, '', '']);
    expect(done(journal()).length).toBe(IMAGES);
  });

  it('does not share its journal with one that runs', async () => {
    const jobs = [{ input: '../0.img', target: 'a', format: 'raw' }];
    writeFileSync(jobFile(), JSON.stringify({ jobs }));
    const child = startNode(['-e', 'setTimeout(() => {}, 60_000)'], dir);
    const pid = child.pid!;
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
    const began = `${boot}:${stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]}`;
    const lines = [
      { journal: 'qcow2-batch', version: 1 },
      { run: 'abc', at: '', process: { pid, began } },
    ];
    writeFileSync(journal(), lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
    writeFileSync(join(out, '.qcow2-abc-1.partial'), '');
    const refused = await ended(startNode(batch(), dir));
    expect(refused.stderr).toContain(`is in use by process ${pid}`);
    expect([refused.status, partials().length]).toEqual([1, 1]);
    child.kill('SIGKILL');
    await ended(child);
    expect((await ended(startNode(batch(), dir))).status).toBe(0);
    expect(partials()).toEqual([]);
  });
});

describe('a job of a journal', () => {
  /** Runs on this thread alone; tells how each job ended. */
  async function run(jobs: BatchJob[], more: BatchOptions = {}): Promise<string[]> {
    const journal = join(out, 'journal');
    const options = { concurrency: 1, blocking: true, resume: true, journal, ...more };
    const { results } = await runBatch(jobs, options);
    return results.map(({ event }) => event);
  }

  const job = (input: string, more: Partial<BatchJob> = {}): BatchJob => ({
    inputs: [{ path: join(dir, input) }],
    target: join(out, `${input}.raw`),
    targetFormat: 'raw',
    ...more,
  });

  it('is done again when anything about it has changed', async () => {
    writeFileSync(join(dir, 'x.img'), makeContent('mixed', 65536, 1));
    await runOk(
      'qemu-img',
      ['create', '-q', '-f', 'qcow2', '-b', 'x.img', '-F', 'raw', 'y.img'],
      dir,
    );
    const jobs = [job('x.img'), job('y.img')];
    const [all, first, second] = [
      ['job-finished', 'job-finished'],
      ['job-finished', 'job-skipped'],
      ['job-skipped', 'job-finished'],
    ];
    const none = ['job-skipped', 'job-skipped'];
    expect(await run(jobs)).toEqual(all);
    expect(await run(jobs)).toEqual(none);
    appendFileSync(join(out, 'x.img.raw'), 'x');
    expect(await run(jobs)).toEqual(first);
    expect(await run([jobs[0]!, { ...jobs[1]!, verify: true }])).toEqual(second);
    expect(await run([jobs[0]!, { ...jobs[1]!, verify: true }])).toEqual(none);
    // The backing file of the other, as well.
    writeFileSync(join(dir, 'x.img'), makeContent('mixed', 65536, 2));
    expect(await run([jobs[0]!, { ...jobs[1]!, verify: true }])).toEqual(all);
  });

  it('tells again what its digest was', async () => {
    const one = job('1.img', { checksum: 'sha256-sparse' });
    const results: (JobFinished | JobSkipped)[] = [];
    const onEvent = (event: BatchEvent): void => {
      if (event.event === 'job-finished' || event.event === 'job-skipped') results.push(event);
    };
    await run([one], { onEvent });
    await run([one], { onEvent });
    const [made, skipped] = results as [JobFinished, JobSkipped];
    expect([made.event, skipped.event]).toEqual(['job-finished', 'job-skipped']);
    expect(skipped.checksum).toEqual(made.checksum);
    expect(skipped.bytesWritten).toBe(made.bytesWritten);
  });

  it('needs a journal that is one, and a new one where none is to be resumed', async () => {
    const journal = join(out, 'journal');
    const failed = (options: BatchOptions) =>
      run([job('1.img')], options).catch(({ message }) => message);
    expect(await failed({ resume: false })).toEqual(['job-finished']);
    expect(await failed({ resume: false })).toMatch(/^journal '.*' is there: go on with it/);
    expect(await failed({ journal: undefined })).toMatch(/nothing to resume without a journal/);
    writeFileSync(journal, 'precious\ndata\n');
    expect(await failed({})).toMatch(/is no journal of a batch: line 1 is not one of its lines/);
    expect(readFileSync(journal, 'utf8')).toBe('precious\ndata\n');
    // A file without an end of line is as little a journal: nothing of it may be cut off.
    writeFileSync(journal, 'precious');
    expect(await failed({})).toMatch(/is no journal of a batch/);
    expect(readFileSync(journal, 'utf8')).toBe('precious');
  });
});
