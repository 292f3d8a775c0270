import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FileStorage } from '../../src/storage/file.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import { makeContent } from '../support/data.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

let dir: string;
const at = (name: string): string => join(dir, name);

beforeAll(() => {
  dir = makeTempDir('file');
});
afterAll(() => removeTempDir(dir));

describe.each([{ sync: true }, { sync: false }])('FileStorage %o', (options) => {
  const name = (base: string): string => at(`${base}-${options.sync}`);

  it('writes, reads short at the end, grows and shrinks', async () => {
    const storage = new FileStorage(name('new'), { mode: 'create', ...options });
    const bytes = makeContent('random', 100_000);
    await storage.write(5_000_000_000, bytes);
    expect(storage.size).toBe(5_000_100_000);
    const into = new Uint8Array(200_000);
    expect(await storage.read(5_000_000_000, into)).toBe(100_000);
    expect(Buffer.compare(into.subarray(0, 100_000), bytes)).toBe(0);
    expect(await storage.read(5_000_100_000, into)).toBe(0);
    storage.truncate(10);
    expect(storage.size).toBe(10);
    await storage.flush();
    storage.close();
    storage.close();
    expect(fs.statSync(name('new')).size).toBe(10);
  });

  it('asks the system to sync, unless it need not be durable', async () => {
    for (const durable of [true, false]) {
      const storage = new FileStorage(name(`sync-${durable}`), {
        mode: 'create',
        durable,
        ...options,
      });
      // A call with the descriptor fails from here on.
      fs.closeSync(storage.fd);
      if (durable) await expect(storage.flush()).rejects.toMatchObject({ code: 'IO' });
      else await storage.flush();
    }
  });

  it('refuses every call after it was closed', async () => {
    fs.writeFileSync(name('closed'), 'x');
    const storage = new FileStorage(name('closed'), { mode: 'r+', ...options });
    storage.close();
    // Whatever is opened now may get the descriptor's number.
    const other = new FileStorage(name('closed'), options);
    const calls = [
      async () => storage.read(0, new Uint8Array(1)),
      async () => storage.write(0, new Uint8Array(1)),
      async () => storage.truncate(0),
      async () => storage.flush(),
      async () => storage.extents(0, 1),
    ];
    for (const call of calls) await expect(call()).rejects.toMatchObject({ code: 'IO' });
    expect(fs.readFileSync(name('closed'), 'latin1')).toBe('x');
    other.close();
  });

  it('tells data and holes, and nothing of what a file that was cut off had', () => {
    const storage = new FileStorage(name('sparse'), { mode: 'create', ...options });
    storage.truncate(8 << 20);
    fs.writeSync(storage.fd, makeContent('random', 1 << 20), 0, 1 << 20, 4 << 20);
    const extents = storage.extents(0, 8 << 20);
    expect(extents[0]!.offset).toBe(0);
    expect(extents.reduce((sum, { length }) => sum + length, 0)).toBe(8 << 20);
    const data = extents.filter((extent) => extent.data);
    expect(data.some((e) => e.offset <= 4 << 20 && e.offset + e.length >= 5 << 20)).toBe(true);
    expect(storage.extents(8 << 20, 512)).toEqual([]);
    expect(storage.extents(9 << 20, 512)).toEqual([]);
    fs.truncateSync(name('sparse'), 1 << 20);
    expect(storage.extents(2 << 20, 4096)).toEqual([{ offset: 2 << 20, length: 4096, data: true }]);
    expect(storage.extents(0, 4096).every((e) => e.length === 4096)).toBe(true);
    storage.close();
  });

  it('names file, offset and the system’s error', async () => {
    fs.writeFileSync(name('ro'), 'x');
    const storage = new FileStorage(name('ro'), options);
    await expect((async () => storage.write(7, new Uint8Array(1)))()).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringContaining(`Could not write '${name('ro')}' at offset 7`),
    });
    storage.close();
  });
});

describe('FileStorage', () => {
  it('waits for reads under way before it closes the descriptor', async () => {
    fs.writeFileSync(at('busy'), makeContent('random', 1 << 20));
    fs.writeFileSync(at('other'), new Uint8Array(1 << 20));
    const wanted = fs.readFileSync(at('busy'));
    for (let round = 0; round < 20; round++) {
      const storage = new FileStorage(at('busy'));
      const buffers = Array.from({ length: 8 }, () => new Uint8Array(1 << 17));
      const reads = buffers.map((into, i) => storage.read(i << 17, into));
      storage.close();
      const others = [1, 2, 3].map(() => new FileStorage(at('other')));
      await Promise.all(reads);
      buffers.forEach((into, i) => {
        expect(Buffer.compare(into, wanted.subarray(i << 17, (i + 1) << 17))).toBe(0);
      });
      for (const other of others) other.close();
    }
  });

  it('opens regular files only, and does not wait for a FIFO', () => {
    execFileSync('mkfifo', [at('fifo')]);
    for (const name of [at('fifo'), dir, '/dev/null'])
      expect(() => new FileStorage(name)).toThrow(expect.objectContaining({ code: 'REFUSED' }));
    expect(() => new FileStorage(at('none'))).toThrow(
      expect.objectContaining({
        code: 'NOT_FOUND',
        details: expect.objectContaining({ errno: 'ENOENT' }),
      }),
    );
    fs.writeFileSync(at('there'), '');
    expect(() => new FileStorage(at('there'), { mode: 'create' })).toThrow(/File exists/);
  });

  it('reserves space and keeps what is there', () => {
    const storage = new FileStorage(at('reserved'), { mode: 'create', sync: true });
    storage.write(0, Uint8Array.of(1, 2, 3));
    storage.allocate(4096, 1 << 20);
    expect(storage.size).toBe(4096 + (1 << 20));
    expect(storage.allocatedSize).toBeGreaterThanOrEqual(1 << 20);
    const into = new Uint8Array(3);
    storage.read(0, into);
    expect([...into]).toEqual([1, 2, 3]);
    storage.close();
  });
});

/** Whether the file system shares blocks, by what cp says. */
function sharesBlocks(): boolean {
  fs.writeFileSync(at('probe'), makeContent('random', 65536));
  try {
    execFileSync('cp', ['--reflink=always', at('probe'), at('probe-2')], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

describe('copyRange', () => {
  const content = makeContent('random', 3 * 65536 + 1000);
  const files = (): [FileStorage, FileStorage] => {
    fs.writeFileSync(at('from'), content);
    fs.writeFileSync(at('to'), new Uint8Array(65536).fill(7));
    return [new FileStorage(at('from')), new FileStorage(at('to'), { mode: 'r+' })];
  };

  it('shares a range where the file system can, and else changes nothing', () => {
    const [from, to] = files();
    const expected = Buffer.alloc(65536 + content.length, 7);
    expected.set(content, 65536);
    const worked = to.copyRange(from, 0, content.length, 65536);
    expect(worked).toBe(sharesBlocks());
    expect(to.size).toBe(worked ? expected.length : 65536);
    from.close();
    to.close();
    expect(fs.readFileSync(at('to')).equals(expected.subarray(0, to.size))).toBe(true);
    expect(fs.readFileSync(at('from')).equals(content)).toBe(true);
  });

  it('answers no to what it cannot share', () => {
    const [from, to] = files();
    expect(to.copyRange(from, 0, content.length + 1, 0)).toBe(false);
    expect(to.copyRange(from, 1, 10, 3)).toBe(false);
    expect(to.copyRange(from, 0, 0, 0)).toBe(false);
    expect(to.copyRange(new MemoryStorage(content), 0, 65536, 0)).toBe(false);
    const readOnly = new FileStorage(at('to'), { share: true });
    expect(readOnly.copyRange(from, 0, 65536, 0)).toBe(false);
    expect(fs.readFileSync(at('to')).equals(Buffer.alloc(65536, 7))).toBe(true);
    for (const storage of [from, to, readOnly]) storage.close();
    expect(() => to.copyRange(from, 0, 65536, 0)).toThrow('closed');
  });
});
