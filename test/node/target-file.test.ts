import * as fs from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createFile, withTargets } from '../../src/node/create-file.ts';
import { TargetFile } from '../../src/node/target-file.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

let dir: string;
const at = (name: string): string => join(dir, name);
const text = (name: string): string => fs.readFileSync(at(name), 'latin1');

beforeEach(() => {
  dir = makeTempDir('target');
});
afterEach(() => removeTempDir(dir));

async function write(name: string, content: string): Promise<void> {
  await withTargets(at(name), undefined, async ({ storage }) => {
    storage.write(0, Buffer.from(content));
  });
}

describe('a target file', () => {
  it('appears when it is whole, and replaces what had the name only then', async () => {
    fs.writeFileSync(at('disk'), 'old');
    await withTargets(at('disk'), undefined, async ({ storage, partialPath }) => {
      storage.write(0, Buffer.from('new'));
      expect(text('disk')).toBe('old');
      expect(fs.readdirSync(dir).length).toBe(2);
      expect(fs.readFileSync(partialPath, 'latin1')).toBe('new');
    });
    expect(text('disk')).toBe('new');
    expect(fs.readdirSync(dir)).toEqual(['disk']);
  });

  it('leaves nothing behind when writing fails', async () => {
    fs.writeFileSync(at('disk'), 'old');
    const failing = withTargets(at('disk'), 'data', async () => {
      throw new Error('no more');
    });
    await expect(failing).rejects.toThrow('no more');
    expect(fs.readdirSync(dir)).toEqual(['disk']);
    expect(text('disk')).toBe('old');
  });

  it('keeps owner and permissions, and is never more open than what it replaces', async () => {
    fs.writeFileSync(at('disk'), 'old');
    for (const mode of [0o600, 0o640, 0o444, 0o666]) {
      fs.chmodSync(at('disk'), mode);
      if (process.getuid?.() === 0) fs.chownSync(at('disk'), 65534, 65533);
      const before = fs.statSync(at('disk'));
      const target = new TargetFile(at('disk'));
      const whileWriting = fs.statSync(target.partialPath).mode & 0o777;
      expect(whileWriting & ~(mode | 0o600)).toBe(0);
      await target.seal();
      target.publish();
      const { mode: kept, uid, gid } = fs.statSync(at('disk'));
      expect([kept & 0o7777, uid, gid]).toEqual([mode, before.uid, before.gid]);
    }
    fs.rmSync(at('disk'));
    await write('disk', 'x');
    expect(fs.statSync(at('disk')).mode & 0o777).toBe(0o644 & ~process.umask());
  });

  it('is written where symbolic links lead, be something there or not', async () => {
    fs.mkdirSync(at('far/deep'), { recursive: true });
    fs.mkdirSync(at('near'));
    fs.writeFileSync(at('far/file'), 'old');
    fs.symlinkSync('../far/file', at('near/to-file'));
    fs.symlinkSync('../far/deep', at('near/to-deep'));
    // Two hops, the second through `..` behind a link.
    fs.symlinkSync('hop', at('near/to-none'));
    fs.symlinkSync('to-deep/../none', at('near/hop'));
    await write('near/to-file', 'new');
    await write('near/to-none', 'made');
    expect(text('far/file')).toBe('new');
    expect(text('far/none')).toBe('made');
    for (const link of ['to-file', 'to-none', 'hop'])
      expect(fs.lstatSync(at(`near/${link}`)).isSymbolicLink()).toBe(true);
    expect(fs.readdirSync(at('far')).sort()).toEqual(['deep', 'file', 'none']);
  });

  it('refuses what is no regular file, with an error that says so', () => {
    fs.symlinkSync('loop', at('loop'));
    fs.writeFileSync(at('file'), '');
    for (const [name, code] of [
      ['.', 'REFUSED'],
      ['loop', 'IO'],
      ['none/disk', 'NOT_FOUND'],
      ['file/disk', 'IO'],
    ])
      expect(() => new TargetFile(at(name!))).toThrow(expect.objectContaining({ code }));
    expect(() => new TargetFile('/dev/null')).toThrow(expect.objectContaining({ code: 'REFUSED' }));
    expect(fs.readdirSync(dir).sort()).toEqual(['file', 'loop']);
  });
});

describe('an image and its data file', () => {
  it('appear together', async () => {
    await createFile({ path: at('disk'), format: 'qcow2', size: 1 << 20, dataFile: 'data' });
    expect(fs.readdirSync(dir).sort()).toEqual(['data', 'disk']);
    expect(fs.statSync(at('data')).size).toBe(1 << 20);
  });

  it('do not appear when the image cannot get its name', async () => {
    const failing = withTargets(at('disk'), 'data', async (image, data) => {
      data?.storage.write(0, Buffer.from('data'));
      image.storage.write(0, Buffer.from('image'));
      // Somebody makes a folder of that name meanwhile.
      fs.mkdirSync(at('disk'));
      fs.writeFileSync(at('disk/x'), '');
    });
    await expect(failing).rejects.toMatchObject({ code: 'IO' });
    expect(fs.readdirSync(dir)).toEqual(['disk']);
  });

  it('are not the same file, by whatever name', async () => {
    fs.writeFileSync(at('disk'), 'old');
    fs.symlinkSync('disk', at('link'));
    fs.linkSync(at('disk'), at('hard'));
    for (const name of ['disk', './disk', 'link', 'hard', at('disk')]) {
      const same = withTargets(at('disk'), name, async () => {});
      await expect(same).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    }
    expect(text('disk')).toBe('old');
    expect(fs.readdirSync(dir).sort()).toEqual(['disk', 'hard', 'link']);
  });
});
