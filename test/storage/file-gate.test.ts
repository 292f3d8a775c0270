import * as fs from 'node:fs';
import { join, relative } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isQcow2Error } from '../../src/errors.ts';
import { FileStorage } from '../../src/storage/file.ts';
import { folderGate, openThroughGate } from '../../src/storage/file-gate.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

let top: string;

/** `top/in` is the image's folder; `top/out` and all above it are not its business. */
beforeAll(() => {
  top = makeTempDir('gate');
  for (const folder of ['in/sub/deep', 'out/dir', 'more'])
    fs.mkdirSync(join(top, folder), { recursive: true });
  for (const file of [
    'in/top.img',
    'in/base',
    'in/sub/base',
    'out/base',
    'out/dir/base',
    'more/base',
  ])
    fs.writeFileSync(join(top, file), file);
  const links: Record<string, string> = {
    'in/to-base': 'base',
    'in/to-sub': 'sub',
    'in/to-out': '../out',
    'in/to-out-base': '../out/base',
    'in/to-dir': join(top, 'out/dir'),
    'in/to-none': '../out/none',
    'in/to-missing': 'missing',
    'in/to-self': 'to-self',
    'in/to-in': join(top, 'in'),
    'in/back': '../out/to-in/base',
    'in/back-by-none': '../out/none/../../in/base',
    'in/up': '..',
    'out/to-in': '../in',
    'to-in': 'in',
  };
  for (const [name, target] of Object.entries(links)) fs.symlinkSync(target, join(top, name));
});
afterAll(() => removeTempDir(top));

/** The name of what was opened, `refused`, or the code of the error. */
function outcome(
  name: string,
  image = join(top, 'in/top.img'),
  allow: string[] | 'any' = [],
): string {
  try {
    const storage = openThroughGate(folderGate(image, allow), name, image, { sync: true });
    if (storage === null) return 'refused';
    const bytes = new Uint8Array(50);
    const text = Buffer.from(bytes.subarray(0, storage.read(0, bytes) as number)).toString();
    storage.close();
    return text;
  } catch (error) {
    if (isQcow2Error(error)) return error.code;
    throw error;
  }
}

describe('the folder gate', () => {
  it.each([
    ['base', 'in/base'],
    ['./sub//base', 'in/sub/base'],
    ['sub/../base', 'in/base'],
    ['sub/deep/../base', 'in/sub/base'],
    ['../in/base', 'in/base'],
    ['to-base', 'in/base'],
    ['to-sub/base', 'in/sub/base'],
    ['to-sub/../base', 'in/base'],
    ['to-in/base', 'in/base'],
    ['up/in/base', 'in/base'],
    ['sub', 'REFUSED'],
    ['missing', 'NOT_FOUND'],
    ['sub/missing', 'NOT_FOUND'],
    ['to-missing', 'NOT_FOUND'],
    ['base/x', 'IO'],
    ['../out/base', 'refused'],
    ['../out/none', 'refused'],
    ['..', 'refused'],
    ['.', 'refused'],
    ['../in', 'refused'],
    ['to-out/base', 'refused'],
    ['to-out/none', 'refused'],
    ['to-out-base', 'refused'],
    ['to-none', 'refused'],
    ['to-self', 'refused'],
    // Out and back in: whether `out/dir` and `out/none` exist must not show.
    ['../out/dir/../../in/base', 'refused'],
    ['../out/none/../../in/base', 'refused'],
    ['to-dir/../base', 'refused'],
    ['to-dir/../none', 'refused'],
    ['back-by-none', 'refused'],
    ['/etc/passwd', 'refused'],
    ['/no/such/file', 'refused'],
    ['/dev/null', 'refused'],
    ['/proc/self/cwd/package.json', 'refused'],
  ])('%s: %s', (name, wanted) => {
    expect(outcome(name)).toBe(wanted);
  });

  it('takes absolute names, through links as well', () => {
    expect(outcome(join(top, 'in/base'))).toBe('in/base');
    expect(outcome(join(top, 'to-in/base'))).toBe('in/base');
    expect(outcome(join(top, 'out/base'))).toBe('refused');
    expect(outcome(join(top, 'out/to-in/base'))).toBe('refused');
    expect(outcome(join(top, 'in-not/base'))).toBe('refused');
  });

  it('opens what is allowed besides, and only that', () => {
    const image = join(top, 'in/top.img');
    expect(outcome('../more/base', image, [join(top, 'more')])).toBe('more/base');
    expect(outcome('../more/none', image, [join(top, 'more')])).toBe('NOT_FOUND');
    expect(outcome('../out/base', image, [join(top, 'more')])).toBe('refused');
    expect(outcome('to-out/base', image, [join(top, 'out')])).toBe('out/base');
    expect(outcome('../out/base', image, ['/'])).toBe('out/base');
    expect(outcome('../out/base', image, 'any')).toBe('out/base');
    expect(outcome('../out/none', image, 'any')).toBe('NOT_FOUND');
    expect(outcome('../out', image, 'any')).toBe('REFUSED');
  });

  it('takes names from the folder of the image, however that is named', () => {
    const image = join(top, 'in/top.img');
    const here = relative(process.cwd(), image);
    expect(outcome('base', here)).toBe('in/base');
    expect(outcome('../out/base', here)).toBe('refused');
    expect(outcome('base', join(top, 'to-in/top.img'))).toBe('in/base');
    // Without a folder in the name it is the working directory's.
    const bare = folderGate('package.json');
    const opened = openThroughGate(bare, 'LICENSE', 'package.json', {});
    expect(opened).not.toBeNull();
    opened?.close();
    expect(openThroughGate(bare, join(top, 'out/base'), 'package.json', {})).toBeNull();
  });

  it('opens nothing outside, whatever the name', () => {
    const part = fc.constantFrom(
      ...['..', '.', '', 'in', 'out', 'sub', 'base', 'none', 'dir', 'to-out', 'to-dir', 'to-in'],
      ...['to-self', 'back', 'up', 'to-none', 'to-base', 'missing', 'deep'],
    );
    fc.assert(
      fc.property(fc.array(part, { maxLength: 7 }), fc.boolean(), (parts, absolute) => {
        const name = (absolute ? `${top}/` : '') + parts.join('/');
        const found = outcome(name);
        if (/^[a-z]+\//.test(found)) {
          expect(found.startsWith('in/')).toBe(true);
          expect(fs.readFileSync(absolute ? name : `${top}/in/${name}`, 'latin1')).toBe(found);
        }
      }),
      { numRuns: 400 },
    );
  });

  it('says the same whether or not a file outside exists', () => {
    const outside = join(top, 'out/secret');
    const names = [
      '../out/secret',
      'to-out/secret',
      outside,
      '../out/secret/../../in/base',
      'up/out/secret',
    ];
    const without = names.map((name) => outcome(name));
    fs.mkdirSync(outside);
    const asFolder = names.map((name) => outcome(name));
    fs.rmdirSync(outside);
    fs.writeFileSync(outside, 'secret');
    const asFile = names.map((name) => outcome(name));
    fs.rmSync(outside);
    expect(asFolder).toEqual(without);
    expect(asFile).toEqual(without);
    expect(new Set(without)).toEqual(new Set(['refused']));
  });

  it('refuses a path that is exchanged between judging and opening', () => {
    const image = join(top, 'in/top.img');
    const gate = folderGate(image);
    // A racing program: the folder becomes a link out of the tree right before `open`.
    const roots = {
      get roots() {
        return gate.roots;
      },
    };
    fs.mkdirSync(join(top, 'in/swapped'));
    fs.writeFileSync(join(top, 'in/swapped/base'), 'in/swapped');
    const options = {
      get mode(): 'r' {
        fs.renameSync(join(top, 'in/swapped'), join(top, 'in/was'));
        fs.symlinkSync(join(top, 'out'), join(top, 'in/swapped'));
        return 'r';
      },
    };
    expect(openThroughGate(roots, 'swapped/base', image, options)).toBeNull();
    fs.rmSync(join(top, 'in/swapped'));
  });

  it('closes what it refuses', () => {
    const before = fs.readdirSync('/proc/self/fd').length;
    for (let i = 0; i < 20; i++) outcome('to-out/base');
    for (let i = 0; i < 20; i++) expect(() => new FileStorage(top)).toThrow();
    expect(fs.readdirSync('/proc/self/fd').length).toBeLessThanOrEqual(before + 2);
  });
});
