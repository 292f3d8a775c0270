import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { expandPatterns } from '../../src/batch/glob.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

let dir: string;
beforeAll(() => {
  dir = makeTempDir('glob');
  for (const folder of ['images/deep/deeper', 'images/.hidden', 'img2', 'x[1]'])
    mkdirSync(join(dir, folder), { recursive: true });
  const files = ['a.qcow2', 'b.qcow2', 'b.raw', '.c.qcow2', 'deep/d.qcow2', 'deep/deeper/e.qcow2'];
  for (const file of [...files, '.hidden/f.qcow2']) writeFileSync(join(dir, 'images', file), '');
  writeFileSync(join(dir, 'img2/a+b.qcow2'), '');
  writeFileSync(join(dir, 'x[1]/é.raw'), '');
  symlinkSync('..', join(dir, 'images/deep/up'));
});
afterAll(() => removeTempDir(dir));

const expand = (...patterns: string[]): string[] =>
  expandPatterns(patterns.map((pattern) => join(dir, pattern))).map((file) =>
    file.slice(dir.length + 1),
  );

describe('patterns', () => {
  it.each([
    ['images/*.qcow2', ['images/a.qcow2', 'images/b.qcow2']],
    ['images/?.*', ['images/a.qcow2', 'images/b.qcow2', 'images/b.raw']],
    ['images/[!a].qcow2', ['images/b.qcow2']],
    ['images/[a-b].qcow2', ['images/a.qcow2', 'images/b.qcow2']],
    ['images/.*', ['images/.c.qcow2']],
    ['im*/*+b.qcow2', ['img2/a+b.qcow2']],
    ['images/*/*.qcow2', ['images/deep/d.qcow2']],
    ['images/**/d*', ['images/deep/d.qcow2']],
    [
      'images/**/*.qcow2',
      ['images/a.qcow2', 'images/b.qcow2', 'images/deep/d.qcow2', 'images/deep/deeper/e.qcow2'],
    ],
    ['images/deep/**', ['images/deep/d.qcow2', 'images/deep/deeper/e.qcow2']],
    ['x[[]1]/?.raw', ['x[1]/é.raw']],
    ['x[1]/é.raw', ['x[1]/é.raw']],
    ['nothere.img', ['nothere.img']],
  ])('%s', (pattern, files) => {
    expect(expand(pattern)).toEqual(files);
  });

  it('are no URLs', () => {
    const url = 'https://images.example/[a]/disk.raw?key=*';
    expect(expandPatterns([url])).toEqual([url]);
  });

  it('name each file once', () => {
    expect(expand('images/a.qcow2', 'images/*.qcow2')).toEqual([
      'images/a.qcow2',
      'images/b.qcow2',
    ]);
  });

  it('are refused when they match nothing', () => {
    expect(() => expand('images/*.vmdk')).toThrow(
      expect.objectContaining({
        code: 'NOT_FOUND',
        message: expect.stringContaining('no file matches'),
      }),
    );
    expect(() => expand('images/[z-a]')).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
    );
  });
});
