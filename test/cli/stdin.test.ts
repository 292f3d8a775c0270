import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeContent } from '../support/data.ts';
import { firstDifference } from '../support/digest.ts';
import { RangeServer } from '../support/http-server.ts';
import { pipe } from '../support/pipe.ts';
import { runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

const folder = makeTempDir('stdin');
const at = (name: string): string => join(folder, name);
const sh = (line: string) => pipe(line, folder);
const server = new RangeServer({});
/** No whole number of sectors, clusters or chunks. */
const disk = makeContent('mixed', 9_000_777, 4);
/** More than is kept in memory, and not compressible. */
const LARGE_BYTES = 66 << 20;

beforeAll(async () => {
  writeFileSync(at('disk.raw'), disk);
  const large = new Uint8Array(LARGE_BYTES);
  const part = makeContent('random', 1 << 20, 9);
  for (let offset = 0; offset < LARGE_BYTES; offset += part.length) large.set(part, offset);
  writeFileSync(at('large.raw'), large);
  mkdirSync(at('spill'));
  const img = (...args: string[]) => runOk('qemu-img', args, folder);
  await img('convert', '-f', 'raw', '-O', 'qcow2', 'disk.raw', 'disk.qcow2');
  await img('convert', '-f', 'raw', '-O', 'qcow2', 'large.raw', 'large.qcow2');
  await img('convert', '-f', 'raw', '-O', 'raw', 'disk.raw', 'padded.raw');
  writeFileSync(at('disk.raw.gz'), gzipSync(disk));
  writeFileSync(at('disk.qcow2.gz'), gzipSync(readFileSync(at('disk.qcow2'))));
  await runOk('xz', ['-k', 'disk.qcow2'], folder);
  await server.open();
});

afterAll(async () => {
  await server.close();
  removeTempDir(folder);
});

/** What a command line that must fail says, on one line and without leaving a target. */
async function failure(line: string): Promise<string> {
  const { status, stderr } = await sh(line);
  expect(status).toBe(1);
  expect(stderr).toMatch(/^qcow2: [^\n]+\n$/);
  expect(readdirSync(folder).filter((name) => /^none|partial/.test(name))).toEqual([]);
  return stderr;
}

describe('a raw disk from standard input', () => {
  const cases = [
    '-O qcow2',
    '-O qcow2 -S 0',
    '-c -O qcow2',
    '-c -O qcow2 -o compression_type=zstd',
    '-O qcow2 -o cluster_size=2M',
    '-O qcow2 -o cluster_size=16k,extended_l2=on',
    '-O qcow2 -o compat=0.10',
    '-O raw',
    '-O raw -S 0',
  ];
  it.each(cases)('becomes the same file as from a file: %s', async (options) => {
    const both = `cat disk.raw | qcow2 convert -f raw ${options} - a.out && qcow2 convert -f raw ${options} disk.raw b.out`;
    expect(await sh(both)).toMatchObject({ status: 0, stderr: '' });
    expect(firstDifference(at('a.out'), at('b.out'))).toBe(-1);
  });

  it.each(['cluster_size=512', 'cluster_size=512,refcount_bits=64', 'cluster_size=1k'])(
    'with tables that outgrow their clusters is what QEMU reads: %s',
    async (create) => {
      const line = `cat disk.raw | qcow2 convert -f raw -O qcow2 -o ${create} - small.qcow2`;
      expect(await sh(line)).toMatchObject({ status: 0, stderr: '' });
      await runOk('qemu-img', ['check', 'small.qcow2'], folder);
      await runOk(
        'qemu-img',
        ['compare', '-f', 'raw', '-F', 'qcow2', 'disk.raw', 'small.qcow2'],
        folder,
      );
    },
  );

  it('is told apart from qcow2 by its first bytes', async () => {
    expect(await sh('cat disk.raw | qcow2 convert -O raw - a.out')).toMatchObject({ status: 0 });
    expect(firstDifference(at('a.out'), at('padded.raw'))).toBe(-1);
    expect(await sh('cat disk.qcow2 | qcow2 convert -O raw - a.out')).toMatchObject({ status: 0 });
    expect(firstDifference(at('a.out'), at('padded.raw'))).toBe(-1);
  });

  it('may come by another descriptor', async () => {
    const line = 'qcow2 convert -f raw -O raw <(cat disk.raw) a.out';
    expect(await sh(line)).toMatchObject({ status: 0, stderr: '' });
    expect(firstDifference(at('a.out'), at('padded.raw'))).toBe(-1);
  });

  it('must have bytes', async () => {
    expect(await failure('true | qcow2 convert -f raw -O raw - none.raw')).toContain(
      'without a byte',
    );
  });

  it('of more than small clusters can map is refused', async () => {
    const line =
      'head -c 600M /dev/zero | qcow2 convert -f raw -O qcow2 -o cluster_size=512 - none';
    expect(await failure(line)).toMatch(/L1 table.*larger clusters/);
  });
});

describe('an image from standard input that is read in any order', () => {
  it('is a file if it was redirected', async () => {
    expect(await sh('qcow2 convert -O raw - a.out < large.qcow2')).toMatchObject({ status: 0 });
    expect(firstDifference(at('a.out'), at('large.raw'))).toBe(-1);
  });

  it('begins where it was read to', async () => {
    const line = '(head -c 512 > head; qcow2 convert -f raw -O raw - a.out) < padded.raw';
    expect(await sh(line)).toMatchObject({ status: 0, stderr: '' });
    expect(readFileSync(at('a.out')).equals(readFileSync(at('padded.raw')).subarray(512))).toBe(
      true,
    );
  });

  it('is kept in memory only if it is small', async () => {
    const line = 'cat large.qcow2 | qcow2 convert -O raw - none.raw';
    expect(await failure(line)).toMatch(/more than 64 MiB.*--spill DIR/);
  });

  it('is spilled to a file that nobody finds', async () => {
    const line = 'cat large.qcow2 | qcow2 convert -O raw --spill spill - a.out';
    expect(await sh(line)).toMatchObject({ status: 0, stderr: '' });
    expect(firstDifference(at('a.out'), at('large.raw'))).toBe(-1);
    expect(readdirSync(at('spill'))).toEqual([]);
    const missing = await failure('cat large.qcow2 | qcow2 convert -O raw --spill no - none');
    expect(missing).toMatch(/in 'no': No such file/);
  });

  it('names no files of the folder it is read in', async () => {
    await runOk(
      'qemu-img',
      ['create', '-q', '-f', 'qcow2', '-b', 'disk.qcow2', '-F', 'qcow2', 'top.qcow2'],
      folder,
    );
    const told = await failure('cat top.qcow2 | qcow2 convert -O raw - none.raw');
    expect(told).toContain('--allow-external');
    const line = 'cat top.qcow2 | qcow2 convert -O raw --allow-external . - a.out';
    expect(await sh(line)).toMatchObject({ status: 0, stderr: '' });
    expect(firstDifference(at('a.out'), at('padded.raw'))).toBe(-1);
  });
});

describe('a packed source', () => {
  it.each(['disk.raw.gz', 'disk.qcow2.gz', 'disk.qcow2.xz'])('is unpacked: %s', async (name) => {
    expect(await sh(`qcow2 convert -O raw ${name} a.out`)).toMatchObject({ status: 0, stderr: '' });
    expect(firstDifference(at('a.out'), at('padded.raw'))).toBe(-1);
  });

  it('is unpacked from a server', async () => {
    server.files['disk.qcow2.gz'] = readFileSync(at('disk.qcow2.gz'));
    const url = `${server.url('disk.qcow2.gz')}?token=1`;
    expect(await sh(`qcow2 convert -O raw '${url}' a.out`)).toMatchObject({
      status: 0,
      stderr: '',
    });
    expect(firstDifference(at('a.out'), at('padded.raw'))).toBe(-1);
  });

  it('is so by its name and its first bytes', async () => {
    await sh('cp disk.raw plain.gz; cp disk.raw.gz guest.raw');
    expect(await failure('qcow2 convert -O raw plain.gz none')).toContain('its name says gzip');
    expect(await sh('qcow2 convert -f raw -O raw guest.raw a.out')).toMatchObject({ status: 0 });
    const packed = readFileSync(at('disk.raw.gz'));
    expect(readFileSync(at('a.out')).subarray(0, packed.length).equals(packed)).toBe(true);
    const told = await failure('cat disk.raw.gz | qcow2 convert -O raw - none');
    expect(told).toMatch(/gzip.*unpack it first.*-f raw/);
    const line = 'cat disk.raw.gz | qcow2 convert -f raw -O raw - a.out';
    expect(await sh(line)).toMatchObject({ status: 0, stderr: '' });
  });

  it.each([
    ['head -c 100000 disk.raw.gz > t.raw.gz', 't.raw.gz'],
    ['head -c 100000 disk.qcow2.xz > t.qcow2.xz', 't.qcow2.xz'],
    [
      '(head -c 100000 disk.raw.gz; echo 12345678; tail -c +100010 disk.raw.gz) > b.raw.gz',
      'b.raw.gz',
    ],
    ['(cat disk.raw.gz; echo more) > m.raw.gz', 'm.raw.gz'],
    ['(cat disk.raw.gz; printf "\\0"; cat disk.raw.gz) > z.raw.gz', 'z.raw.gz'],
  ])('that is damaged is an error: %s', async (make, name) => {
    await sh(make);
    expect(await failure(`qcow2 convert -O raw ${name} none`)).toContain(`unpack '${name}'`);
  });

  it('unpacks to no more than is kept', async () => {
    await sh('gzip -1k large.qcow2; head -c 1M large.qcow2.gz > /dev/null');
    const told = await failure('qcow2 convert -O raw large.qcow2.gz none');
    expect(told).toContain('--spill');
    expect(existsSync(at('none'))).toBe(false);
  });

  it('may be followed by others and by zeros', async () => {
    await sh('(cat disk.raw.gz disk.raw.gz; head -c 1000 /dev/zero) > two.raw.gz');
    expect(await sh('qcow2 convert -O raw two.raw.gz a.out')).toMatchObject({
      status: 0,
      stderr: '',
    });
    const both = Buffer.concat([disk, disk]);
    expect(readFileSync(at('a.out')).subarray(0, both.length).equals(both)).toBe(true);
  });
});
