import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseResize, parseSize, parseWholeNumber } from '../../src/cli/sizes.ts';
import { run } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

let dir: string;
beforeAll(() => {
  dir = makeTempDir('sizes');
});
afterAll(() => removeTempDir(dir));

/** Null: refused. */
function ours(parse: (text: string, what: string) => number, text: string): number | null {
  try {
    return parse(text, 'size');
  } catch {
    return null;
  }
}

/** The number qemu-img reads, or null if it refuses the text. Nothing is created: the option is bad. */
async function theirs(format: string, options: string[], text: string, key: string) {
  // An unknown preallocation mode ends the command after the values were printed.
  const args = ['create', '-f', format, '-o', 'preallocation=none', ...options];
  const { stdout } = await run('qemu-img', [...args, '--', 'image', text], dir);
  const found = new RegExp(` ${key}=(-?\\d+)`).exec(stdout)?.[1];
  return found === undefined ? null : Number(found);
}

// Fractions that round up to a whole unit are left out: qemu-img loses the unit.
const SIZES =
  `0 1 100 513 00 08 07k 1b 1B 1k 1K 1m 1M 1g 1t 1p 1e3 .5G 1.5G 1.5k 1.5 1.5b 1.0 1.0b 1.b 1. 1.k
  0.1G 0.3G 1.1T 1.7P 0.5k 0.9999k 1.0005k 1.9999k 1.00048828125k 1.23456789012345678901G 0.0001k
  0x10 0X10 0x1b 0x1e 0x10k 0x 0xg 0x1.8k 1x 1kk 1k1 1KB 1KiB 1,5k 2e3k 1.5e2k 1..5k -1 -0 -5k 1.-5k +5M ++5
  nan inf 4503599627370496 9007199254740991`
    .split(/\s+/)
    .concat('', ' ', ' 1M', '1M ', '\t1k', '+ 5', '1. 5k');

describe('sizes', () => {
  it.each(SIZES)('reads %j as qemu-img does', async (text) => {
    expect(ours(parseSize, text)).toBe(await theirs('raw', [], text, 'size'));
  });

  it.each(['8P', '7E', '16E', '9007199254740992', '18446744073709551616'])(
    'refuses %s, which is beyond 2^53 - 1',
    (text) => {
      expect(() => parseSize(text, 'image size')).toThrow(/largest supported value/);
    },
  );

  it('names the value and says what is accepted, on one line', () => {
    expect(() => parseSize('1x', 'image size')).toThrow(/^invalid image size '1x': .*suffixes.*$/);
  });
});

describe('whole numbers', () => {
  it.each(['16', '0x10', '010', ' 16', '08', '16k', 'foo', '', '1.0', '+8', '0'])(
    'reads %j as qemu-img does',
    async (text) => {
      const expected = await theirs(
        'qcow2',
        ['-o', `refcount_bits=${text}`],
        '1M',
        'refcount_bits',
      );
      expect(ours(parseWholeNumber, text)).toBe(expected);
    },
  );
});

describe('sizes that may be relative', () => {
  it.each([
    ['20M', 20n << 20n],
    ['+1k', 5024n],
    ['-1k', 2976n],
    ['++1k', 5024n],
    ['-5000', -1000n],
    ['16383P', 16383n << 50n],
  ])('%s', (text, expected) => {
    expect(parseResize(text, 4000)).toBe(expected);
  });

  it.each([
    ['', "Parameter 'size' expects"],
    ['+', "Parameter 'size' expects"],
    ['--5', "Parameter 'size' expects"],
    ['5x', "Parameter 'size' expects"],
    ['16E', "Value '16E' is out of range"],
    ['+16E', "Value '16E' is out of range"],
  ])('refuses %j', (text, message) => {
    expect(() => parseResize(text, 4000)).toThrow(message);
  });
});
