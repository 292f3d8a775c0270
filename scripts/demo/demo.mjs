// The two demos: images made here, each result compared with what went in; or images of the user.
import { createHash } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, readSync, rmSync, statSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { runBatch } from '../../dist/node.js';
import { openLog } from './log.mjs';
import { makeSamples } from './samples.mjs';
import { mebibytes, printTable, seconds } from './table.mjs';

const MIB = 1024 * 1024;

/** Stops the batch; the folder is removed by then as always. */
const interrupt = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => interrupt.abort());

/** Runs a batch with live progress. */
async function convertBatch(jobs, what) {
  const images = jobs.length === 1 ? '1 image' : `${jobs.length} images`;
  console.log(`${what}: ${images}, ${availableParallelism()} threads`);
  const log = openLog();
  try {
    return await runBatch(jobs, { signal: interrupt.signal, onEvent: (event) => log.event(event) });
  } finally {
    log.close();
  }
}

function sha256File(path) {
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafe(4 * MIB);
  const file = openSync(path, 'r');
  try {
    for (let got = readSync(file, buffer); got > 0; got = readSync(file, buffer))
      hash.update(buffer.subarray(0, got));
  } finally {
    closeSync(file);
  }
  return hash.digest('hex');
}

/** Makes images of many kinds, converts them and compares every result with what went in. */
export async function convertSamples() {
  const folder = mkdtempSync(join(tmpdir(), 'qcow2-demo-'));
  const before = process.cwd();
  try {
    // Short names in the progress.
    process.chdir(folder);
    const samples = await makeSamples(requireConverted);
    const jobs = samples.map(({ file, snapshot }) => ({
      inputs: [{ path: file }],
      ...(snapshot !== undefined && { snapshot }),
      target: `${file}${snapshot === undefined ? '' : `-${snapshot}`}.raw`,
      targetFormat: /** @type {const} */ ('raw'),
    }));
    const summary = await convertBatch(jobs, 'converting to raw');
    interrupt.signal.throwIfAborted();
    return reportSamples(samples, summary);
  } catch (error) {
    if (!interrupt.signal.aborted) throw error;
    console.error('stopped');
    return false;
  } finally {
    process.chdir(before);
    rmSync(folder, { recursive: true, force: true });
  }
}

async function requireConverted(jobs, what) {
  const { results } = await convertBatch(jobs, `${what} samples`);
  for (const result of results)
    if (result.event === 'job-failed') throw new Error(`${result.target}: ${result.message}`);
}

function reportSamples(samples, summary) {
  let wrong = 0;
  const rows = samples.map(({ file, what, size, sha256 }, index) => {
    const result = summary.results[index];
    const verdict = verify(result, sha256);
    if (verdict !== 'ok') wrong++;
    const [, speed = ''] = timing(result);
    const bytes = mebibytes(statSync(file).size);
    return [what, mebibytes(size), bytes, speed, sha256.slice(0, 8), verdict];
  });
  printTable(['image', 'disk', 'file', 'rate', 'sha256', 'result'], rows);
  const total = samples.reduce((sum, { size }) => sum + size, 0);
  printTotal(summary, total, wrong, 'every sha256 is that of the contents the image was made from');
  return wrong === 0;
}

/** `ok`, or what is wrong with a result. */
function verify(result, sha256) {
  if (result.event === 'job-failed') return `${result.code}: ${result.message}`;
  return sha256File(result.target) === sha256 ? 'ok' : 'WRONG BYTES';
}

/** Columns `time` and `rate`; the rate counts bytes of the disk, zeros too. */
function timing(result) {
  if (result.event === 'job-failed') return ['-', '-'];
  return [seconds(result.seconds), rate(result.bytesVirtual, result.seconds)];
}

function rate(bytes, time) {
  return time > 0 ? `${mebibytes(bytes / time)}/s` : '-';
}

function printTotal(summary, bytes, failed, success) {
  const speed = rate(bytes, summary.seconds);
  console.log(`${mebibytes(bytes)} of disks in ${seconds(summary.seconds)}: ${speed}`);
  console.log(failed === 0 ? success : `${failed} of ${summary.results.length} images FAILED`);
}

/** Converts images of the user into a temporary folder, which stays. */
export async function convertImages(paths) {
  const folder = mkdtempSync(join(tmpdir(), 'qcow2-demo-'));
  const inputs = paths.map((path) => resolve(process.env.INIT_CWD ?? '.', path));
  const jobs = inputs.map((path, index) => ({
    inputs: [{ path }],
    target: join(folder, targetName(path, index, inputs)),
    targetFormat: /** @type {const} */ ('raw'),
  }));
  console.log(`results go to ${folder}`);
  const summary = await convertBatch(jobs, 'converting to raw');
  const rows = summary.results.map((result) => [
    ...(result.event === 'job-failed'
      ? [basename(result.inputs[0] ?? ''), '-', '-', '-', `${result.code}: ${result.message}`]
      : [
          basename(result.target),
          mebibytes(result.bytesVirtual),
          ...timing(result),
          sha256File(result.target),
        ]),
  ]);
  printTable(['result', 'disk', 'time', 'rate', 'sha256'], rows);
  const bytes = summary.results.reduce(
    (sum, result) => sum + (result.event === 'job-finished' ? result.bytesVirtual : 0),
    0,
  );
  printTotal(summary, bytes, summary.failed, `results are in ${folder}`);
  if (summary.succeeded === 0) rmSync(folder, { recursive: true, force: true });
  return summary.failed === 0;
}

/** `disk.raw` for `disk.qcow2`; numbered where two inputs would get the same name. */
function targetName(path, index, all) {
  const stem = (name) => basename(name).replace(/\.(qcow2|img|raw)$/i, '');
  const isShared = all.filter((other) => stem(other) === stem(path)).length > 1;
  return `${isShared ? `${index + 1}-` : ''}${stem(path)}.raw`;
}
