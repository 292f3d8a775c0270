import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { qcow2 } from './command.ts';

let dir: string;
const home = process.cwd();
const qemuImg = async (...args: string[]) => (await runOk('qemu-img', args, dir)).stdout;
const create = (...args: string[]) => qemuImg('create', '-q', '-f', 'qcow2', ...args);
const write = (image: string, ...commands: string[]) =>
  runOk('qemu-io', [...commands.flatMap((command) => ['-c', command]), image], dir);

beforeAll(async () => {
  dir = makeTempDir('map');
  process.chdir(dir);
  mkdirSync(join(dir, 'sub'));
  await create('base', '4M');
  await write('base', 'write 0 1M', 'write -z 2M 128k', 'write 3M 64k');
  await create('-b', 'base', '-F', 'qcow2', 'top', '5M');
  await write('top', 'write 64k 64k', 'write -z 3M 64k', 'write 4M 64k');
  await create('-b', '../top', '-F', 'qcow2', 'sub/upper', '6M');
  await create('-o', 'data_file=data', 'external', '4M');
  await write('external', 'write 1M 1M', 'write -z 3M 64k');
  await create('compressed', '1M');
  await write('compressed', 'write -c 0 64k', 'write 128k 64k');
  await create('empty', '0');
  await qemuImg('create', '-q', '-f', 'raw', 'raw', '1M');
}, 30_000);
afterAll(() => {
  process.chdir(home);
  removeTempDir(dir);
});

const IMAGES = ['base', './top', 'empty', 'sub/upper'];

describe('map', () => {
  it.each(IMAGES)('of %s is what qemu-img prints', async (name) => {
    for (const style of ['human', 'json']) {
      const args = ['map', `--output=${style}`, name];
      const stdout = await qemuImg(...args);
      expect(await qcow2(...args, '--allow-external', dir)).toEqual({
        status: 0,
        stdout,
        stderr: '',
      });
    }
  });

  it.each([
    ['-s', '100', '-l', '200k'],
    ['--start-offset=100k', '--max-length', '3M'],
    ['--start-offset=3M', '--max-length=3M'],
    ['-s', '4M'],
    ['-s', '5M'],
    ['-l', '0'],
    ['-l', '1'],
  ])('of a part: %s %s %s %s', async (...range) => {
    const given = range.filter((arg) => arg !== undefined);
    for (const style of ['human', 'json']) {
      const args = ['map', `--output=${style}`, ...given, 'base'];
      const stdout = await qemuImg(...args);
      expect(await qcow2(...args)).toEqual({ status: 0, stdout, stderr: '' });
    }
  });

  it.each([['-f', 'raw', 'raw'], ['external'], ['top']])(
    'in JSON of %s %s %s',
    async (...given) => {
      const args = ['map', '--output=json', ...given];
      const stdout = await qemuImg(...args);
      expect(await qcow2(...args)).toEqual({ status: 0, stdout, stderr: '' });
    },
  );

  it('shows compressed clusters in JSON, and says why it cannot in the table', async () => {
    const stdout = await qemuImg('map', '--output=json', 'compressed');
    expect(await qcow2('map', '--output=json', 'compressed')).toEqual({
      status: 0,
      stdout,
      stderr: '',
    });
    const human = await qcow2('map', 'compressed');
    expect(human.status).toBe(1);
    expect(human.stderr).toMatch(/^qcow2: 65536 bytes at guest offset 0 are compressed [^\n]*\n$/);
  });

  it.each([['sub/upper'], ['nothere'], ['-f', 'qcow2', 'raw'], ['lost']])(
    'refuses %s %s %s before it prints anything',
    async (...args) => {
      await create('-u', '-b', 'nowhere', '-F', 'raw', 'lost', '1M');
      const { status, stdout, stderr } = await qcow2('map', ...args);
      expect([status, stdout]).toEqual([1, '']);
      expect(stderr).toMatch(/^qcow2: Could not open '[^\n]*\n$/);
    },
  );
});
