import type { DeflateLevel } from '../codecs/deflate.ts';
import { Qcow2Error } from '../errors.ts';
import { type KeyValue, parseKeyValues, parseSwitch } from './key-values.ts';
import { parseSize, parseWholeNumber } from './sizes.ts';

/** Formats an image can be created in. */
export type TargetFormat = 'qcow2' | 'raw';

/** What `-o` and its relatives say about a new image. Sizes are in bytes. */
export interface CreateSettings {
  readonly size?: number;
  readonly clusterSize?: number;
  readonly compat?: '0.10' | '1.1';
  readonly refcountBits?: number;
  readonly extendedL2?: boolean;
  readonly lazyRefcounts?: boolean;
  readonly compressionType?: 'zlib' | 'zstd';
  readonly dataFile?: string;
  readonly dataFileRaw?: boolean;
  readonly backingFile?: string;
  readonly backingFormat?: string;
}

type OptionType = 'size' | 'number' | 'switch' | 'text';

/** An option of `-o`. */
interface CreateOptionSpec {
  readonly key: string;
  readonly type: OptionType;
  readonly formats: readonly TargetFormat[];
  readonly help: string;
  /** Printed by `create` when the option is not given. */
  readonly shownDefault?: string;
  /** Words a text is limited to. */
  readonly words?: readonly string[];
}

const QCOW2 = ['qcow2'] as const;
const BOTH = ['qcow2', 'raw'] as const;

/** All options of `-o`, in the order in which `create` prints them for qcow2. */
const CREATE_OPTIONS: readonly CreateOptionSpec[] = [
  { key: 'encryption', type: 'switch', formats: QCOW2, help: 'must be off' },
  {
    key: 'cluster_size',
    type: 'size',
    formats: QCOW2,
    help: 'size of a cluster, a power of two from 512 to 2M',
    shownDefault: '65536',
  },
  {
    key: 'extended_l2',
    type: 'switch',
    formats: QCOW2,
    help: 'subclusters: allocate 1/32 of a cluster at a time',
    shownDefault: 'off',
  },
  {
    key: 'preallocation',
    type: 'text',
    formats: BOTH,
    help: 'off, metadata (qcow2 only), falloc or full',
    words: ['off', 'metadata', 'falloc', 'full'],
  },
  {
    key: 'compression_type',
    type: 'text',
    formats: QCOW2,
    help: 'zlib or zstd',
    shownDefault: 'zlib',
    words: ['zlib', 'zstd'],
  },
  {
    key: 'compression_level',
    type: 'text',
    formats: QCOW2,
    help: 'with convert -c to zlib: fast, default or best',
    words: ['fast', 'default', 'best'],
  },
  { key: 'size', type: 'size', formats: BOTH, help: 'size of the virtual disk' },
  {
    key: 'compat',
    type: 'text',
    formats: QCOW2,
    help: 'version of the format: 1.1 (or v3), 0.10 (or v2)',
    words: ['0.10', '1.1', 'v2', 'v3'],
  },
  { key: 'backing_file', type: 'text', formats: QCOW2, help: 'backing file' },
  { key: 'backing_fmt', type: 'text', formats: QCOW2, help: 'format of the backing file' },
  { key: 'data_file', type: 'text', formats: QCOW2, help: 'external data file' },
  {
    key: 'data_file_raw',
    type: 'switch',
    formats: QCOW2,
    help: 'keep the external data file usable as a raw image',
  },
  {
    key: 'lazy_refcounts',
    type: 'switch',
    formats: QCOW2,
    help: 'let writers postpone refcount updates',
    shownDefault: 'off',
  },
  {
    key: 'refcount_bits',
    type: 'number',
    formats: QCOW2,
    help: 'width of a reference count, 1 to 64 bits',
    shownDefault: '16',
  },
];

/** `create` prints raw options in another order. */
const RAW_ORDER = ['size', 'preallocation'];

/** The options of one `-o`, checked. Sizes and numbers are in bytes and units; the rest is text. */
export class CreateOptionValues {
  readonly format: TargetFormat;
  readonly #values = new Map<string, string | number>();

  /**
   * @param lists the arguments of all `-o`; later ones win
   * @throws Qcow2Error INVALID_ARGUMENT, and REFUSED for encryption
   */
  constructor(format: TargetFormat, lists: readonly string[]) {
    this.format = format;
    for (const pair of lists.flatMap(parseKeyValues)) this.#add(pair);
    if (this.#switch('encryption')) throw encryptionRefused('encryption');
  }

  /** Sets what an option of the command line (`-b`, SIZE) says. */
  set(key: string, value: string | number): void {
    this.#values.set(this.#spec(key).key, value);
  }

  has(key: string): boolean {
    return this.#values.has(key);
  }

  /** How hard a conversion compresses; no property of the image. */
  compressionLevel(): { compressionLevel?: DeflateLevel } {
    const level = this.#values.get('compression_level');
    return level === undefined ? {} : { compressionLevel: level as DeflateLevel };
  }

  /** The options as the operations take them, without those that were not given. */
  settings(): CreateSettings {
    const compat = this.#values.get('compat');
    const all = {
      size: this.#values.get('size'),
      clusterSize: this.#values.get('cluster_size'),
      compat: compat === 'v2' ? '0.10' : compat === 'v3' ? '1.1' : compat,
      refcountBits: this.#values.get('refcount_bits'),
      extendedL2: this.#switch('extended_l2'),
      lazyRefcounts: this.#switch('lazy_refcounts'),
      compressionType: this.#values.get('compression_type'),
      dataFile: this.#values.get('data_file'),
      dataFileRaw: this.#switch('data_file_raw'),
      preallocation: this.#values.get('preallocation'),
      backingFile: this.#values.get('backing_file'),
      backingFormat: this.#values.get('backing_fmt'),
    };
    // What each value may be was checked when it was added.
    const entries = Object.entries(all).filter(([, value]) => value !== undefined);
    return Object.fromEntries(entries) as CreateSettings;
  }

  #switch(key: string): boolean | undefined {
    const text = this.#values.get(key);
    return typeof text === 'string' ? parseSwitch(text, key) : undefined;
  }

  /** The line `create` prints. */
  formattingLine(path: string): string {
    const pairs = optionsOf(this.format).flatMap(({ key, shownDefault }) => {
      const value = this.#values.get(key) ?? shownDefault;
      return value === undefined ? [] : [`${key}=${String(value).replaceAll(',', ',,')}`];
    });
    return `Formatting '${path}', fmt=${this.format} ${pairs.join(' ')}`;
  }

  #spec(key: string): CreateOptionSpec {
    const spec = optionsOf(this.format).find((option) => option.key === key);
    if (spec !== undefined) return spec;
    if (key.startsWith('encrypt.')) throw encryptionRefused(key);
    throw new Qcow2Error(
      'INVALID_ARGUMENT',
      `unknown option '${key}' for format ${this.format}; -o help lists the options`,
    );
  }

  #add(pair: KeyValue): void {
    const { key, value } = this.#withValue(pair);
    const spec = this.#spec(key);
    if (spec.type === 'size') this.#values.set(key, parseSize(value, key));
    else if (spec.type === 'number') this.#values.set(key, parseWholeNumber(value, key));
    else {
      if (spec.type === 'switch') parseSwitch(value, key);
      else requireWord(spec, value);
      this.#values.set(key, value);
    }
  }

  /** A bare key is a switch that is on; with `no` before it, off. */
  #withValue({ key, value }: KeyValue): Required<KeyValue> {
    if (value !== undefined) return { key, value };
    const bare = key.replace(/^no/, '');
    const negated = bare !== key && optionsOf(this.format).some((option) => option.key === bare);
    return negated ? { key: bare, value: 'off' } : { key, value: 'on' };
  }
}

/** The options of a format in the order of the `Formatting` line. */
function optionsOf(format: TargetFormat): readonly CreateOptionSpec[] {
  const options = CREATE_OPTIONS.filter((option) => option.formats.includes(format));
  if (format === 'qcow2') return options;
  return options.sort((a, b) => RAW_ORDER.indexOf(a.key) - RAW_ORDER.indexOf(b.key));
}

function requireWord({ key, words }: CreateOptionSpec, value: string): void {
  if (words === undefined || words.includes(value)) return;
  throw new Qcow2Error(
    'INVALID_ARGUMENT',
    `option '${key}' must be ${words.join(' or ')}, not '${value}'`,
  );
}

function encryptionRefused(key: string): Qcow2Error {
  return new Qcow2Error('REFUSED', `option '${key}': encrypted images cannot be created`);
}

/** The list that `-o help` prints. */
export function createOptionsHelp(format: TargetFormat): string {
  const shown: Readonly<Record<OptionType, string>> = {
    size: '<size>',
    number: '<num>',
    switch: '<bool (on/off)>',
    text: '<str>',
  };
  const rows = [...optionsOf(format)]
    .sort((a, b) => (a.key < b.key ? -1 : 1))
    .map(({ key, type, help }) => `  ${`${key}=${shown[type]}`.padEnd(22)} - ${help}\n`);
  return `Supported ${format} options:\n${rows.join('')}`;
}
