import { describe, expect, it } from 'vitest';
import { parseArguments } from '../../src/cli/arguments.ts';
import type { OptionSpec } from '../../src/cli/option-specs.ts';
import { VERBS, type VerbName } from '../../src/cli/options.ts';
import { qcow2 } from './command.ts';

const verbs = Object.keys(VERBS) as VerbName[];

describe('the option table', () => {
  it.each(verbs)('%s has no option twice', (verb) => {
    const options: readonly OptionSpec[] = VERBS[verb].options;
    for (const key of ['name', 'short', 'long'] as const) {
      const used = options.map((option) => option[key]).filter((value) => value !== undefined);
      expect(new Set(used).size).toBe(used.length);
    }
    for (const option of options) expect(option.short ?? option.long).toBeDefined();
  });

  it.each(verbs)(
    '%s --help explains every option on lines of at most 100 columns',
    async (verb) => {
      const { status, stdout, stderr } = await qcow2(verb, '--help');
      expect([status, stderr]).toEqual([0, '']);
      for (const { long, short, refused } of VERBS[verb].options as readonly OptionSpec[]) {
        const name = long === undefined ? `-${short}` : `--${long}`;
        expect(stdout.includes(name)).toBe(refused === undefined);
      }
      for (const line of stdout.split('\n')) expect(line.length).toBeLessThanOrEqual(100);
    },
  );

  it('is listed by --help', async () => {
    const { stdout } = await qcow2('--help');
    for (const verb of verbs) expect(stdout).toContain(`\n  ${verb} `);
  });
});

describe('arguments', () => {
  it('reads what scripts write for qemu-img', () => {
    const args = parseArguments('convert', [
      '-cpO',
      'qcow2',
      '-oa=b',
      '-o',
      'c=d',
      '-fraw',
      'x',
      'y',
    ]);
    expect(args?.has('compress')).toBe(true);
    expect(args?.has('progress')).toBe(true);
    expect(args?.value('target-format')).toBe('qcow2');
    expect(args?.values('options')).toEqual(['a=b', 'c=d']);
    expect(args?.value('format')).toBe('raw');
    expect(args?.operands).toEqual(['x', 'y']);
  });

  it('needs no operand to list the options of -o', () => {
    expect(parseArguments('create', ['-o', 'cluster_size=4k,help'])?.operands).toEqual([]);
    expect(parseArguments('convert', ['-o', '?'])?.operands).toEqual([]);
    expect(() => parseArguments('create', ['-o', 'backing_file=help'])).toThrow('missing operand');
  });
});

describe('errors of use', () => {
  it.each([
    [[], "a verb is needed (see 'qcow2 --help')"],
    [['frobnicate'], "unknown verb 'frobnicate' (see 'qcow2 --help')"],
    [['info'], "missing operand, expected: FILE (see 'qcow2 info --help')"],
    [['info', 'a', 'b'], "unexpected operand 'b', expected: FILE (see 'qcow2 info --help')"],
    [['info', '--foo', 'a'], "unrecognized option '--foo' (see 'qcow2 info --help')"],
    [['map', '--output'], "option '--output' needs an argument (see 'qcow2 map --help')"],
    [['map', '--output=xml', 'a'], "--output must be human or json, not 'xml'"],
    [['map', '-s', 'x', 'a'], /^invalid start offset 'x': /],
    [['create', '-f', 'qcow2'], /^missing operand, expected: FILE \[SIZE\]/],
    [['create', '-f', 'vmdk', 'a', '1M'], "unknown format 'vmdk'; qcow2 and raw are supported"],
    [['create', 'a', '1x'], /^invalid image size '1x': /],
    [['create', '-o', 'size=1M', 'a', '2M'], /^the image size is given twice/],
    [['create', '-o', 'a=1,', 'a', '2M'], /^invalid option list 'a=1,'/],
    [
      ['create', '-b', 'x', 'a', '2M'],
      "unknown option 'backing_file' for format raw; -o help lists the options",
    ],
    [['convert', 'a'], /^missing operand, expected: FILE\.\.\. TARGET/],
    [['convert', '-m', '17', 'a', 'b'], "invalid number of workers '17': 1 to 16 are possible"],
    [['convert', '-m', '0', 'a', 'b'], "invalid number of workers '0': 1 to 16 are possible"],
    [['convert', '-S', '100', 'a', 'b'], /^invalid sparse size '100'/],
    [['convert', '-S', '-1', 'a', 'b'], /^invalid sparse size '-1'/],
    [['convert', '-t', 'fast', 'a', 'b'], /^-t must be unsafe or writeback or none or /],
    [['convert', '-r', 'x', 'a', 'b'], /^invalid rate limit 'x'/],
    [['convert', '--target-is-zero', 'a', 'b'], /^--target-is-zero needs -n/],
    [['convert', '-n', '-o', 'size=1', 'a', 'b'], /^-o has no effect with -n/],
    [['convert', '-C', '-S', '4k', 'a', 'b'], /^-C and -S exclude each other/],
    [['convert', '-l', 'snapshot.foo=1', 'a', 'b'], /^invalid snapshot 'snapshot\.foo=1'/],
    [['convert', '-c', 'a', 'b'], /^-c needs -O qcow2/],
    [['convert', '-l', 's', 'a', 'b', 'c'], /^-l needs a single input/],
    [['convert', '-Oqcow2', '-Bx', '-Fraw', 'a', 'b', 'c'], /makes no sense with several inputs$/],
    [['info', '--object', 'secret,id=x', 'a'], /^--object: QEMU objects are not supported/],
    [
      ['create', 'http://me:secret@host/a', '1M'],
      "Could not create 'http://host/a': URLs can only be read; name a file",
    ],
    [
      ['check', '-f', 'qcow2', import.meta.filename],
      /^Could not open '[^']*usage\.test\.ts': header: the file does not begin with/,
    ],
    [['info', 'no\u001b[31m\nsuch'], /no\\x1b\[31m\\x0asuch/],
  ] as [string[], string | RegExp][])(
    '%j ends with status 1 and one line',
    async (argv, message) => {
      const { status, stdout, stderr } = await qcow2(...argv);
      expect([status, stdout]).toEqual([1, '']);
      expect(stderr).toMatch(/^qcow2: [^\n]*\n$/);
      const text = stderr.slice('qcow2: '.length, -1);
      if (typeof message === 'string') expect(text).toBe(message);
      else expect(text).toMatch(message);
    },
  );

  it('prints the version', async () => {
    const [long, short] = [await qcow2('--version'), await qcow2('-V')];
    expect(long.stdout).toMatch(/^qcow2 version \d+\.\d+\.\d+\n$/);
    expect(short).toEqual(long);
  });
});
