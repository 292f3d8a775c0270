import {
  ALLOW_EXTERNAL,
  BACKING_FORMAT,
  COMPRESS,
  CREATE_OPTIONS,
  FORCE_SHARE,
  FORMAT,
  IMAGE_OPTS,
  OBJECT,
  type OptionSpec,
  OUTPUT,
  PROGRESS,
  QUIET,
  SOURCE_FORMAT,
  TARGET_CACHE,
  TARGET_FORMAT,
} from './option-specs.ts';

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
  /** Operands that need a line each: how they are written, and what they are. */
  readonly operandHelp?: readonly (readonly [string, string])[];
}

/** Every verb with its options: the only place that knows them. */
export const VERBS = {
  info: {
    summary: 'Print what is known about an image without reading its data.',
    operands: 'FILE',
    minOperands: 1,
    maxOperands: 1,
    options: [
      SOURCE_FORMAT,
      OUTPUT,
      { name: 'backing-chain', long: 'backing-chain', help: 'go on with the backing files' },
      FORCE_SHARE,
      IMAGE_OPTS,
      ALLOW_EXTERNAL,
      OBJECT,
    ],
  },
  map: {
    summary: 'Print which file, and where in it, holds each range of the virtual disk.',
    operands: 'FILE',
    minOperands: 1,
    maxOperands: 1,
    options: [
      SOURCE_FORMAT,
      OUTPUT,
      {
        name: 'start-offset',
        short: 's',
        long: 'start-offset',
        argument: 'OFFSET',
        help: 'first guest byte (default 0)',
      },
      {
        name: 'max-length',
        short: 'l',
        long: 'max-length',
        argument: 'LENGTH',
        help: 'number of guest bytes (default: to the end)',
      },
      FORCE_SHARE,
      IMAGE_OPTS,
      ALLOW_EXTERNAL,
      OBJECT,
    ],
  },
  check: {
    summary: 'Check the consistency of an image; exit status 2: corrupt, 3: leaks only.',
    operands: 'FILE',
    minOperands: 1,
    maxOperands: 1,
    options: [
      SOURCE_FORMAT,
      OUTPUT,
      {
        name: 'repair',
        short: 'r',
        long: 'repair',
        argument: 'leaks|all',
        help: '',
        refused: 'images are checked only, not repaired',
      },
      {
        name: 'source-cache',
        short: 'T',
        argument: 'MODE',
        help: 'cache mode of the image, accepted',
      },
      QUIET,
      FORCE_SHARE,
      IMAGE_OPTS,
      ALLOW_EXTERNAL,
      OBJECT,
    ],
  },
  create: {
    summary: 'Create an empty image.',
    operands: 'FILE [SIZE]',
    minOperands: 1,
    maxOperands: 2,
    options: [
      { ...FORMAT, help: 'format of the new image, qcow2 or raw (default raw)' },
      CREATE_OPTIONS,
      {
        name: 'backing-file',
        short: 'b',
        argument: 'FILE',
        help: 'take what is not written from FILE',
      },
      BACKING_FORMAT,
      { name: 'unsafe', short: 'u', help: 'do not look at the backing file; SIZE is needed then' },
      QUIET,
      OBJECT,
    ],
  },
  convert: {
    summary:
      'Copy one image, or several one after the other, into a new image.',
    operands: 'FILE... TARGET',
    minOperands: 2,
    maxOperands: Number.POSITIVE_INFINITY,
    options: [
      {
        ...FORMAT,
        help: 'format of the inputs, qcow2 or raw, of names in .gz, .zst and .xz what is inside; found out if not given',
      },
      TARGET_FORMAT,
      CREATE_OPTIONS,
      COMPRESS,
      PROGRESS,
      QUIET,
      {
        name: 'sparse-size',
        short: 'S',
        argument: 'SIZE',
        help: 'leave out runs of zeros of at least SIZE (default 4k); 0 writes everything',
      },
      { name: 'no-create', short: 'n', help: 'write into an existing target' },
      {
        name: 'target-is-zero',
        long: 'target-is-zero',
        help: 'with -n: the target reads as zeros, so zeros need not be written',
      },
      {
        name: 'snapshot',
        short: 'l',
        argument: 'SNAPSHOT',
        help: 'copy an internal snapshot: an id, a name, snapshot.id=ID or snapshot.name=NAME',
      },
      {
        name: 'backing-file',
        short: 'B',
        argument: 'FILE',
        help: 'backing file of the target; what equals it is not copied',
      },
      BACKING_FORMAT,
      { name: 'threads', short: 'm', argument: 'N', help: 'number of parallel workers, 1 to 16' },
      { name: 'out-of-order', short: 'W', help: 'accepted: the target is the same either way' },
      {
        name: 'copy-offload',
        short: 'C',
        help: 'accepted: how ranges are copied is chosen by itself',
      },
      TARGET_CACHE,
      {
        name: 'source-cache',
        short: 'T',
        argument: 'MODE',
        help: 'cache mode of the inputs, accepted',
      },
      {
        name: 'rate-limit',
        short: 'r',
        argument: 'RATE',
        help: 'accepted: the speed is not limited',
      },
      {
        name: 'bitmaps',
        long: 'bitmaps',
        help: 'copy the persistent dirty bitmaps, too (qcow2 to qcow2)',
      },
      {
        name: 'skip-broken-bitmaps',
        long: 'skip-broken-bitmaps',
        help: 'with --bitmaps: leave out bitmaps that were not closed properly',
      },
      {
        name: 'spill',
        long: 'spill',
        argument: 'DIR',
        help: 'folder of a temporary file for an input that is no file and too large for memory (64 MiB)',
      },
      FORCE_SHARE,
      IMAGE_OPTS,
      ALLOW_EXTERNAL,
      OBJECT,
    ],
  },
  compare: {
    summary: 'Compare two disks; exit status 1: they differ, 2 and above: an error.',
    operands: 'FILE1 FILE2',
    minOperands: 2,
    maxOperands: 2,
    options: [
      { ...FORMAT, help: 'format of the first image, qcow2 or raw; found out if not given' },
      { name: 'second-format', short: 'F', argument: 'FMT', help: 'format of the second image' },
      {
        name: 'strict',
        short: 's',
        help: 'different sizes, or ranges allocated in one image only, are differences',
      },
      PROGRESS,
      { ...QUIET, help: 'print errors only; the exit status tells the result' },
      {
        name: 'source-cache',
        short: 'T',
        argument: 'MODE',
        help: 'cache mode of the images, accepted',
      },
      FORCE_SHARE,
      IMAGE_OPTS,
      ALLOW_EXTERNAL,
      OBJECT,
    ],
  },
  measure: {
    summary: 'Tell how much space an image takes when it is converted or created.',
    operands: '--size SIZE | FILE',
    minOperands: 0,
    maxOperands: 1,
    options: [
      { ...FORMAT, help: 'format of FILE, qcow2 or raw; found out if not given' },
      TARGET_FORMAT,
      CREATE_OPTIONS,
      { name: 'size', long: 'size', argument: 'SIZE', help: 'size of a new, empty image' },
      {
        name: 'snapshot',
        short: 'l',
        argument: 'SNAPSHOT',
        help: 'measure an internal snapshot: an id, a name, snapshot.id=ID or snapshot.name=NAME',
      },
      OUTPUT,
      FORCE_SHARE,
      IMAGE_OPTS,
      ALLOW_EXTERNAL,
      OBJECT,
    ],
  },
  dd: {
    summary: 'Copy a part of a disk, in blocks, into a new image.',
    operands: '[bs=SIZE] [count=N] [skip=N] if=FILE of=TARGET',
    minOperands: 0,
    maxOperands: Number.POSITIVE_INFINITY,
    options: [
      { ...FORMAT, help: 'format of the input, qcow2 or raw; found out if not given' },
      TARGET_FORMAT,
      FORCE_SHARE,
      IMAGE_OPTS,
      ALLOW_EXTERNAL,
      OBJECT,
    ],
    operandHelp: [
      ['bs=SIZE', 'bytes of a block, 1 to 2147483647 (default 512)'],
      ['count=N', 'stop behind the first N blocks of the input; those skipped count as well'],
      ['skip=N', 'leave out the first N blocks of the input'],
      ['if=FILE', 'the input'],
      ['of=TARGET', 'the new image'],
    ],
  },
  bench: {
    summary: 'Measure how fast requests of one size are served, one after the other over the disk.',
    operands: 'FILE',
    minOperands: 1,
    maxOperands: 1,
    options: [
      { name: 'count', short: 'c', argument: 'N', help: 'number of requests (default 75000)' },
      { name: 'depth', short: 'd', argument: 'N', help: 'requests sent at a time (default 64)' },
      SOURCE_FORMAT,
      {
        name: 'flush-interval',
        long: 'flush-interval',
        argument: 'N',
        help: 'with -w: flush after every N requests',
      },
      {
        name: 'aio',
        short: 'i',
        argument: 'AIO',
        help: 'accepted: threads, native or io_uring',
      },
      { name: 'native', short: 'n', help: 'accepted: native AIO' },
      {
        name: 'no-drain',
        long: 'no-drain',
        help: 'with --flush-interval: flush while other requests are under way',
      },
      { name: 'offset', short: 'o', argument: 'OFFSET', help: 'first guest byte (default 0)' },
      {
        name: 'pattern',
        long: 'pattern',
        argument: 'BYTE',
        help: 'with -w: the byte that is written (default 0)',
      },
      { name: 'quiet', short: 'q', help: 'accepted: the result is printed all the same' },
      {
        name: 'buffer-size',
        short: 's',
        argument: 'SIZE',
        help: 'bytes of a request (default 4k)',
      },
      {
        name: 'step-size',
        short: 'S',
        argument: 'SIZE',
        help: 'bytes from a request to the next (default those of a request)',
      },
      {
        name: 'cache',
        short: 't',
        argument: 'MODE',
        help: 'cache mode: writethrough and directsync flush after every write',
      },
      { name: 'write', short: 'w', help: 'write to the disk, whose data is lost' },
      FORCE_SHARE,
      IMAGE_OPTS,
      ALLOW_EXTERNAL,
      OBJECT,
    ],
  },
  resize: {
    summary: 'Make the disk of an image longer or shorter.',
    operands: 'FILE [+|-]SIZE',
    minOperands: 2,
    maxOperands: 2,
    negativeOperands: true,
    options: [
      SOURCE_FORMAT,
      {
        name: 'shrink',
        long: 'shrink',
        help: 'allow a shorter disk, and with it the loss of what is behind its new end',
      },
      {
        name: 'preallocation',
        long: 'preallocation',
        argument: 'MODE',
        help: 'of what is new: off (default), metadata (qcow2 only), falloc or full',
      },
      QUIET,
      IMAGE_OPTS,
      ALLOW_EXTERNAL,
      OBJECT,
    ],
    operandHelp: [
      ['SIZE', 'new length of the disk: bytes, or a number with one of the suffixes k to E'],
      ['+SIZE, -SIZE', 'so much longer, or shorter, than it is'],
    ],
  },
  snapshot: {
    summary: 'List the internal snapshots of an image, take one, go back to one or delete one.',
    operands: 'FILE',
    minOperands: 1,
    maxOperands: 1,
    options: [
      { name: 'list', short: 'l', help: 'list the snapshots' },
      {
        name: 'apply',
        short: 'a',
        argument: 'SNAPSHOT',
        help: 'make the disk what it was then: an id or a name; what it holds now is lost',
      },
      {
        name: 'create',
        short: 'c',
        argument: 'NAME',
        help: 'take a snapshot of what the disk holds now',
      },
      {
        name: 'delete',
        short: 'd',
        argument: 'NAME',
        help: 'delete the first snapshot of this name',
      },
      QUIET,
      FORCE_SHARE,
      IMAGE_OPTS,
      ALLOW_EXTERNAL,
      OBJECT,
    ],
  },
  adopt: {
    summary: 'Make a qcow2 image around a raw disk, which stays as it is and keeps the data.',
    operands: 'DISK IMAGE',
    minOperands: 2,
    maxOperands: 2,
    options: [
      { ...FORMAT, help: 'raw: adopt DISK even if its bytes are those of an image of a format' },
      CREATE_OPTIONS,
      QUIET,
    ],
  },
  batch: {
    summary: 'Convert many images, given as files or as a job file.',
    operands: 'FILE... | JOBS.json',
    minOperands: 1,
    maxOperands: Number.POSITIVE_INFINITY,
    options: [
      { ...FORMAT, help: 'format of the inputs, qcow2 or raw; found out if not given' },
      TARGET_FORMAT,
      { name: 'directory', short: 'd', argument: 'DIR', help: 'folder the targets go to' },
      CREATE_OPTIONS,
      COMPRESS,
      TARGET_CACHE,
      { name: 'jobs', short: 'j', argument: 'N', help: 'number of images converted at a time' },
      {
        name: 'log',
        long: 'log',
        argument: 'STYLE',
        help: 'style of the log, human (default) or json',
      },
      QUIET,
      FORCE_SHARE,
      ALLOW_EXTERNAL,
    ],
  },
  completion: {
    summary: 'Print a completion script: bash, zsh or fish.',
    operands: 'SHELL',
    minOperands: 1,
    maxOperands: 1,
    options: [],
  },
} as const satisfies Record<string, VerbSpec>;

/** A verb of the command line. */
export type VerbName = keyof typeof VERBS;

/** Names of a verb's options. */
export type OptionName<V extends VerbName> = (typeof VERBS)[V]['options'][number]['name'];

/** True if `text` is a verb. */
export function isVerb(text: string): text is VerbName {
  return Object.hasOwn(VERBS, text);
}
