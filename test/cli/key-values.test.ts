import { describe, expect, it } from 'vitest';
import { CreateOptionValues } from '../../src/cli/create-options.ts';
import { parseKeyValues, parseSwitch } from '../../src/cli/key-values.ts';

describe('option lists', () => {
  it.each([
    ['a=b', [['a', 'b']]],
    [
      'a=b,c=d',
      [
        ['a', 'b'],
        ['c', 'd'],
      ],
    ],
    ['a=b=c', [['a', 'b=c']]],
    ['a=', [['a', '']]],
    [
      'a=,b=1',
      [
        ['a', ''],
        ['b', '1'],
      ],
    ],
    ['a=x,,y', [['a', 'x,y']]],
    [
      'a=x,,y,,,b=1',
      [
        ['a', 'x,y,'],
        ['b', '1'],
      ],
    ],
    ['a=,,', [['a', ',']]],
    ['a', [['a']]],
    ['a,b=1', [['a'], ['b', '1']]],
    ['=x', [['', 'x']]],
  ])('splits %j', (text, expected) => {
    const pairs = parseKeyValues(text).map(({ key, value }) =>
      value === undefined ? [key] : [key, value],
    );
    expect(pairs).toEqual(expected);
  });

  it.each(['', ',a=1', 'a=1,', 'a,', ',', 'a,,b'])('refuses %j', (text) => {
    expect(() => parseKeyValues(text)).toThrow(/^invalid option list/);
  });

  it('reads switches as qemu-img spells them', () => {
    for (const text of ['on', 'yes', 'true', 'y']) expect(parseSwitch(text, 'k')).toBe(true);
    for (const text of ['off', 'no', 'false', 'n']) expect(parseSwitch(text, 'k')).toBe(false);
    for (const text of ['', 'On', '1', 'toString'])
      expect(() => parseSwitch(text, 'k')).toThrow("option 'k' is on or off");
  });
});

describe('creation options', () => {
  it('lets the later of two values win', () => {
    const values = new CreateOptionValues('qcow2', ['compat=v3,cluster_size=4k', 'compat=0.10']);
    expect(values.settings()).toEqual({ compat: '0.10', clusterSize: 4096 });
  });

  it('takes bare switches', () => {
    const on = new CreateOptionValues('qcow2', ['lazy_refcounts']);
    expect(on.settings()).toEqual({ lazyRefcounts: true });
    const off = new CreateOptionValues('qcow2', ['nolazy_refcounts']);
    expect(off.settings()).toEqual({ lazyRefcounts: false });
  });

  it.each([
    ['foo=1', "unknown option 'foo' for format qcow2"],
    ['lazy-refcounts=on', "unknown option 'lazy-refcounts'"],
    ['cluster_size=foo', "invalid cluster_size 'foo'"],
    ['cluster_size', "invalid cluster_size 'on'"],
    ['refcount_bits=1.5', "invalid refcount_bits '1.5'"],
    ['compat=2', "option 'compat' must be 0.10 or 1.1 or v2 or v3, not '2'"],
    ['compression_type=ZLIB', "option 'compression_type' must be zlib or zstd, not 'ZLIB'"],
    ['lazy_refcounts=1', "option 'lazy_refcounts' is on or off, not '1'"],
    ['encrypt.format=luks', 'encrypted images cannot be created'],

    ['encryption=on', 'encrypted images cannot be created'],
  ])('refuses %s', (list, message) => {
    expect(() => new CreateOptionValues('qcow2', [list])).toThrow(message);
  });

  it('knows which options a format has', () => {
    expect(() => new CreateOptionValues('raw', ['cluster_size=4k'])).toThrow('for format raw');
    const raw = new CreateOptionValues('raw', ['preallocation=off,size=1M']);
    expect(raw.settings()).toEqual({ size: 1 << 20, preallocation: 'off' });
  });
});
