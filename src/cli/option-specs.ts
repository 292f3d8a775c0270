import type { OptionShape } from './getopt.ts';

/** An option of a verb: how it is written, and the line about it in `--help`. */
export interface OptionSpec extends OptionShape {
  readonly help: string;
  /** Why an option of qemu-img is refused. Such options are understood but not shown in `--help`. */
  readonly refused?: string;
}

// Options that several verbs have.

export const FORMAT = { name: 'format', short: 'f', long: 'format', argument: 'FMT' } as const;
export const SOURCE_FORMAT = {
  ...FORMAT,
  help: 'format of the image, qcow2 or raw; found out if not given',
} as const;
export const OUTPUT = {
  name: 'output',
  long: 'output',
  argument: 'STYLE',
  help: 'style of the output, human (default) or json',
} as const;
export const FORCE_SHARE = {
  name: 'force-share',
  short: 'U',
  long: 'force-share',
  help: 'open the image although another program has it open for writing',
} as const;
export const IMAGE_OPTS = {
  name: 'image-opts',
  long: 'image-opts',
  help: 'read images as key=value lists, such as driver=qcow2,file.filename=NAME',
} as const;
export const ALLOW_EXTERNAL = {
  name: 'allow-external',
  long: 'allow-external',
  argument: 'DIR|any',
  help: 'also open backing and data files below DIR or URL (repeatable), or any regular file',
} as const;
export const OBJECT = {
  name: 'object',
  long: 'object',
  argument: 'OBJDEF',
  help: '',
  refused: 'QEMU objects are not supported',
} as const;
export const QUIET = { name: 'quiet', short: 'q', help: 'print errors only' } as const;
export const CREATE_OPTIONS = {
  name: 'options',
  short: 'o',
  argument: 'KEY=VALUE,...',
  help: 'options of the new image (repeatable); -o help lists them',
} as const;
export const BACKING_FORMAT = {
  name: 'backing-format',
  short: 'F',
  argument: 'FMT',
  help: 'format of the backing file',
} as const;
export const PROGRESS = { name: 'progress', short: 'p', help: 'show progress' } as const;
export const TARGET_FORMAT = {
  name: 'target-format',
  short: 'O',
  argument: 'FMT',
  help: 'format of the target, qcow2 or raw (default raw)',
} as const;
export const TARGET_CACHE = {
  name: 'cache',
  short: 't',
  argument: 'MODE',
  help: 'cache mode of the target: all but unsafe (the default) wait until it is on the disk',
} as const;
export const COMPRESS = {
  name: 'compress',
  short: 'c',
  help: 'compress the target (qcow2 only)',
} as const;
export const QUEUE = {
  name: 'queue',
  long: 'queue',
  argument: 'URL',
  help: 'redis://HOST[:PORT][/DB], rediss:// for TLS, or env: the URL is in the variable QCOW2_QUEUE, where no other user sees its password',
} as const;
export const LOG = {
  name: 'log',
  long: 'log',
  argument: 'STYLE',
  help: 'style of the log, human (default) or json',
} as const;

/** A verb: everything that parsing, `--help`, completions and the man page need to know. */
export interface VerbSpec {
  /** One line. */
  readonly summary: string;
  /** Operands as the usage line shows them. */
  readonly operands: string;
  readonly minOperands: number;
  readonly maxOperands: number;
  readonly options: readonly OptionSpec[];
  /** Words such as `-5G` are operands, not options. */
  readonly negativeOperands?: boolean;
  /** It opens images for a short look only, which keeps nobody from writing to them. */
  readonly looksOnly?: boolean;
  /** Operands that need a line each: how they are written, and what they are. */
  readonly operandHelp?: readonly (readonly [string, string])[];
}
