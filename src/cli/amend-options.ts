import { Qcow2Error } from '../errors.ts';
import type { AmendOptions } from '../operations/amend.ts';
import { parseKeyValues, parseSwitch } from './key-values.ts';
import { parseResize } from './sizes.ts';

/** Options of `amend -o`: how they are shown in its help. */
const HELP: Readonly<Record<string, readonly [type: string, help: string]>> = {
  backing_file: ['<str>', 'as it is recorded: only rebase changes it'],
  backing_fmt: ['<str>', 'as it is recorded: only rebase changes it'],
  compat: ['<str>', 'version of the format: 1.1 (or v3), 0.10 (or v2)'],
  data_file: ['<str>', 'name recorded for the external data file'],
  data_file_raw: ['<bool (on/off)>', 'off: the external data file need not stay a raw image'],
  lazy_refcounts: ['<bool (on/off)>', 'let writers postpone refcount updates'],
  refcount_bits: ['<num>', 'width of a reference count, 1 to 64 bits'],
  size: ['<size>', 'size of the virtual disk; what is behind a smaller one is lost'],
};

/** Options of a new image that an existing one keeps. */
const CREATION_ONLY = new Set([
  'cluster_size',
  'encryption',
  'encrypt.format',
  'extended_l2',
  'preallocation',
  'compression_type',
]);

/** The list that `amend -o help` prints. */
export function amendOptionsHelp(): string {
  const rows = Object.entries(HELP).map(
    ([key, [type, help]]) => `  ${`${key}=${type}`.padEnd(22)} - ${help}\n`,
  );
  return `Amend options for 'qcow2':\n${rows.join('')}`;
}

/**
 * Reads the lists of all `-o`; later values win.
 * @throws Qcow2Error INVALID_ARGUMENT, and REFUSED for encryption
 */
export function parseAmendOptions(lists: readonly string[]): AmendOptions {
  const values = new Map<string, string>();
  for (const { key, value = 'on' } of lists.flatMap(parseKeyValues)) {
    requireKnown(key);
    values.set(key, value);
  }
  const options: AmendOptions = {};
  const take = (key: string, into: (value: string) => void): void => {
    const value = values.get(key);
    if (value !== undefined) into(value);
  };
  take('compat', (value) => {
    options.compat = compatOf(value);
  });
  take('size', (value) => {
    options.size = sizeOf(value);
  });
  take('refcount_bits', (value) => {
    options.refcountBits = numberOf(value);
  });
  take('lazy_refcounts', (value) => {
    options.lazyRefcounts = parseSwitch(value, 'lazy_refcounts');
  });
  take('data_file_raw', (value) => {
    options.dataFileRaw = parseSwitch(value, 'data_file_raw');
  });
  take('data_file', (value) => {
    options.dataFile = value;
  });
  take('backing_file', (value) => {
    options.backingFile = value;
  });
  take('backing_fmt', (value) => {
    options.backingFormat = value;
  });
  return options;
}

function requireKnown(key: string): void {
  if (Object.hasOwn(HELP, key)) return;
  if (CREATION_ONLY.has(key)) {
    const text = `Invalid parameter '${key}': this option is only supported for image creation`;
    throw new Qcow2Error('INVALID_ARGUMENT', text);
  }
  if (key.startsWith('encrypt.'))
    throw new Qcow2Error('REFUSED', `option '${key}': encrypted images cannot be amended`);
  throw new Qcow2Error('INVALID_ARGUMENT', `Invalid parameter '${key}'`);
}

function compatOf(value: string): '0.10' | '1.1' {
  if (value === '0.10' || value === 'v2') return '0.10';
  if (value === '1.1' || value === 'v3') return '1.1';
  throw new Qcow2Error('INVALID_ARGUMENT', `Unknown compatibility level ${value}`);
}

function sizeOf(value: string): number {
  // A sign means nothing here.
  const size = parseResize(/^[+-]/.test(value) ? 'x' : value, 0);
  if (size <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(size);
  throw new Qcow2Error('TOO_LARGE', 'Failed to grow the L1 table: File too large');
}

function numberOf(value: string): number {
  if (/^[0-9]+$/.test(value)) return Number(value);
  throw new Qcow2Error('INVALID_ARGUMENT', "Parameter 'refcount_bits' expects a number");
}
