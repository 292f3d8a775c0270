import { optionsOf } from './arguments.ts';
import { createOptionsHelp } from './create-options.ts';
import type { OptionSpec, VerbSpec } from './option-specs.ts';
import { VERBS, type VerbName } from './options.ts';

const EXIT_STATUS: readonly [string, string][] = [
  ['0', 'success; compare: the images are identical'],
  ['1', 'an error; compare: the images differ; batch: a conversion failed'],
  ['2', 'check: corruptions were found; compare: an image could not be opened'],
  ['3', 'check: leaks only; compare: the allocation could not be read'],
  ['4', 'compare: data could not be read'],
  ['63', 'check: the format has no check'],
];

/** The manual page in roff, made from the option table. */
export function manPage(version: string): string {
  const verbs = Object.keys(VERBS) as VerbName[];
  return [
    `.TH QCOW2 1 "" "qcow2 ${version}" "User Commands"`,
    '.SH NAME',
    'qcow2 \\- read, write and convert qcow2 and raw disk images',
    '.SH SYNOPSIS',
    ...verbs.flatMap((verb) => [
      `.B qcow2 ${verb}`,
      `[options] ${roff(VERBS[verb].operands)}`,
      '.br',
    ]),
    '.SH DESCRIPTION',
    'Options, output and exit status follow qemu\\-img(1), so that scripts keep working.',
    'Images are qcow2 or raw. A file an image names is opened only if it is a regular file in the',
    "tree of that image's folder, or allowed with \\fB\\-\\-allow\\-external\\fR.",
    'The target of a conversion appears under its name only when it is whole.',
    '.SH VERBS',
    ...verbs.flatMap(section),
    '.SH OPTIONS OF NEW IMAGES',
    'The list of \\fB\\-o\\fR for qcow2:',
    '.nf',
    ...createOptionsHelp('qcow2').trimEnd().split('\n').slice(1).map(roff),
    '.fi',
    '.SH SIZES',
    'Sizes are bytes, or have a suffix: b, k, M, G, T, P or E (powers of 1024).',
    '.SH EXIT STATUS',
    ...EXIT_STATUS.flatMap(([status, text]) => ['.TP', `.B ${status}`, roff(text)]),
    '.SH SEE ALSO',
    'qemu\\-img(1)',
    '',
  ].join('\n');
}

function section(verb: VerbName): string[] {
  const options = optionsOf(verb).filter((option) => option.refused === undefined);
  const { summary, operandHelp = [] }: VerbSpec = VERBS[verb];
  return [
    `.SS ${verb}`,
    roff(summary),
    ...operandHelp.flatMap(([term, text]) => ['.TP', `\\fB${roff(term)}\\fR`, roff(text)]),
    ...options.flatMap((option) => ['.TP', spelling(option), roff(option.help)]),
  ];
}

function spelling({ short, long, argument }: OptionSpec): string {
  const names = [...(short ? [`-${short}`] : []), ...(long ? [`--${long}`] : [])];
  const bold = names.map((name) => `\\fB${roff(name)}\\fR`).join(', ');
  return argument === undefined ? bold : `${bold} \\fI${roff(argument)}\\fR`;
}

/** Text for roff: hyphens stay hyphens, and a leading dot or quote is no request. */
function roff(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replace(/^([.'])/, '\\&$1');
}
