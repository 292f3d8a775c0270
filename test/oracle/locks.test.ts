import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openImage } from '../../src/node/open-image.ts';
import { FileStorage } from '../../src/storage/file.ts';
import { type RunResult, run } from '../support/run.ts';
import { qemuImg } from './tools.ts';
import { Workshop } from './workshop.ts';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
// Its threads are built files.
const { convertFile }: typeof import('../../src/node.ts') = await import(
  new URL('../../dist/node.js', import.meta.url).href
);
const HIDE_KOFFI = fileURLToPath(new URL('../support/hide-koffi.cjs', import.meta.url));

const workshop = new Workshop('oracle-locks');
beforeAll(() => workshop.open());
afterAll(() => workshop.close());

/** Works in a folder with an image, an overlay of it and a raw disk. */
function inFolder(work: (dir: string) => Promise<void>): Promise<void> {
  return workshop.inFolder(async (dir) => {
    await qemuImg('create -q -f qcow2 a.qcow2 1M'.split(' '), dir);
    await qemuImg('create -q -f qcow2 -b a.qcow2 -F qcow2 top.qcow2'.split(' '), dir);
    await qemuImg('create -q -f raw disk.raw 1M'.split(' '), dir);
    await work(dir);
  });
}

/** qemu-io with an image open until its standard input ends. */
async function holding(args: readonly string[], dir: string): Promise<ChildProcess> {
  const child = spawn('qemu-io', [...args], { cwd: dir, stdio: ['pipe', 'pipe', 'inherit'] });
  // Its prompt comes when the image is open.
  await once(child.stdout!, 'data');
  return child;
}

async function release(child: ChildProcess): Promise<void> {
  child.stdin!.end('quit\n');
  await once(child, 'exit');
}

type Tool = (command: string, dir: string) => Promise<RunResult>;

const withKoffi: Tool = (command, dir) => run(process.execPath, [MAIN, ...command.split(' ')], dir);
const withoutKoffi: Tool = (command, dir) =>
  run(process.execPath, ['-r', HIDE_KOFFI, MAIN, ...command.split(' ')], dir);

/** What qemu-img says of a command that it refuses, less what program and file it names in front. */
async function refusalOfQemu(command: string, dir: string): Promise<string> {
  const { status, stderr } = await run('qemu-img', command.split(' '), dir);
  expect(status, `qemu-img ${command}`).toBe(1);
  const [words] = /Failed to get .* lock\nIs another process using the image \[.*\]\?$/m.exec(
    stderr,
  )!;
  return words!.replace('\n', ': ');
}

const READING = ['info a.qcow2', 'map a.qcow2', 'check a.qcow2', 'measure a.qcow2'] as const;
const COPYING = ['convert -f qcow2 a.qcow2 new.raw', 'convert -m 1 top.qcow2 new.raw'] as const;
const WRITING = [
  'resize a.qcow2 2M',
  'snapshot -c one a.qcow2',
  'bench -w -c 1 -f qcow2 a.qcow2',
  'convert -O qcow2 disk.raw a.qcow2',
  'create -f qcow2 a.qcow2 1M',
  'dd if=disk.raw of=a.qcow2',
] as const;

describe('images that QEMU has open', () => {
  test('for writing: nobody reads or writes them unless told to share', { timeout: 60_000 }, () =>
    inFolder(async (dir) => {
      const writer = await holding(['a.qcow2'], dir);
      for (const command of [...READING, ...COPYING, ...WRITING]) {
        const words = await refusalOfQemu(command, dir);
        for (const tool of [withKoffi, withoutKoffi]) {
          const refused = await tool(command, dir);
          expect(refused.status, command).toBe(1);
          expect(refused.stderr, command).toMatch(/^qcow2: Could not (open|create) '.*\n$/);
          expect(refused.stderr, command).toContain(words);
        }
      }
      for (const command of [...READING, ...COPYING]) {
        const [verb, ...rest] = command.split(' ');
        const shared = await withKoffi([verb, '-U', ...rest].join(' '), dir);
        expect(shared.status, `-U ${command}`).toBe(0);
      }
      for (const command of ['snapshot -U -c two a.qcow2', 'bench -U -w a.qcow2']) {
        const [words = ''] = /force-share=on .*/.exec(
          (await run('qemu-img', command.split(' '), dir)).stderr,
        )!;
        expect((await withKoffi(command, dir)).stderr).toContain(words);
      }
      await release(writer);
      expect((await withKoffi('resize -q a.qcow2 2M', dir)).status).toBe(0);
    }),
  );

  test('for reading, as a backing file: they are only read', { timeout: 60_000 }, () =>
    inFolder(async (dir) => {
      const reader = await holding(['-r', 'top.qcow2'], dir);
      for (const command of [...READING, ...COPYING])
        expect((await withKoffi(command, dir)).status, command).toBe(0);
      expect((await withoutKoffi('info a.qcow2', dir)).status).toBe(0);
      for (const command of WRITING) {
        const words = await refusalOfQemu(command, dir);
        for (const tool of [withKoffi, withoutKoffi])
          expect((await tool(command, dir)).stderr, command).toContain(words);
      }
      await release(reader);
    }),
  );
});

/** Bytes of files on which there are locks, by name. */
function lockedBytes(dir: string): Record<string, string[]> {
  const lines = fs.readFileSync('/proc/locks', 'latin1').split('\n');
  const found: Record<string, string[]> = {};
  for (const name of fs.readdirSync(dir)) {
    const { dev, ino } = fs.statSync(join(dir, name));
    // Files of other file systems have the same numbers.
    const minor = ((dev & 0xff) | ((dev >> 12) & 0xfff00)).toString(16).padStart(2, '0');
    const major = ((dev >> 8) & 0xfff).toString(16).padStart(2, '0');
    const ranges = lines
      .filter((line) => line.includes(` ${major}:${minor}:${ino} `))
      .map((line) => line.trim());
    const bytes = ranges.flatMap((line) => {
      const [first = 0, last = 0] = line.split(/\s+/).slice(-2).map(Number);
      return Array.from(
        { length: last - first + 1 },
        (_, i) => `${line.split(/\s+/)[3]} ${first + i}`,
      );
    });
    if (bytes.length > 0) found[name] = bytes.sort();
  }
  return found;
}

describe('images that we have open', () => {
  test.each([{ writable: true }, { writable: false }])(
    '%o: the locks are those of QEMU, until it is closed',
    (options) =>
      inFolder(async (dir) => {
        const qemu = await holding([...(options.writable ? [] : ['-r']), 'top.qcow2'], dir);
        // Others lock files meanwhile, and the list is not read at once.
        const both = ['a.qcow2', 'top.qcow2'];
        await expect.poll(() => Object.keys(lockedBytes(dir))).toEqual(both);
        const expected = lockedBytes(dir);
        await release(qemu);
        const image = await openImage(join(dir, 'top.qcow2'), options);
        await image.chain();
        await expect.poll(() => lockedBytes(dir)).toEqual(expected);
        await image.close();
        expect(lockedBytes(dir)).toEqual({});
        const looking = await openImage(join(dir, 'top.qcow2'), { holdLocks: false });
        const sharing = await openImage(join(dir, 'top.qcow2'), { share: true });
        expect(lockedBytes(dir)).toEqual({});
        await looking.close();
        await sharing.close();
      }),
  );

  test(
    'for writing: QEMU, another process of ours and this one are refused',
    { timeout: 60_000 },
    () =>
      inFolder(async (dir) => {
        const image = await openImage(join(dir, 'a.qcow2'), { writable: true });
        for (const command of ['info a.qcow2', 'resize a.qcow2 2M', 'map top.qcow2']) {
          const words = await refusalOfQemu(command, dir);
          for (const tool of [withKoffi, withoutKoffi]) {
            const { status, stderr } = await tool(command, dir);
            expect(status, command).toBe(1);
            expect(stderr, command).toContain(words);
          }
        }
        await expect(openImage(join(dir, 'a.qcow2'))).rejects.toMatchObject({
          code: 'REFUSED',
          message: expect.stringContaining('Failed to get shared "write" lock'),
        });
        expect((await run('qemu-img', ['info', '-U', 'a.qcow2'], dir)).status).toBe(0);
        await image.close();
        expect((await run('qemu-img', ['resize', '-q', 'a.qcow2', '2M'], dir)).status).toBe(0);
      }),
  );

  test('for writing: a second writer in the same process is refused, by any name', () =>
    inFolder(async (dir) => {
      fs.linkSync(join(dir, 'a.qcow2'), join(dir, 'link.qcow2'));
      fs.symlinkSync('a.qcow2', join(dir, 'symlink.qcow2'));
      const image = await openImage(join(dir, 'a.qcow2'), { writable: true });
      await image.write(0, new Uint8Array(65536).fill(1));
      for (const name of ['a.qcow2', 'link.qcow2', 'symlink.qcow2'])
        for (const sync of [false, true])
          await expect(openImage(join(dir, name), { writable: true, sync })).rejects.toMatchObject({
            code: 'REFUSED',
            message: expect.stringContaining('Failed to get "write" lock'),
          });
      // A descriptor that was refused and closed has taken no lock of the first one with it.
      await refusalOfQemu('resize a.qcow2 2M', dir);
      await image.close();
      const next = await openImage(join(dir, 'link.qcow2'), { writable: true });
      const bytes = new Uint8Array(65536);
      await next.read(0, bytes);
      expect(bytes.every((byte) => byte === 1)).toBe(true);
      await next.close();
    }));

  test('for reading: others read, and nobody writes', { timeout: 60_000 }, () =>
    inFolder(async (dir) => {
      const image = await openImage(join(dir, 'top.qcow2'));
      await image.chain();
      for (const name of ['top.qcow2', 'a.qcow2']) {
        expect((await run('qemu-img', ['info', name], dir)).status).toBe(0);
        const words = await refusalOfQemu(`resize ${name} 2M`, dir);
        expect((await withKoffi(`resize ${name} 2M`, dir)).stderr).toContain(words);
      }
      await image.close();
    }),
  );

  test('are free again after a crash', { timeout: 60_000 }, () =>
    inFolder(async (dir) => {
      const args = [MAIN, ...'bench -w -c 100000000 -f qcow2 a.qcow2'.split(' ')];
      const child = spawn(process.execPath, args, {
        cwd: dir,
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      await once(child.stdout!, 'data');
      await refusalOfQemu('resize a.qcow2 2M', dir);
      child.kill('SIGKILL');
      await once(child, 'exit');
      expect(lockedBytes(dir)).toEqual({});
      expect((await withKoffi('check a.qcow2', dir)).status).not.toBe(1);
    }),
  );

  test.each([1, 2])('a conversion by %i threads locks what it reads and replaces', (threads) =>
    inFolder(async (dir) => {
      const source = new FileStorage(join(dir, 'source'), { mode: 'create' });
      await source.write(64 << 20, new Uint8Array(512).fill(1));
      source.allocate(0, 64 << 20);
      source.close();
      fs.writeFileSync(join(dir, 'target'), 'old');
      const locked = new Set<string>();
      await convertFile({
        inputs: [{ path: join(dir, 'source') }],
        target: join(dir, 'target'),
        targetFormat: 'raw',
        sparseSize: 0,
        threads,
        onProgress: () => void locked.add(JSON.stringify(lockedBytes(dir))),
      });
      const reader = ['READ 100', 'READ 201', 'READ 203'];
      const writer = ['READ 100', 'READ 101', 'READ 103', 'READ 201', 'READ 203'];
      expect([...locked].map((text) => JSON.parse(text))).toEqual([
        { source: reader, target: writer },
      ]);
      expect(lockedBytes(dir)).toEqual({});
    }),
  );

  test('a disk written in place by several threads is locked', () =>
    inFolder(async (dir) => {
      fs.writeFileSync(join(dir, 'source'), Buffer.alloc(40 << 20, 1));
      fs.writeFileSync(join(dir, 'target'), Buffer.alloc(40 << 20, 2));
      let refusals = 0;
      await convertFile({
        inputs: [{ path: join(dir, 'source') }],
        target: join(dir, 'target'),
        targetFormat: 'raw',
        noCreate: true,
        threads: 2,
        onProgress: () => {
          if (refusals > 0) return;
          expect(lockedBytes(dir).target).toHaveLength(5);
          refusals++;
        },
      });
      expect(refusals).toBe(1);
      execFileSync('cmp', ['source', 'target'], { cwd: dir });
    }));
});

describe('without koffi', () => {
  test('it is said once that a file was written without locks', { timeout: 60_000 }, () =>
    inFolder(async (dir) => {
      const warning = /^qcow2: warning: other programs could not see .*\n$/;
      expect((await withoutKoffi('resize top.qcow2 2M', dir)).stderr).toMatch(warning);
      expect((await withoutKoffi('convert -n disk.raw disk2.raw', dir)).status).toBe(1);
      fs.copyFileSync(join(dir, 'disk.raw'), join(dir, 'disk2.raw'));
      expect((await withoutKoffi('convert -n disk.raw disk2.raw', dir)).stderr).toMatch(warning);
      for (const command of [
        'resize -q top.qcow2 3M',
        'snapshot -l top.qcow2',
        'convert a.qcow2 disk2.raw',
        'check top.qcow2',
      ])
        expect(await withoutKoffi(command, dir), command).toMatchObject({ status: 0, stderr: '' });
      expect((await withKoffi('resize top.qcow2 4M', dir)).stderr).toBe('');
    }),
  );
});
