import { Qcow2Error } from '../errors.ts';
import { type ImageDescription, parseImageOptions } from './image-options.ts';

/** The options that every verb has which opens images; any `Arguments` with them will do. */
interface InputArguments {
  value(name: 'format'): string | undefined;
  values(name: 'allow-external'): readonly string[];
  has(name: 'force-share'): boolean;
}

/** How to open the images named on the command line. */
export interface InputOptions {
  readonly format?: 'qcow2' | 'raw';
  /** Folders whose files an image may name besides those of its own folder, or `any`. */
  readonly allowExternal: readonly string[] | 'any';
  /** Nothing else happens meanwhile, and blocking calls are the fastest. */
  readonly sync: true;
  /** `-U` */
  readonly share: boolean;
}

/**
 * Reads `-f` and `--allow-external`.
 * @throws Qcow2Error INVALID_ARGUMENT for a format that cannot be read
 */
export function inputOptions(args: InputArguments): InputOptions {
  const folders = args.values('allow-external');
  const allowExternal = folders.includes('any') ? 'any' : folders;
  const format = args.value('format');
  const common = { allowExternal, sync: true, share: args.has('force-share') } as const;
  return format === undefined ? common : { ...common, format: knownFormat(format) };
}

/** `InputOptions`, and `--image-opts` where a verb has it. */
interface DescribedInputArguments extends InputArguments {
  has(name: 'force-share' | 'image-opts'): boolean;
}

/**
 * An image named on the command line: a path, or with `--image-opts` a description.
 * @throws Qcow2Error INVALID_ARGUMENT
 */
export function inputImage(
  args: DescribedInputArguments,
  operand: string,
): Omit<InputOptions, 'format'> & ImageDescription {
  const options = inputOptions(args);
  if (!args.has('image-opts')) return { ...options, path: operand };
  if (options.format !== undefined)
    throw new Qcow2Error('INVALID_ARGUMENT', '--image-opts and -f exclude each other');
  return { ...options, ...parseImageOptions(operand) };
}

/**
 * Refuses `-U` for an image that is to be written.
 * @throws Qcow2Error INVALID_ARGUMENT
 */
export function requireUnshared({ share }: Pick<InputOptions, 'share'>, path: string): void {
  if (!share) return;
  const text = `Could not open '${path}': force-share=on can only be used with read-only images`;
  throw new Qcow2Error('INVALID_ARGUMENT', text, { file: path });
}

/**
 * Reads a format name.
 * @throws Qcow2Error INVALID_ARGUMENT
 */
export function knownFormat(name: string): 'qcow2' | 'raw' {
  if (name === 'qcow2' || name === 'raw') return name;
  throw new Qcow2Error('INVALID_ARGUMENT', `unknown format '${name}'; qcow2 and raw are supported`);
}
