import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { makeContent } from '../support/data.ts';
import { sha256File } from '../support/digest.ts';
import { RangeServer } from '../support/http-server.ts';
import { run, runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { type Ended, ended, startNode } from './support.ts';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
let dir: string;
let server: RangeServer;

beforeAll(async () => {
  dir = makeTempDir('packed-sources');
  writeFileSync(join(dir, 'base.raw'), makeContent('mixed', 1 << 20, 1));
  const create = ['create', '-q', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', 'top.qcow2'];
  await runOk('qemu-img', create, dir);
  for (const name of ['base.raw', 'top.qcow2'])
    writeFileSync(join(dir, `${name}.gz`), gzipSync(readFileSync(join(dir, name))));
  const names = ['base.raw', 'base.raw.gz', 'top.qcow2.gz'];
  server = new RangeServer(
    Object.fromEntries(names.map((name) => [name, readFileSync(join(dir, name))])),
  );
  await server.open();
});
afterAll(async () => {
  await server?.close();
  removeTempDir(dir);
});

function batch(name: string, input: string, ...options: string[]): Promise<Ended> {
  mkdirSync(join(dir, name), { recursive: true });
  const journal = ['--resume', '--journal', `${name}/journal`];
  const args = [MAIN, 'batch', ...journal, '-O', 'raw', '-d', name, ...options, input];
  return ended(startNode(args, dir));
}

it.each([
  ['raw', 'base.raw.gz', ['-f', 'raw']],
  ['qcow2', 'top.qcow2.gz', ['-f', 'qcow2']],
  ['probed', 'top.qcow2.gz', []],
  ['raw-url', 'URL/base.raw.gz', []],
  ['qcow2-url', 'URL/top.qcow2.gz?key=t0ken', ['-f', 'qcow2']],
])(
  'packed inputs are checked, verified and resumed as what they hold: %s',
  async (name, at, format) => {
    const input = at.replace('URL', server.origin);
    const options = [...format, '--check', '--verify', '--checksum', 'sha256'];
    const first = await batch(name, input, ...options);
    expect([first.stderr, first.status]).toEqual(['', 0]);
    expect(first.stdout).toContain(
      `sha256 ${sha256File(join(dir, 'base.raw'))}\n1 image converted`,
    );
    const again = await batch(name, input, ...options);
    expect([again.stderr, again.stdout]).toEqual(['', expect.stringMatching(/1 done before, /)]);
    expect(readFileSync(join(dir, name, 'journal'), 'utf8')).not.toContain('t0ken');
  },
);

it('what lies below a packed overlay is part of its version', async () => {
  const options = ['-f', 'qcow2'];
  expect((await batch('below', 'top.qcow2.gz', ...options)).stdout).toMatch(/^1 image conv/m);
  writeFileSync(join(dir, 'base.raw'), makeContent('mixed', 1 << 20, 2));
  expect((await batch('below', 'top.qcow2.gz', ...options)).stdout).toMatch(/^1 image conv/m);
  expect((await batch('below', 'top.qcow2.gz', ...options)).stdout).toMatch(/1 done before/);
  await runOk('cmp', ['base.raw', 'below/top.raw'], dir);
});

it('what is too large for memory is kept beside the target, for as long as the job runs', async () => {
  const disk = Buffer.alloc(65 << 20, makeContent('random', 1 << 20, 3));
  const [raw, image] = ['large-disk', 'large-image'].map((name) => join(dir, name));
  writeFileSync(raw!, disk);
  await runOk('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw!, image!], dir);
  writeFileSync(join(dir, 'large.qcow2.gz'), gzipSync(readFileSync(image!), { level: 1 }));
  const { stderr, status } = await batch('large', 'large.qcow2.gz', '-f', 'qcow2', '--verify');
  expect([stderr, status]).toEqual(['', 0]);
  expect(readdirSync(join(dir, 'large')).sort()).toEqual(['journal', 'large.raw']);
  expect(readFileSync(join(dir, 'large/large.raw')).equals(disk)).toBe(true);
});

it('a target of a packed disk that is not what it must be does not appear', async () => {
  const digest = '0'.repeat(64);
  const job = {
    input: 'base.raw.gz',
    target: 'bad.raw',
    format: 'raw',
    checksum: 'sha256',
    digest,
  };
  writeFileSync(join(dir, 'bad.json'), JSON.stringify({ jobs: [job] }));
  const { status, stderr } = await run(process.execPath, [MAIN, 'batch', 'bad.json'], dir);
  expect([status, stderr]).toEqual([
    1,
    expect.stringMatching(/was not made: the sha256 of the source's disk is /),
  ]);
  expect((await run('ls', ['bad.raw'], dir)).status).not.toBe(0);
});
