import { describe, expect, it } from 'vitest';
import { parseOptions } from '../../src/cli/getopt.ts';

const SHAPES = [
  { name: 'compress', short: 'c' },
  { name: 'progress', short: 'p' },
  { name: 'format', short: 'f', long: 'format', argument: 'FMT' },
  { name: 'force-share', short: 'U', long: 'force-share' },
  { name: 'options', short: 'o', argument: 'LIST' },
  { name: 'output', long: 'output', argument: 'STYLE' },
  { name: 'size', short: 'S', argument: 'SIZE' },
] as const;

function parse(...argv: string[]) {
  const { options, operands } = parseOptions(SHAPES, argv);
  return { ...Object.fromEntries(options), operands };
}

describe('option parsing', () => {
  it.each([
    [['-cp', 'a'], { compress: [''], progress: [''], operands: ['a'] }],
    [['-fraw', 'a'], { format: ['raw'], operands: ['a'] }],
    [['-cpfraw', 'a'], { compress: [''], progress: [''], format: ['raw'], operands: ['a'] }],
    [['-f', 'raw'], { format: ['raw'], operands: [] }],
    [['-f=raw'], { format: ['=raw'], operands: [] }],
    [['--format=raw', 'a'], { format: ['raw'], operands: ['a'] }],
    [['--format', 'raw', 'a'], { format: ['raw'], operands: ['a'] }],
    [['--format='], { format: [''], operands: [] }],
    [['--out', 'json', 'a'], { output: ['json'], operands: ['a'] }],
    [['a', '-U', 'b'], { 'force-share': [''], operands: ['a', 'b'] }],
    [['-U', '--', '-c', '--', 'b'], { 'force-share': [''], operands: ['-c', '--', 'b'] }],
    [['-o', 'a=b', '-o', 'c=d'], { options: ['a=b', 'c=d'], operands: [] }],
    [['-S', '-1'], { size: ['-1'], operands: [] }],
    [['-S', '--'], { size: ['--'], operands: [] }],
    [['-', ''], { operands: ['-', ''] }],
    [['-f', 'raw', '-f', 'qcow2'], { format: ['raw', 'qcow2'], operands: [] }],
  ])('reads %j', (argv, expected) => {
    expect(parse(...argv)).toEqual(expected);
  });

  it('takes negative numbers for operands where a verb has such', () => {
    const read = (...argv: string[]) => parseOptions(SHAPES, argv, true);
    expect(read('-c', 'a', '-5G').operands).toEqual(['a', '-5G']);
    expect(read('-.5k', '-+1', '-0x10').operands).toEqual(['-.5k', '-+1', '-0x10']);
    expect(read('a', '--', '-x').operands).toEqual(['a', '-x']);
    expect(read('-S', '-1', 'a').operands).toEqual(['a']);
    expect(() => parse('-5G')).toThrow("unrecognized option '-5'");
  });

  it.each([
    [['--foo'], "unrecognized option '--foo'"],
    [['-x'], "unrecognized option '-x'"],
    [['-cx'], "unrecognized option '-x'"],
    [['--=x'], "unrecognized option '--'"],
    [['--fo'], "option '--fo' is ambiguous: --format, --force-share"],
    [['--force-share=1'], "option '--force-share' takes no argument"],
    [['-f'], "option '-f' needs an argument"],
    [['--output'], "option '--output' needs an argument"],
  ])('refuses %j', (argv, message) => {
    expect(() => parse(...argv)).toThrow(message);
  });
});
