import { Qcow2Error } from '../errors.ts';
import { type ParsedOptions, parseOptions } from './getopt.ts';
import { parseKeyValues } from './key-values.ts';
import type { OptionSpec, VerbSpec } from './option-specs.ts';
import { type OptionName, VERBS, type VerbName } from './options.ts';

/** The parsed command line of one verb, asked by the names of the option table. */
export class Arguments<V extends VerbName> {
  readonly operands: readonly string[];
  readonly #verb: V;
  readonly #options: ParsedOptions['options'];
  readonly #sequence: ParsedOptions['sequence'];

  constructor(verb: V, { operands, options, sequence }: ParsedOptions) {
    this.operands = operands;
    this.#verb = verb;
    this.#options = options;
    this.#sequence = sequence;
  }

  /** Whether the option was given. */
  has(name: OptionName<V>): boolean {
    return this.#options.has(name);
  }

  /** The argument of an option; the last one wins. */
  value(name: OptionName<V>): string | undefined {
    return this.#options.get(name)?.at(-1);
  }

  /** The arguments of all uses of an option. */
  values(name: OptionName<V>): readonly string[] {
    return this.#options.get(name) ?? [];
  }

  /** Those of some options that were given, with their arguments, in the order of the command line. */
  inOrder<N extends OptionName<V>>(names: readonly N[]): { name: N; value: string }[] {
    return this.#sequence.flatMap(([given, value]) => {
      const name = names.find((candidate) => candidate === given);
      return name === undefined ? [] : [{ name, value }];
    });
  }

  #spelling(name: OptionName<V>): string {
    const spec = optionsOf(this.#verb).find((option) => option.name === name);
    return spec === undefined ? name : spellingOf(spec);
  }

  /**
   * The argument of an option that takes one of a few words.
   * @throws Qcow2Error INVALID_ARGUMENT
   */
  choice<T extends string>(name: OptionName<V>, words: readonly [T, ...T[]]): T {
    const value = this.value(name);
    if (value === undefined) return words[0];
    const word = words.find((candidate) => candidate === value);
    if (word !== undefined) return word;
    throw usage(`${this.#spelling(name)} must be ${words.join(' or ')}, not '${value}'`);
  }
}

/** An option as its users write it. */
function spellingOf({ long, short }: OptionSpec): string {
  return long === undefined ? `-${short}` : `--${long}`;
}

/** Every verb understands `-h` and `--help`. */
const HELP: OptionSpec = { name: 'help', short: 'h', long: 'help', help: 'print this help' };

/** All options of a verb in the order of its help. */
export function optionsOf(verb: VerbName): readonly OptionSpec[] {
  return [...VERBS[verb].options, HELP];
}

/**
 * Parses what follows the verb. Null: help was asked for.
 * @throws Qcow2Error INVALID_ARGUMENT, and REFUSED for an option that is understood but not supported
 */
export function parseArguments<V extends VerbName>(
  verb: V,
  argv: readonly string[],
): Arguments<V> | null {
  const spec: VerbSpec = VERBS[verb];
  const parsed = parseOptions(optionsOf(verb), argv, spec.negativeOperands);
  const { operands, options } = parsed;
  if (options.has(HELP.name)) return null;
  const refused = spec.options.find((option) => option.refused && options.has(option.name));
  if (refused !== undefined) throw usage(`${spellingOf(refused)}: ${refused.refused}`, 'REFUSED');
  // A list of creation options (`-o help`) needs no operand.
  if (!asksForOptionList(options.get('options'))) checkOperands(spec, operands);
  return new Arguments(verb, parsed);
}

/**
 * Whether one of the `-o` lists asks which options there are.
 * @throws Qcow2Error INVALID_ARGUMENT for a malformed list
 */
export function asksForOptionList(lists: readonly string[] = []): boolean {
  return lists
    .flatMap(parseKeyValues)
    .some(({ key, value }) => value === undefined && (key === 'help' || key === '?'));
}

function checkOperands(spec: VerbSpec, operands: readonly string[]): void {
  if (operands.length < spec.minOperands)
    throw usage(`missing operand, expected: ${spec.operands}`);
  if (operands.length <= spec.maxOperands) return;
  const expected = spec.operands === '' ? 'options only' : spec.operands;
  throw usage(`unexpected operand '${operands[spec.maxOperands]}', expected: ${expected}`);
}

function usage(
  message: string,
  code: 'INVALID_ARGUMENT' | 'REFUSED' = 'INVALID_ARGUMENT',
): Qcow2Error {
  return new Qcow2Error(code, message);
}
