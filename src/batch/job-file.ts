import * as fs from 'node:fs';
import * as path from 'node:path';
import { Qcow2Error } from '../errors.ts';
import { ioError } from '../storage/file.ts';
import { isHttpUrl } from '../storage/http-url.ts';
import type { BatchJob } from './jobs.ts';

/** Checks a value; returns what is wrong with it as "must be ...", or null. */
type Check = (value: unknown) => string | null;

const text: Check = (value) =>
  typeof value === 'string' && value !== '' && !value.includes('\0')
    ? null
    : 'must be a text that is not empty';
const flag: Check = (value) => (typeof value === 'boolean' ? null : 'must be true or false');
const bytes: Check = (value) =>
  Number.isSafeInteger(value) && (value as number) >= 0
    ? null
    : 'must be a whole number from 0 to 2^53 - 1';
const object: Check = (value) => (isObject(value) ? null : 'must be an object');
const word =
  (...words: string[]): Check =>
  (value) =>
    words.some((candidate) => candidate === value)
      ? null
      : `must be ${words.map((candidate) => `"${candidate}"`).join(' or ')}`;
const texts: Check = (value) =>
  Array.isArray(value) && value.length > 0 && value.every((item) => text(item) === null)
    ? null
    : 'must be a text or a list of texts, none of them empty';
const textOrTexts: Check = (value) => text(value) && texts(value);
const folders: Check = (value) =>
  value === 'any' || (Array.isArray(value) && value.every((item) => text(item) === null))
    ? null
    : 'must be "any" or a list of folders';

type Checks = Readonly<Record<string, Check>>;

/** Keys that `defaults` and a job share. */
const COMMON: Checks = {
  inputFormat: word('qcow2', 'raw'),
  snapshot: text,
  format: word('raw', 'qcow2'),
  compress: flag,
  compressionLevel: word('fast', 'default', 'best'),
  create: object,
  allowExternal: folders,
  share: flag,
};
const JOB: Checks = { input: textOrTexts, target: text, ...COMMON };
/** `NewImageOptions`, by their names. Sizes are in bytes. */
const CREATE: Checks = {
  size: bytes,
  clusterSize: bytes,
  compat: word('0.10', '1.1'),
  refcountBits: bytes,
  extendedL2: flag,
  lazyRefcounts: flag,
  compressionType: word('zlib', 'zstd'),
  dataFile: text,
  dataFileRaw: flag,
  preallocation: word('off', 'metadata', 'falloc', 'full'),
  backingFile: text,
  backingFormat: word('qcow2', 'raw'),
};
/** Those that a raw image can have. */
const RAW_CREATE = ['size', 'preallocation'];
const TOP: Checks = {
  defaults: object,
  jobs: (value) =>
    Array.isArray(value) && value.length > 0 ? null : 'must be a list of at least one job',
};

/** A job as written, with the defaults filled in and every value checked. */
interface JobEntry {
  input: string | string[];
  inputFormat?: 'qcow2' | 'raw';
  snapshot?: string;
  target: string;
  format: 'raw' | 'qcow2';
  compress?: boolean;
  compressionLevel?: 'fast' | 'default' | 'best';
  create?: NonNullable<BatchJob['create']>;
  allowExternal?: 'any' | string[];
  share?: boolean;
}

/**
 * Reads a job file. Names in it are relative to its folder.
 * @throws Qcow2Error NOT_FOUND, IO, INVALID_ARGUMENT
 */
export function readJobFile(file: string): BatchJob[] {
  let json: string;
  try {
    json = fs.readFileSync(file, 'utf8');
  } catch (error) {
    throw ioError(error, `Could not open '${file}'`, file);
  }
  return parseJobs(json, file);
}

/**
 * Reads the text of a job file: `{ "defaults": {...}, "jobs": [ { "input", "target", ... } ] }`.
 * @param file its name, for messages and as the place names are relative to
 * @throws Qcow2Error INVALID_ARGUMENT: one line that names the job (from 0) and the key
 */
export function parseJobs(json: string, file: string): BatchJob[] {
  const reader = new JobFileReader(file);
  let top: unknown;
  try {
    top = JSON.parse(json.replace(/^\ufeff/, ''));
  } catch (error) {
    throw reader.invalid(
      `it is not JSON: ${String((error as Error).message).replace(/\s+/g, ' ')}`,
    );
  }
  return reader.read(top);
}

class JobFileReader {
  readonly #file: string;
  readonly #folder: string;

  constructor(file: string) {
    this.#file = file;
    this.#folder = path.dirname(file);
  }

  invalid(what: string): Qcow2Error {
    return new Qcow2Error('INVALID_ARGUMENT', `job file '${this.#file}': ${what}`, {
      file: this.#file,
    });
  }

  read(top: unknown): BatchJob[] {
    if (!isObject(top)) throw this.invalid('it must hold an object with the key "jobs"');
    this.#check(top, '', TOP);
    if (top.jobs === undefined) throw this.invalid('key "jobs" is missing');
    const defaults = (top.defaults ?? {}) as Record<string, unknown>;
    this.#checkOptions(defaults, 'defaults', COMMON);
    return (top.jobs as unknown[]).map((job, index) => {
      const place = `jobs[${index}]`;
      if (!isObject(job)) throw this.invalid(`${place}: must be an object`);
      this.#checkOptions(job, place, JOB);
      const create = { ...(defaults.create ?? {}), ...(job.create ?? {}) };
      return this.#job({ ...defaults, ...job, create }, place);
    });
  }

  #checkOptions(value: Record<string, unknown>, place: string, checks: Checks): void {
    this.#check(value, place, checks);
    const { create } = value;
    if (create !== undefined)
      this.#check(create as Record<string, unknown>, `${place}.create`, CREATE);
  }

  #check(value: Record<string, unknown>, place: string, checks: Checks): void {
    for (const [key, member] of Object.entries(value)) {
      const check = Object.hasOwn(checks, key) ? checks[key] : undefined;
      const at = place === '' ? '' : `${place}: `;
      if (check === undefined) {
        const known = Object.keys(checks).join(', ');
        throw this.invalid(`${at}unknown key "${key}"; there are ${known}`);
      }
      const wrong = check(member);
      if (wrong !== null) throw this.invalid(`${at}"${key}" ${wrong}`);
    }
  }

  #job(merged: Record<string, unknown>, place: string): BatchJob {
    for (const key of ['input', 'target', 'format'])
      if (merged[key] === undefined) throw this.invalid(`${place}: key "${key}" is missing`);
    const entry = merged as unknown as JobEntry;
    const { format, snapshot, compress, compressionLevel, create = {} } = entry;
    const { allowExternal, share } = entry;
    this.#requireConsistent(entry, place);
    return {
      inputs: [entry.input].flat().map((input) => ({
        path: isHttpUrl(input) ? input : this.#resolve(input),
        format: entry.inputFormat,
      })),
      target: this.#resolve(entry.target),
      targetFormat: format,
      create,
      ...(snapshot !== undefined && { snapshot }),
      ...(compress !== undefined && { compress }),
      ...(compressionLevel !== undefined && { compressionLevel }),
      ...(share !== undefined && { share }),
      allowExternal:
        typeof allowExternal === 'object'
          ? allowExternal.map((name) => (isHttpUrl(name) ? name : this.#resolve(name)))
          : (allowExternal ?? []),
    };
  }

  /** What would otherwise have no effect is an error. */
  #requireConsistent({ input, format, compress, create, snapshot }: JobEntry, place: string): void {
    if (Array.isArray(input) && input.length > 1 && snapshot !== undefined)
      throw this.invalid(`${place}: "snapshot" needs a single input: it names a snapshot of it`);
    if (format === 'qcow2') return;
    if (compress) throw this.invalid(`${place}: "compress" needs "format": "qcow2"`);
    const key = Object.keys(create ?? {}).find((name) => !RAW_CREATE.includes(name));
    if (key !== undefined) throw this.invalid(`${place}.create: "${key}" needs "format": "qcow2"`);
  }

  #resolve(name: string): string {
    return path.join(path.isAbsolute(name) ? '' : this.#folder, name);
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
