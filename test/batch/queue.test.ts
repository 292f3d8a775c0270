import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { readJobFile } from '../../src/batch/job-file.ts';
import { queueAddress } from '../../src/queue/connection.ts';
import type { QueueStatus } from '../../src/queue/manage.ts';
import { jobOf, queuedJobs } from '../../src/queue/queued-job.ts';
import { Root } from '../../src/queue/root.ts';
import { qcow2 } from '../cli/command.ts';
import { selfSigned } from '../support/certificate.ts';
import { makeContent } from '../support/data.ts';
import { sha256File } from '../support/digest.ts';
import { run, runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { PASSWORD, Program, RedisServer } from './queue-support.ts';
import type { Ended } from './support.ts';

const MIB = 2 ** 20;
const POLL = { timeout: 20_000 };
const PRELOAD = fileURLToPath(new URL('./flaky-files.mjs', import.meta.url));
let dir: string;
let redis: RedisServer;
const programs: Program[] = [];
const outputs: string[] = [];

beforeAll(async () => {
  dir = makeTempDir('queue');
  redis = await RedisServer.start(dir);
  const text = makeContent('text', 16 * MIB, 1);
  writeFileSync(join(dir, 'large.img'), Buffer.concat([text, text]));
  for (const name of ['a', 'b', 'flaky'])
    writeFileSync(join(dir, `${name}.img`), makeContent('mixed', MIB, name.charCodeAt(0)));
});
afterEach(async () => {
  for (const { child, end } of programs.splice(0)) {
    child.kill('SIGKILL');
    const { stdout, stderr } = await end;
    outputs.push(stdout, stderr);
  }
  for (const secret of [PASSWORD, encodeURIComponent(PASSWORD)])
    expect(outputs.splice(0).join('')).not.toContain(secret);
});
afterAll(async () => {
  await redis?.stop();
  removeTempDir(dir);
});

function start(...args: string[]): Program {
  const program = new Program(args, dir, redis.url, ['--import', PRELOAD]);
  programs.push(program);
  return program;
}

function startWorker(...args: string[]): Program {
  return start('worker', '--root', dir, '-j', '2', '--log=json', ...args);
}

/** Stops a worker the way a system does. */
async function stop(worker: Program): Promise<Ended> {
  worker.child.kill('SIGTERM');
  return worker.end;
}

function writeJobs(name: string, jobs: object[]): void {
  writeFileSync(join(dir, name), JSON.stringify({ defaults: { format: 'qcow2' }, jobs }));
}

function batch(...args: string[]): Promise<Ended> {
  return start('batch', '--queue', 'env', ...args).end;
}

async function status(): Promise<QueueStatus> {
  return JSON.parse((await start('queue', 'status', '--output=json').end).stdout) as QueueStatus;
}

it('submits jobs once, whoever submits them how often, unless a target or a source has changed', async () => {
  writeJobs('once.json', [
    { input: 'a.img', target: 'once/a.qcow2', checksum: 'sha256' },
    { input: 'b.img', target: 'once/b.qcow2' },
  ]);
  expect((await batch('once.json')).stdout).toBe('2 images submitted\n');
  expect((await batch('once.json')).stdout).toBe('0 images submitted, 2 already known\n');
  const worker = startWorker();
  const digest = sha256File(join(dir, 'a.img'));
  const waited = await batch('once.json', '--wait');
  expect([waited.status, waited.stderr]).toEqual([0, '']);
  expect(waited.stdout).toContain(`sha256 ${digest}\n`);
  const again = await batch('once.json', '--wait');
  expect(again.stdout).toMatch(/^.*a\.qcow2: done before, sha256 .*\n.*b\.qcow2: done before\n/);

  rmSync(join(dir, 'once/a.qcow2'));
  const { stdout } = await batch('once.json', '--wait');
  expect(stdout).toMatch(/1 image converted, 1 done before, [\d.]+ s\n$/);
  await runOk('qemu-img', ['compare', 'a.img', 'once/a.qcow2'], dir);

  utimesSync(join(dir, 'b.img'), 1000, 1000);
  expect((await batch('once.json')).stdout).toBe('1 image submitted, 1 already known\n');
  await stop(worker);
});

it('a job that fails for good is listed with its reason, after its attempts', async () => {
  writeFileSync(join(dir, 'flaky.img.left'), '1000');
  writeFileSync(join(dir, 'bad.qcow2'), Buffer.from('QFI\xfb\0\0\0\x63', 'latin1'));
  writeJobs('bad.json', [
    { input: 'flaky.img', inputFormat: 'raw', target: 'bad/flaky.qcow2' },
    { input: 'bad.qcow2', inputFormat: 'qcow2', target: 'bad/bad.qcow2' },
  ]);
  const worker = startWorker();
  const args = ['bad.json', '--retries', '1', '--wait', '--log=json'];
  const waiting = start('batch', '--queue', 'env', ...args);
  expect((await waiting.end).status).toBe(1);
  const own = waiting.events.filter((event) => 'job' in event && event.job === 0);
  expect(own.filter(({ event }) => event !== 'job-progress')).toMatchObject([
    { event: 'job-started', attempt: 1 },
    { event: 'job-retry', attempt: 1, code: 'IO', delay: expect.closeTo(0.44, 0) },
    { event: 'job-started', attempt: 2 },
    { event: 'job-failed', attempts: 2, code: 'IO', message: expect.stringMatching(/flaky/) },
  ]);
  const failed = waiting.events.find((event) => event.event === 'job-failed' && event.job === 1);
  expect(failed).toMatchObject({ attempts: 1, message: expect.stringMatching(/bad\.qcow2/) });
  const { failed: listed } = await status();
  expect(listed.map(({ target, attempts }) => [target, attempts])).toEqual(
    expect.arrayContaining([
      [join(dir, 'bad/flaky.qcow2'), 2],
      [join(dir, 'bad/bad.qcow2'), 1],
    ]),
  );
  for (const { message } of listed) expect(message).toMatch(/^Could not open '.*': [^\n]+$/);

  writeFileSync(join(dir, 'flaky.img.left'), '0');
  const { status: exit, stdout } = await start('queue', 'retry', '--output=json').end;
  expect([exit, JSON.parse(stdout)]).toEqual([0, { retried: 2 }]);
  await expect.poll(async () => (await status()).failed.length, { timeout: 20_000 }).toBe(1);
  await runOk('qemu-img', ['compare', 'flaky.img', 'bad/flaky.qcow2'], dir);
  await stop(worker);
  expect(readdirSync(join(dir, 'bad'))).toEqual(['flaky.qcow2']);
});

it('a job outside the root is refused, links and all, and nothing is written there', async () => {
  mkdirSync(join(dir, 'inside'));
  mkdirSync(join(dir, 'outside'));
  cpSync(join(dir, 'a.img'), join(dir, 'inside/a.img'));
  symlinkSync(join(dir, 'outside'), join(dir, 'inside/link'));
  symlinkSync(join(dir, 'outside/new.qcow2'), join(dir, 'inside/dangling.qcow2'));
  writeJobs('outside.json', [
    { input: 'a.img', target: 'inside/1.qcow2' },
    { input: 'inside/a.img', target: 'outside/2.qcow2' },
    { input: 'inside/a.img', target: 'inside/link/deep/3.qcow2' },
    { input: 'inside/a.img', target: 'inside/dangling.qcow2' },
    { input: 'inside/a.img', target: 'inside/5.qcow2', create: { dataFile: '../outside/data' } },
    { input: 'inside/a.img', target: 'inside/6.qcow2', allowExternal: ['outside'] },
    { input: 'inside/a.img', target: 'inside/7.qcow2' },
  ]);
  const worker = startWorker('--root', join(dir, 'inside'));
  const { status: exit, stderr } = await batch('outside.json', '--wait');
  expect(exit).toBe(1);
  expect(stderr.match(/is not below the root of this worker, '.*inside'\n/g)).toHaveLength(6);
  expect(readdirSync(join(dir, 'outside'))).toEqual([]);
  expect(existsSync(join(dir, 'inside/7.qcow2'))).toBe(true);
  await stop(worker);
});

it('a worker that is asked to stop gives its job back', async () => {
  const slow = { compress: true, compressionLevel: 'best' };
  writeJobs('stop.json', [{ input: 'large.img', target: 'stop/large.qcow2', ...slow }]);
  const first = startWorker('--grace', '0');
  const waiting = start('batch', '--queue', 'env', 'stop.json', '--wait', '--log=json');
  await waiting.until(({ event }) => event === 'job-progress');
  const { status: exit, stderr } = await stop(first);
  expect(exit).toBe(0);
  expect(stderr).toMatch(/^qcow2: .*large\.img -> .*: given back to the queue$/m);
  expect(readdirSync(join(dir, 'stop'))).toEqual([]);
  expect((await status()).jobs).toMatchObject({ waiting: 1, running: 0 });
  const second = startWorker();
  expect((await waiting.end).status).toBe(0);
  expect(waiting.events.find(({ event }) => event === 'job-finished')).toMatchObject({
    attempts: 1,
  });
  await stop(second);
  await runOk('qemu-img', ['compare', 'large.img', 'stop/large.qcow2'], dir);
});

it('of two jobs with one target the later one stays; one that fails leaves what was there', async () => {
  mkdirSync(join(dir, 'one'));
  writeFileSync(join(dir, 'one/disk.qcow2'), 'before');
  writeFileSync(join(dir, 'none.qcow2'), Buffer.from('QFI\xfb\0\0\0\x63', 'latin1'));
  for (const input of ['none.qcow2', 'a.img', 'b.img'])
    writeJobs(`${input}.json`, [{ input, target: 'one/disk.qcow2' }]);
  const worker = startWorker();
  expect((await batch('none.qcow2.json', '--wait')).status).toBe(1);
  expect(readFileSync(join(dir, 'one/disk.qcow2'), 'utf8')).toBe('before');
  for (const input of ['a.img', 'b.img']) {
    expect((await batch(`${input}.json`, '--wait')).status).toBe(0);
    await runOk('qemu-img', ['compare', input, 'one/disk.qcow2'], dir);
  }
  // What the first one made is not there any more.
  expect((await batch('a.img.json')).stdout).toBe('0 images submitted, 1 submitted again\n');
  await expect
    .poll(async () => (await status()).jobs, POLL)
    .toMatchObject({ waiting: 0, running: 0 });
  expect(readdirSync(join(dir, 'one'))).toEqual(['disk.qcow2']);
  await stop(worker);

  writeJobs(
    'same.json',
    ['a.img', 'b.img'].map((input) => ({ input, target: 'one/x.qcow2' })),
  );
  const { status: exit, stderr } = await batch('same.json');
  expect([exit, stderr]).toEqual([1, expect.stringMatching(/^qcow2: '.*' have the same target '/)]);
});

it('a server that wants TLS: who does not know its certificate is told so in one line', async () => {
  const folder = join(dir, 'tls');
  mkdirSync(folder);
  const { cert, key } = selfSigned();
  const tls = { cert: join(folder, 'cert.pem'), key: join(folder, 'key.pem') };
  writeFileSync(tls.cert, cert);
  writeFileSync(tls.key, key);
  const secure = await RedisServer.start(folder, { tls });
  try {
    const knows = { NODE_EXTRA_CA_CERTS: tls.cert };
    const known = new Program(['queue', 'status'], folder, secure.url, [], knows);
    expect(await known.end).toMatchObject({ status: 0, stderr: '' });
    for (const url of [secure.url, secure.url.replace('rediss:', 'redis:')]) {
      const { status: exit, stderr } = await new Program(['queue', 'status'], folder, url).end;
      outputs.push(stderr);
      expect(exit).toBe(1);
      expect(stderr).toMatch(/^qcow2: Could not connect to the queue rediss?:\/\/127[^\n]+\n$/);
    }
  } finally {
    await secure.stop();
  }
});

it('what waits can be cancelled, and whoever waits for it is told', async () => {
  writeJobs('cancel.json', [{ input: 'a.img', target: 'cancel/a.qcow2' }]);
  const waiting = start('batch', '--queue', 'env', 'cancel.json', '--wait');
  await expect
    .poll(async () => (await status()).jobs.waiting, { timeout: 20_000 })
    .toBeGreaterThan(0);
  const cancelled = await start('queue', 'cancel', '--output=json').end;
  expect(cancelled.status).toBe(0);
  expect(JSON.parse(cancelled.stdout).cancelled).toBeGreaterThan(0);
  expect((await start('queue', 'cancel').end).stdout).toBe('0 jobs cancelled\n');
  expect((await waiting.end).status).toBe(1);
  expect((await status()).jobs.waiting).toBe(0);
});

it('who stops waiting does not stop the workers', async () => {
  writeJobs('leave.json', [{ input: 'b.img', target: 'leave/b.qcow2' }]);
  const waiting = start('batch', '--queue', 'env', 'leave.json', '--wait', '--log=json');
  await waiting.until(({ event }) => event === 'batch-started');
  waiting.child.kill('SIGTERM');
  const { signal, stderr } = await waiting.end;
  expect([signal, stderr]).toEqual([
    'SIGTERM',
    'qcow2: stopped waiting: 1 of 1 images are not converted yet; the workers go on\n',
  ]);
  expect((await status()).jobs.waiting).toBe(1);
});

describe('errors are one line and show no password', () => {
  const secret = encodeURIComponent(PASSWORD);
  it.each([
    [['queue', 'status', '--queue', `redis://:${secret}@127.0.0.1:PORT/x`], /must be redis:/],
    [
      ['queue', 'status', '--queue', `http://:${secret}@127.0.0.1`],
      /must be redis: or, for TLS, rediss: and \/\/\[USER:PASSWORD@\]HOST\[:PORT\]\[\/DB\];/,
    ],
    [['queue', 'status', '--queue', `redis://:${PASSWORD}@127.0.0.1`], /must be redis:/],
    [
      ['queue', 'status', `redis://:${PASSWORD}@127.0.0.1`],
      /unexpected operand 'redis:\/\/\*\*\*@/,
    ],
    [['worker', `redis://:${secret}@127.0.0.1`], /unexpected operand .* expected: options only/],
    [
      ['queue', 'status', '--queue', 'redis://:wrong@127.0.0.1:PORT'],
      /Could not connect.*WRONGPASS/,
    ],
    [['queue', 'status', '--queue', `redis://:${secret}@127.0.0.1:PORT/99`], /DB index/],
    [['queue', 'status', '--queue', 'redis://127.0.0.1:PORT'], /Could not connect.*NOAUTH/],
    [['queue', 'dance'], /unknown action 'dance': there are status, retry, cancel/],
    [['worker'], /--root DIR is needed/],
    [['worker', '--root', '.'], /--queue URL is needed.* variable QCOW2_QUEUE/],
    [['worker', '--queue', 'redis://127.0.0.1', '--root', 'nowhere'], /Could not open 'nowhere'/],
    [['batch', '-d', '.', 'a.img', '-j', '1', '--wait'], /--wait needs --queue/],
    [['batch', '-d', '.', 'a.img', '--queue', 'env', '-j', '2'], /-j makes no sense with --queue/],
    [
      ['batch', '-d', '.', 'a.img', '--queue', 'env', '--report', 'x.json'],
      /--report needs --wait/,
    ],
  ] as const)('%j', async (args, message) => {
    const given = args.map((arg) => arg.replace('PORT', String(redis.port)));
    const { status: exit, stderr, stdout } = await qcow2(...given);
    expect([exit, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/^qcow2: [^\n]+\n$/);
    expect(stderr).toMatch(message);
  });

  it('packages that are not installed are named', async () => {
    const dist = fileURLToPath(new URL('../../dist', import.meta.url));
    const bare = join(dir, 'bare');
    cpSync(join(dist, 'cli'), join(bare, 'dist/cli'), { recursive: true });
    // Empty, it hides those that folders above may hold.
    mkdirSync(join(bare, 'node_modules/bullmq'), { recursive: true });
    const main = join(bare, 'dist/cli/main.js');
    const args = [main, 'queue', 'status', '--queue', redis.url];
    const { status: exit, stderr } = await run(process.execPath, args, dir);
    const text = 'a queue needs two packages that are not here: npm install bullmq ioredis';
    expect([exit, stderr]).toEqual([1, `qcow2: ${text}\n`]);
  });
});

describe('parts', () => {
  it('the URL of a queue', () => {
    expect(queueAddress('redis://host')).toEqual({
      label: 'redis://host:6379/0',
      options: { host: 'host', port: 6379, db: 0 },
    });
    expect(queueAddress('rediss://me:a%40b@[::1]:7000/2')).toEqual({
      label: 'rediss://[::1]:7000/2',
      options: {
        host: '::1',
        port: 7000,
        db: 2,
        username: 'me',
        password: 'a@b',
        tls: {},
      },
    });
  });

  it('a job is the same behind the queue as in the job file', async () => {
    const all = {
      input: ['a.img', 'b.img'],
      inputFormat: 'raw',
      target: 'x/y.qcow2',
      format: 'qcow2',
      compress: true,
      compressionLevel: 'fast',
      create: { clusterSize: 65536, dataFileRaw: false },
      allowExternal: ['.'],
      share: true,
      checkSource: true,
      verify: true,
      checksum: 'sha256',
      digest: '0'.repeat(64),
    };
    writeFileSync(
      join(dir, 'all.json'),
      JSON.stringify({ jobs: [all, { ...all, input: 'a.img', allowExternal: 'any' }] }),
    );
    for (const job of readJobFile(join(dir, 'all.json'))) {
      const [entry] = await queuedJobs([job]);
      const { data } = entry!;
      expect(jobOf(JSON.parse(JSON.stringify(data))).job).toEqual(job);
    }
  });

  it.each([
    [null],
    [{}],
    [{ job: { input: 'a', target: 'b', format: 'raw' } }],
    [{ job: { input: 'a', target: 'b', format: 'raw' }, sources: [{ size: 'x' }] }],
    [{ job: { input: 'a', target: 'b', format: 'raw', threads: 99 }, sources: [] }],
  ])('what is no job is refused: %j', (data) => {
    expect(() => jobOf(data)).toThrow(/not a job|unknown key/);
  });

  it('names without a place are outside, and `any` file is any below the root', () => {
    const root = new Root(dir);
    const job = (path: string) => ({
      inputs: [{ path }],
      target: join(dir, 'x'),
      targetFormat: 'raw' as const,
    });
    for (const path of [
      'a.img',
      `${dir}/../x`,
      `${dir}x/a`,
      '/',
      'https:/host/a',
      ' https://host/a',
      `${dir}/a.img/b`,
    ])
      expect(() => root.confine(job(path)), path).toThrow(/is not below the root/);
    const confined = root.confine({ ...job(join(dir, 'a.img')), allowExternal: 'any' });
    expect(confined.allowExternal).toEqual([root.path]);
  });
});
