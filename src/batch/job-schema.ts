/** The part of JSON Schema (2020-12) that job files need. */
export interface Schema {
  readonly type?: 'string' | 'boolean' | 'integer' | 'array' | 'object';
  readonly enum?: readonly string[];
  readonly minLength?: number;
  readonly pattern?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly items?: Schema;
  readonly minItems?: number;
  readonly anyOf?: readonly Schema[];
}

/** A key of a job file: what it may hold, in words for errors, and what it is. */
export interface KeySpec {
  readonly schema: Schema;
  /** The end of the sentence "KEY must be ...". */
  readonly must: string;
  readonly help: string;
}

export type Keys = Readonly<Record<string, KeySpec>>;

const TEXT: Schema = { type: 'string', minLength: 1, pattern: '^[^\\u0000]*$' };
const TEXTS: Schema = { type: 'array', minItems: 1, items: TEXT };

function text(help: string): KeySpec {
  return { schema: TEXT, must: 'a text that is not empty', help };
}

function flag(help: string): KeySpec {
  return { schema: { type: 'boolean' }, must: 'true or false', help };
}

function bytes(help: string): KeySpec {
  const schema: Schema = { type: 'integer', minimum: 0, maximum: Number.MAX_SAFE_INTEGER };
  return { schema, must: 'a whole number from 0 to 2^53 - 1', help };
}

function word(help: string, ...words: string[]): KeySpec {
  const must = words.map((candidate) => `"${candidate}"`).join(' or ');
  return { schema: { enum: words }, must, help };
}

function object(help: string): KeySpec {
  return { schema: { type: 'object' }, must: 'an object', help };
}

/** Keys that `defaults` and a job share. */
export const COMMON_KEYS: Keys = {
  inputFormat: word('Format of the inputs; found out if not given.', 'qcow2', 'raw'),
  snapshot: text('Internal snapshot of the input to convert, by its ID or name.'),
  format: word('Format of the target.', 'raw', 'qcow2'),
  compress: flag('Compress every cluster that shrinks (qcow2).'),
  compressionLevel: word('How hard deflate tries.', 'fast', 'default', 'best'),
  create: object('Options of the new image.'),
  allowExternal: {
    schema: { anyOf: [{ enum: ['any'] }, { type: 'array', items: TEXT }] },
    must: '"any" or a list of folders',
    help: 'Folders outside those of the inputs whose files these may name.',
  },
  share: flag('Read inputs that another program has open for writing.'),
  checkSource: flag('Check the metadata of qcow2 inputs first; a corrupt one fails the job.'),
  verify: flag('Read the target again: compare it with the source, check its metadata.'),
  checksum: word(
    'Digest of the disk to tell, taken while it is converted.',
    'sha256',
    'sha256-sparse',
  ),
};

export const JOB_KEYS: Keys = {
  input: {
    schema: { anyOf: [TEXT, TEXTS] },
    must: 'a text or a list of texts, none of them empty',
    help: 'File to convert, or an http or https URL; several become one disk, one after the other. Relative names are taken from the folder of the job file.',
  },
  target: text('File to make; its folder is made if need be.'),
  digest: {
    schema: { type: 'string', pattern: '^[0-9A-Fa-f]{64}$' },
    must: '64 hexadecimal digits',
    help: 'What the checksum of the disk must be.',
  },
  ...COMMON_KEYS,
};

/** `NewImageOptions`, by their names. */
export const CREATE_KEYS: Keys = {
  size: bytes("Bytes of the disk, at least the inputs'."),
  clusterSize: bytes('Bytes of a cluster.'),
  compat: word('Version of the format.', '0.10', '1.1'),
  refcountBits: bytes('Bits of a reference counter.'),
  extendedL2: flag('Subclusters: allocate 1/32 of a cluster at a time.'),
  lazyRefcounts: flag('Postpone writing reference counters.'),
  compressionType: word('Of compressed clusters.', 'zlib', 'zstd'),
  dataFile: text('External data file to make; relative to the folder of the target.'),
  dataFileRaw: flag('The data file is to be a raw image by itself.'),
  preallocation: word('What to reserve.', 'off', 'metadata', 'falloc', 'full'),
  backingFile: text('Backing file; relative to the folder of the target.'),
  backingFormat: word('Its format.', 'qcow2', 'raw'),
};

/** Those that a raw image can have. */
export const RAW_CREATE_KEYS = ['size', 'preallocation'];

/** Whether a value is what a schema says. */
export function matches(schema: Schema, value: unknown): boolean {
  const { type, enum: words, anyOf, items } = schema;
  if (anyOf !== undefined) return anyOf.some((one) => matches(one, value));
  if (words !== undefined) return words.some((candidate) => candidate === value);
  switch (type) {
    case 'string':
      return typeof value === 'string' && matchesText(schema, value);
    case 'boolean':
      return typeof value === 'boolean';
    case 'integer':
      return Number.isInteger(value) && isBetween(schema, value as number);
    case 'array':
      return (
        Array.isArray(value) &&
        value.length >= (schema.minItems ?? 0) &&
        value.every((item) => items === undefined || matches(items, item))
      );
    default:
      return isObject(value);
  }
}

function matchesText({ minLength = 0, pattern = '' }: Schema, value: string): boolean {
  return value.length >= minLength && new RegExp(pattern, 'u').test(value);
}

function isBetween({ minimum, maximum }: Schema, value: number): boolean {
  return value >= (minimum ?? value) && value <= (maximum ?? value);
}

/** A JSON object. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function properties(keys: Keys): Record<string, object> {
  const entries = Object.entries(keys).map(([key, { schema, help }]) => [
    key,
    key === 'create' ? { $ref: '#/$defs/create' } : { description: help, ...schema },
  ]);
  return Object.fromEntries(entries);
}

function objectOf(description: string, keys: Keys, required: readonly string[] = []): object {
  return {
    description,
    type: 'object',
    properties: properties(keys),
    ...(required.length > 0 && { required }),
    additionalProperties: false,
  };
}

/**
 * The JSON Schema of job files, made of the table that they are read by. What depends on the defaults or
 * on other keys (a raw target has no clusters) only reading finds out.
 */
export function jobFileSchema(): object {
  const job = { $ref: '#/$defs/job' };
  const defaults = { $ref: '#/$defs/defaults' };
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    $id: 'urn:qcow2:batch-jobs',
    title: 'Jobs of qcow2 batch',
    description:
      'A whole .json file. Of an .ndjson file each line is a #/$defs/line: a job, or defaults for the jobs behind it.',
    type: 'object',
    properties: {
      $schema: { type: 'string' },
      defaults,
      jobs: { type: 'array', minItems: 1, items: job },
    },
    required: ['jobs'],
    additionalProperties: false,
    $defs: {
      line: {
        anyOf: [
          job,
          {
            type: 'object',
            properties: { defaults },
            required: ['defaults'],
            additionalProperties: false,
          },
        ],
      },
      job: objectOf('One image to make.', JOB_KEYS, ['input', 'target']),
      defaults: objectOf('What jobs have that do not say otherwise.', COMMON_KEYS),
      create: objectOf('Options of the new image. Sizes are in bytes.', CREATE_KEYS),
    },
  };
}
