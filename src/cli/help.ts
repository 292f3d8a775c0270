import { optionsOf } from './arguments.ts';
import type { OptionSpec, VerbSpec } from './option-specs.ts';
import { VERBS, type VerbName } from './options.ts';

const LINE = 100;
const INDENT = 28;

/** Text of `qcow2 --help`. */
export function generalHelp(): string {
  const verbs = Object.entries<VerbSpec>(VERBS).map(([name, verb]) => row(name, verb.summary, 14));
  return [
    'usage: qcow2 VERB [options] [operands]',
    'Read, write and convert qcow2 and raw disk images.',
    '',
    'Verbs:',
    ...verbs,
    '',
    "'qcow2 VERB --help' explains a verb, 'qcow2 --version' prints the version.",
    '',
  ].join('\n');
}

/** Text of `qcow2 VERB --help`. */
export function verbHelp(verb: VerbName): string {
  const { summary, operands, operandHelp = [] }: VerbSpec = VERBS[verb];
  const options = optionsOf(verb).filter((option) => option.refused === undefined);
  return [
    `usage: qcow2 ${verb} [options] ${operands}`.trimEnd(),
    summary,
    '',
    ...(operandHelp.length > 0 ? ['Operands:'] : []),
    ...operandHelp.map(([term, text]) => row(term, text, INDENT)),
    ...(operandHelp.length > 0 ? [''] : []),
    'Options:',
    ...options.map((option) => row(spelling(option), option.help, INDENT)),
    '',
  ].join('\n');
}

/** `-f, --format FMT` */
function spelling(option: OptionSpec): string {
  const short = option.short === undefined ? '   ' : `-${option.short}`;
  const long = option.long === undefined ? '' : `--${option.long}`;
  const names = option.short && option.long ? `${short}, ${long}` : `${short}${long && ` ${long}`}`;
  return option.argument === undefined ? names : `${names} ${option.argument}`;
}

/** A term and its explanation, folded at the end of the line. */
function row(term: string, text: string, indent: number): string {
  const lines: string[] = [];
  let line = `  ${term}`.padEnd(indent);
  if (line.length > indent || !line.endsWith(' ')) {
    lines.push(line.trimEnd());
    line = ' '.repeat(indent);
  }
  for (const word of text.split(' ')) {
    if (line.trim() !== '' && line.length + word.length + 1 > LINE) {
      lines.push(line.trimEnd());
      line = ' '.repeat(indent);
    }
    line += `${word} `;
  }
  lines.push(line.trimEnd());
  return lines.join('\n');
}
