import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { subject } from '../oracle/tools.ts';
import { makeContent } from '../support/data.ts';
import { misbehaviours, RangeServer } from '../support/http-server.ts';
import { runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { qcow2 } from './command.ts';

const folder = makeTempDir('cli-http');
const at = (name: string): string => join(folder, name);
const server = new RangeServer({});
const disk = makeContent('mixed', 40 << 20, 3);

beforeAll(async () => {
  mkdirSync(at('sub'));
  writeFileSync(at('disk.raw'), disk);
  const img = (...args: string[]) => runOk('qemu-img', args, folder);
  await img('convert', '-O', 'qcow2', 'disk.raw', 'disk.qcow2');
  await img('convert', '-c', '-O', 'qcow2', 'disk.raw', 'packed.qcow2');
  await img('create', '-q', '-f', 'qcow2', '-b', 'disk.qcow2', '-F', 'qcow2', 'top.qcow2');
  await runOk('qemu-io', ['-c', 'write -P 7 1M 300k', 'top.qcow2'], folder);
  await img(
    'create',
    '-q',
    '-u',
    '-f',
    'qcow2',
    '-b',
    '../disk.qcow2',
    '-F',
    'qcow2',
    'sub/up.qcow2',
    '40M',
  );
  await img(
    'create',
    '-q',
    '-u',
    '-f',
    'qcow2',
    '-b',
    '/etc/passwd',
    '-F',
    'raw',
    'sub/etc.qcow2',
    '40M',
  );
  await server.open();
  const base = server.url('disk.qcow2');
  await img('create', '-q', '-u', '-f', 'qcow2', '-b', base, '-F', 'qcow2', 'local.qcow2', '40M');
  for (const name of [
    'disk.raw',
    'disk.qcow2',
    'packed.qcow2',
    'top.qcow2',
    'sub/up.qcow2',
    'sub/etc.qcow2',
  ])
    server.files[name] = readFileSync(at(name));
});
beforeEach(() => server.reset());
afterAll(async () => {
  await server.close();
  removeTempDir(folder);
});

async function ok(...args: string[]): Promise<string> {
  const { status, stdout, stderr } = await qcow2(...args);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return stdout;
}

/** In a process of its own, where there are threads. */
async function process(...args: string[]): Promise<void> {
  expect(await subject(args, folder)).toMatchObject({ status: 0, stderr: '' });
}

it('info needs few requests and bytes', async () => {
  const text = await ok('info', `${server.url('top.qcow2')}?token=secret`);
  expect(text).toContain(`image: ${server.url('top.qcow2')}?...\n`);
  expect(text).toContain('backing file: disk.qcow2');
  expect(text).not.toContain('secret');
  expect(server.requests.length).toBeLessThan(4);
  const chain = await ok('info', '--backing-chain', '--output=json', server.url('top.qcow2'));
  expect(JSON.parse(chain).length).toBe(2);
  expect(server.sent).toBeLessThan(2 << 20);
});

it('info of an image of 10 GB needs under 10 requests and 1 MB', async () => {
  await runOk('qemu-img', ['create', '-q', '-f', 'qcow2', 'big.qcow2', '10G'], folder);
  const fill = ['-c', 'write 0 64k', '-c', 'write 9G 64k'];
  await runOk('qemu-io', [...fill, 'big.qcow2'], folder);
  await runOk('qemu-img', ['snapshot', '-c', 'one', 'big.qcow2'], folder);
  server.files['big.qcow2'] = readFileSync(at('big.qcow2'));
  expect(await ok('info', server.url('big.qcow2'))).toContain('virtual size: 10 GiB');
  expect(server.requests.length).toBeLessThan(10);
  expect(server.sent).toBeLessThan(1e6);
});

it('a thread that is still opening when all is done is no failure', async () => {
  let opened = 0;
  server.reset(({ start, response, headers }) => {
    if (start !== 0 || ++opened !== 3) return false;
    response.writeHead(206, headers).flushHeaders();
    return true;
  });
  await process('compare', '-f', 'raw', at('disk.raw'), server.url('packed.qcow2'));
});

it('map, check, compare, measure and dd say the same as of files', async () => {
  for (const name of ['disk.qcow2', 'packed.qcow2', 'top.qcow2']) {
    const same = async (...args: string[]): Promise<void> => {
      const [remote, local] = [server.url(name), at(name)];
      const text = await ok(...args, remote);
      expect(text.replaceAll(server.origin, folder)).toBe(await ok(...args, local));
    };
    await same('map', '--output=json');
    await same('check');
    await same('check', '--output=json');
    await same('measure', '-O', 'qcow2');
  }
  await process('compare', '-f', 'raw', at('disk.raw'), server.url('packed.qcow2'));
  await process(
    'dd',
    '-f',
    'raw',
    'bs=64k',
    'skip=3',
    'count=9',
    `if=${server.url('disk.raw')}`,
    `of=${at('dd.raw')}`,
  );
  expect(readFileSync(at('dd.raw')).equals(disk.subarray(3 << 16, 9 << 16))).toBe(true);
});

describe('convert', () => {
  it.each(['disk.raw', 'disk.qcow2', 'packed.qcow2', 'top.qcow2'])(
    'of %s makes the same',
    async (name) => {
      for (const args of [
        ['-O', 'raw'],
        ['-c', '-O', 'qcow2'],
        ['-m', '1', '-O', 'qcow2'],
      ]) {
        const outcome = await subject(['convert', ...args, server.url(name), 'remote'], folder);
        expect(outcome).toMatchObject({ status: 0, stderr: '' });
        expect((await subject(['convert', ...args, name, 'local'], folder)).status).toBe(0);
        expect(readFileSync(at('remote')).equals(readFileSync(at('local')))).toBe(true);
      }
    },
  );

  it('fetches data hardly twice', async () => {
    const outcome = await subject(
      ['convert', '-m', '2', '-O', 'raw', server.url('disk.qcow2'), 'once.raw'],
      folder,
    );
    expect(outcome.status).toBe(0);
    expect(server.sent).toBeLessThan(server.files['disk.qcow2']!.length * 1.15);
  });

  it('makes nothing of a file that changes meanwhile', async () => {
    server.reset((asked) => asked.index > 9 && misbehaviours.otherETag(asked));
    const outcome = await subject(
      ['convert', '-O', 'raw', server.url('disk.qcow2'), 'changed.raw'],
      folder,
    );
    expect(outcome.status).toBe(1);
    expect(outcome.stderr).toMatch(
      /^qcow2: [^\n]*has changed on the server since it was opened\n$/,
    );
    expect(() => readFileSync(at('changed.raw'))).toThrow(/ENOENT/);
  });

  it('takes URLs by --image-opts and in a job file', async () => {
    const opts = `driver=qcow2,file.filename=${server.url('top.qcow2')},backing.driver=qcow2,backing.file.filename=${at('disk.qcow2')}`;
    await process('convert', '--image-opts', '-O', 'raw', opts, at('opts.raw'));
    await process('convert', '-O', 'raw', at('top.qcow2'), at('top.raw'));
    expect(readFileSync(at('opts.raw')).equals(readFileSync(at('top.raw')))).toBe(true);
    const url = `${server.url('disk.qcow2')}?sig=secret`;
    writeFileSync(
      at('jobs.json'),
      JSON.stringify({ jobs: [{ input: url, target: 'job.raw', format: 'raw' }] }),
    );
    const outcome = await subject(['batch', '--log=json', 'jobs.json'], folder);
    expect(outcome.status).toBe(0);
    expect(outcome.stdout + outcome.stderr).not.toContain('secret');
    expect(readFileSync(at('job.raw')).equals(disk)).toBe(true);
  });
});

describe('files that images name', () => {
  const read = (...args: string[]) =>
    subject(['convert', '-O', 'raw', ...args, at('named.raw')], folder);
  const refused = { status: 1, stderr: expect.stringMatching(/is not opened: [^\n]*\n$/) };

  it('are read from the folder of a remote image, and from nowhere else', async () => {
    expect(await read(server.url('top.qcow2'))).toMatchObject({ status: 0 });
    for (const name of ['sub/up.qcow2', 'sub/etc.qcow2']) {
      server.reset();
      expect(await read(server.url(name)), name).toMatchObject(refused);
      expect(await read('--allow-external', 'any', server.url(name)), name).toMatchObject(refused);
      expect(server.requests.map(({ path }) => path)).toEqual([name, name]);
    }
    expect(
      await read('--allow-external', `${server.origin}/`, server.url('sub/up.qcow2')),
    ).toMatchObject({ status: 0 });
  });

  it('are not fetched for a local image, unless their folder is allowed', async () => {
    expect(await read(at('local.qcow2'))).toMatchObject(refused);
    expect(await read('--allow-external', 'any', at('local.qcow2'))).toMatchObject(refused);
    expect(server.requests).toEqual([]);
    expect(await read('--allow-external', `${server.origin}/`, at('local.qcow2'))).toMatchObject({
      status: 0,
    });
    expect(readFileSync(at('named.raw')).equals(disk)).toBe(true);
  });

  it('do not lead to other places by a redirection', async () => {
    server.reset(({ request, response }) => {
      if (request.url !== '/disk.qcow2') return false;
      response.writeHead(302, { Location: '/disk.raw' }).end();
      return true;
    });
    expect(await read(server.url('top.qcow2'))).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/redirection/),
    });
  });
});
