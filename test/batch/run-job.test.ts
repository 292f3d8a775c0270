import {
  closeSync,
  copyFileSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { jobId } from '../../src/batch/job-id.ts';
import type { BatchJob } from '../../src/batch/jobs.ts';
import { isTransient } from '../../src/batch/retry.ts';
import { type PhaseProgress, runJob } from '../../src/batch/run-job.ts';
import { Qcow2Error } from '../../src/errors.ts';
import { makeContent } from '../support/data.ts';
import { sha256File } from '../support/digest.ts';
import { runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

const MIB = 2 ** 20;
let dir: string;
let count = 0;
let out: string;

beforeAll(async () => {
  dir = makeTempDir('run-job');
  const qemu = (...args: string[]) => runOk('qemu-img', args, dir);
  for (const [seed, name] of ['a', 'b'].entries()) {
    writeFileSync(join(dir, `${name}.raw`), makeContent('mixed', 3 * MIB + 512, seed + 1));
    await qemu('convert', '-f', 'raw', '-O', 'qcow2', `${name}.raw`, `${name}.qcow2`);
  }
  for (const name of ['a.raw', 'a.qcow2'])
    writeFileSync(join(dir, `${name}.gz`), gzipSync(readFileSync(join(dir, name))));
  await qemu('create', '-q', '-f', 'qcow2', '-b', 'a.qcow2', '-F', 'qcow2', 'top.qcow2');
  await runOk('qemu-io', ['-c', 'write -P 9 1M 64k', 'top.qcow2'], dir);
  await qemu('snapshot', '-c', 'before', 'b.qcow2');
  await runOk('qemu-io', ['-c', 'write -P 8 1M 64k', 'b.qcow2'], dir);
  // A counter of 0 where there is data: reading works, a check says that it is corrupt.
  copyFileSync(join(dir, 'a.qcow2'), join(dir, 'corrupt.qcow2'));
  const fd = openSync(join(dir, 'corrupt.qcow2'), 'r+');
  writeSync(fd, new Uint8Array(64), 0, 64, 2 * 65536 + 16);
  closeSync(fd);
});
afterAll(() => removeTempDir(dir));
beforeEach(() => {
  out = `out${count++}`;
});

function job(inputs: string[], target: string, more: Partial<BatchJob> = {}): BatchJob {
  return {
    inputs: inputs.map((name) => ({ path: join(dir, name) })),
    target: join(dir, `${out}-${target}`),
    targetFormat: target.endsWith('raw') ? 'raw' : 'qcow2',
    ...more,
  };
}

const run = (one: BatchJob, more: Parameters<typeof runJob>[1] = {}) =>
  runJob(one, { threads: 1, durable: false, ...more });
const made = () => readdirSync(dir).filter((name) => name.startsWith(out) || /partial/.test(name));

describe('a job', () => {
  const backing = { backingFile: 'a.qcow2', backingFormat: 'qcow2' };
  it.each<[string, string[], string, Partial<BatchJob>]>([
    ['to raw', ['a.qcow2'], 'x.raw', {}],
    ['of a chain', ['top.qcow2'], 'x.qcow2', { compress: true }],
    ['of a raw image', ['a.raw'], 'x.qcow2', { create: { clusterSize: 4096 } }],
    ['of a snapshot', ['b.qcow2'], 'x.raw', { snapshot: 'before' }],
    ['of several inputs', ['a.qcow2', 'b.qcow2'], 'x.qcow2', {}],
    ['with a data file', ['a.qcow2'], 'x.qcow2', { create: { dataFile: 'DATA' } }],
    ['with a backing file', ['top.qcow2'], 'x.qcow2', { create: backing }],
    ['of another size', ['a.qcow2'], 'x.raw', { create: { size: 5 * MIB } }],
    ['of a packed disk', ['a.raw.gz'], 'x.qcow2', { compress: true }],
    ['of a packed image', ['a.qcow2.gz'], 'x.raw', {}],
  ])('%s is verified and digested', async (_, inputs, target, more) => {
    const create = { ...more.create };
    if (create.dataFile) create.dataFile = `${out}-data`;
    const one = job(inputs, target, { ...more, create, verify: true, checksum: 'sha256' });
    const phases: string[] = [];
    const onProgress = ({ phase, step, steps }: PhaseProgress) =>
      void phases.push(`${step}/${steps} ${phase}`);
    const result = await run({ ...one, checkSource: true }, { onProgress, identify: true });
    await runOk('qemu-img', ['convert', '-O', 'raw', one.target, `${out}-back`], dir);
    expect(result.checksum).toEqual({
      algorithm: 'sha256',
      digest: sha256File(join(dir, `${out}-back`)),
    });
    expect(Object.keys(result.phases).sort()).toEqual(['check', 'convert', 'verify']);
    expect([...new Set(phases)].slice(-2)).toEqual(['1/3 convert', '2/3 verify']);
    expect(result.bytesWritten).toBeGreaterThan(0);
    expect(result.targets.map(({ file }) => file)).toContain(one.target);
    expect(result.sources.length).toBe(inputs.includes('top.qcow2') ? 2 : inputs.length);
    expect(made().filter((name) => /partial/.test(name))).toEqual([]);
  });

  it('fails when its source is corrupt, if that is to be looked for', async () => {
    await expect(run(job(['corrupt.qcow2'], 'x.raw', { checkSource: true }))).rejects.toMatchObject(
      {
        code: 'MALFORMED',
        message: expect.stringMatching(
          /^source '.*corrupt\.qcow2' is corrupt: \d+ errors were found/,
        ),
      },
    );
    expect(made()).toEqual([]);
    await run(job(['corrupt.qcow2'], 'x.raw'));
  });

  it('fails when its disk has another digest, and leaves what was there', async () => {
    const one = job(['a.qcow2'], 'x.raw', { checksum: 'sha256', digest: 'A'.repeat(64) });
    writeFileSync(one.target, 'before');
    await expect(run(one)).rejects.toMatchObject({ code: 'BAD_DATA' });
    expect(made()).toEqual([`${out}-x.raw`]);
    const digest = sha256File(join(dir, 'a.raw')).toUpperCase();
    expect((await run({ ...one, digest })).checksum?.digest).toBe(digest.toLowerCase());
  });

  it.each([
    ['one input', ['a.qcow2']],
    ['several', ['a.qcow2', 'b.qcow2']],
    ['a packed one', ['a.raw.gz']],
  ])('finds a target that does not hold what its source does (%s)', async (_, inputs) => {
    const one = job(inputs, 'x.raw', { verify: true });
    const spoil = ({ phase, done, total }: PhaseProgress): void => {
      if (phase !== 'convert' || done < total) return;
      const [partial] = readdirSync(dir).filter((name) => name.endsWith('.partial'));
      const fd = openSync(join(dir, partial!), 'r+');
      writeSync(fd, Buffer.from([0x5a, 0xa5]), 0, 2, 2 * MIB + 77);
      closeSync(fd);
    };
    await expect(run(one, { onProgress: spoil })).rejects.toMatchObject({
      code: 'BAD_DATA',
      message: expect.stringMatching(/was not made: it.* differs from/),
    });
    expect(made()).toEqual([]);
  });
});

describe('the name of a job', () => {
  it('changes with its source and its options only', () => {
    const one = job(['a.qcow2'], 'x.raw');
    const id = jobId(one);
    expect(jobId({ ...one, inputs: [...one.inputs] })).toBe(id);
    const { targetFormat, target, inputs } = one;
    expect(jobId({ targetFormat, target, inputs })).toBe(id);
    expect(jobId({ ...one, compress: true })).not.toBe(id);
    expect(jobId(one, [{ file: 'a', size: 1, version: '"etag"' }])).not.toBe(id);
    writeFileSync(join(dir, 'changing'), 'a');
    const before = jobId(job(['changing'], 'x.raw'));
    writeFileSync(join(dir, 'changing'), 'ab');
    expect(jobId(job(['changing'], 'x.raw'))).not.toBe(before);
  });
});

describe('what may pass by itself', () => {
  it.each([
    [new Qcow2Error('IO', 'x', { errno: 'EIO' }), true],
    [new Qcow2Error('IO', 'x', { errno: 'ETIMEDOUT' }), true],
    [new Qcow2Error('IO', 'the server answers 503'), true],
    [new Qcow2Error('IO', 'x', { errno: 'ENOSPC' }), false],
    [new Qcow2Error('IO', 'x', { errno: 'EACCES' }), false],
    [new Qcow2Error('NOT_FOUND', 'x', { errno: 'ENOENT' }), false],
    [new Qcow2Error('BAD_DATA', 'x'), false],
    [new Error('x'), false],
  ])('%s: %s', (error, expected) => {
    expect(isTransient(error)).toBe(expected);
  });
});
