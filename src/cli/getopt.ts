import { Qcow2Error } from '../errors.ts';

/** What the parser must know about an option; the option table extends it. */
export interface OptionShape {
  /** Key of the option in the result. */
  readonly name: string;
  /** One letter, used as `-f`. */
  readonly short?: string;
  /** Used as `--format`. */
  readonly long?: string;
  /** Placeholder of the argument. Absent: a switch. */
  readonly argument?: string;
}

/** Options and operands of one command line. */
export interface ParsedOptions {
  /** Arguments per option name, in order of appearance; a switch has an empty string per use. */
  readonly options: ReadonlyMap<string, readonly string[]>;
  /** The same options with their arguments, in the order of the command line. */
  readonly sequence: readonly (readonly [name: string, value: string])[];
  readonly operands: readonly string[];
}

function usageError(message: string): Qcow2Error {
  return new Qcow2Error('INVALID_ARGUMENT', message);
}

/**
 * Reads a command line the way `getopt_long` does, which is what scripts written for qemu-img count
 * on: `-cp`, `-fraw`, `-S -1`, unique prefixes of long names, options after operands, `--`.
 * `node:util.parseArgs` refuses arguments that begin with a dash and knows no prefixes.
 * @param negativeOperands words that begin like a negative number are operands
 * @throws Qcow2Error INVALID_ARGUMENT
 */
export function parseOptions(
  shapes: readonly OptionShape[],
  argv: readonly string[],
  negativeOperands = false,
): ParsedOptions {
  const options = new Map<string, string[]>();
  const sequence: [string, string][] = [];
  const operands: string[] = [];
  let at = 0;

  const add = (shape: OptionShape, value: string): void => {
    sequence.push([shape.name, value]);
    const values = options.get(shape.name);
    if (values === undefined) options.set(shape.name, [value]);
    else values.push(value);
  };
  const nextArgument = (shown: string): string => {
    const value = argv[at++];
    if (value === undefined) throw usageError(`option '${shown}' needs an argument`);
    return value;
  };
  const readLong = (text: string): void => {
    const equals = text.indexOf('=');
    const shape = findLong(shapes, equals < 0 ? text : text.slice(0, equals));
    const shown = `--${shape.long}`;
    if (shape.argument !== undefined) {
      add(shape, equals < 0 ? nextArgument(shown) : text.slice(equals + 1));
    } else if (equals < 0) add(shape, '');
    else throw usageError(`option '${shown}' takes no argument`);
  };
  const readCluster = (letters: string): void => {
    for (let i = 0; i < letters.length; i++) {
      const shape = shapes.find((candidate) => candidate.short === letters[i]);
      if (shape === undefined) throw usageError(`unrecognized option '-${letters[i]}'`);
      if (shape.argument === undefined) {
        add(shape, '');
        continue;
      }
      add(shape, letters.slice(i + 1) || nextArgument(`-${letters[i]}`));
      return;
    }
  };

  while (at < argv.length) {
    const word = argv[at++] as string;
    if (word === '--') {
      operands.push(...argv.slice(at));
      break;
    }
    if (negativeOperands && /^-[+.0-9]/.test(word)) operands.push(word);
    else if (word.startsWith('--')) readLong(word.slice(2));
    else if (word.startsWith('-') && word !== '-') readCluster(word.slice(1));
    else operands.push(word);
  }
  return { options, sequence, operands };
}

/** The option with this long name, or the only one that begins so. */
function findLong(shapes: readonly OptionShape[], text: string): OptionShape {
  const exact = shapes.find((shape) => shape.long === text);
  if (exact !== undefined) return exact;
  const matches = shapes.filter((shape) => shape.long?.startsWith(text));
  const [only] = matches;
  if (only === undefined || text === '') throw usageError(`unrecognized option '--${text}'`);
  if (matches.length === 1) return only;
  const names = matches.map((shape) => `--${shape.long}`).join(', ');
  throw usageError(`option '--${text}' is ambiguous: ${names}`);
}
