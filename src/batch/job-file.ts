import * as fs from 'node:fs';
import * as path from 'node:path';
import { Qcow2Error } from '../errors.ts';
import { ioError } from '../storage/file.ts';
import { isHttpUrl, shownName } from '../storage/http-url.ts';
import {
  COMMON_KEYS,
  CREATE_KEYS,
  isObject,
  JOB_KEYS,
  type Keys,
  matches,
  RAW_CREATE_KEYS,
} from './job-schema.ts';
import type { BatchJob } from './jobs.ts';

/** Names of files that are read as job files. */
export const JOB_FILE_NAME = /\.(json|ndjson|jsonl)$/i;

/** Those with a job a line. */
const LINES_NAME = /\.(ndjson|jsonl)$/i;

/** Of a whole file. */
const TOP_KEYS: Keys = {
  defaults: { schema: { type: 'object' }, must: 'an object', help: '' },
  jobs: {
    schema: { type: 'array', minItems: 1 },
    must: 'a list of at least one job',
    help: '',
  },
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
  checkSource?: boolean;
  verify?: boolean;
  checksum?: NonNullable<BatchJob['checksum']>;
  digest?: string;
}

/** Keys of a job that a `BatchJob` has by the same names. */
const SAME_KEYS = [
  'snapshot',
  'compress',
  'compressionLevel',
  'share',
  'checkSource',
  'verify',
  'checksum',
  'digest',
] as const;

/**
 * Reads a job file. Names in it are relative to its folder.
 * @throws Qcow2Error NOT_FOUND, IO, INVALID_ARGUMENT
 * @example
 * import { readJobFile, runBatch } from 'qcow2';
 *
 * const { failed } = await runBatch(readJobFile('jobs.json'), { retries: 2 });
 * console.log(failed);
 */
export function readJobFile(file: string): BatchJob[] {
  let text: string;
  try {
    text = fs.readFileSync(file, 'utf8');
  } catch (error) {
    throw ioError(error, `Could not open '${file}'`, file);
  }
  return parseJobs(text, file);
}

/**
 * Reads the text of a job file: `{ "defaults": {...}, "jobs": [ { "input", "target", ... } ] }`, or, by
 * a name that ends with `.ndjson` or `.jsonl`, a job a line. Of the latter a line `{ "defaults": {...} }`
 * is for those behind it, instead of earlier ones. The schema is `batch-jobs.schema.json`.
 * @param file its name, for messages and as the place names are relative to
 * @throws Qcow2Error INVALID_ARGUMENT: one line that names the job (from 0) or the line (from 1) and the key
 */
export function parseJobs(text: string, file: string): BatchJob[] {
  const reader = new JobFileReader(file);
  const plain = text.replace(/^\ufeff/, '');
  return LINES_NAME.test(file) ? reader.readLines(plain) : reader.readWhole(plain);
}

/**
 * A job as a job file would have it. Names in it are taken as they are.
 * @throws Qcow2Error INVALID_ARGUMENT: job files have no words for it
 */
export function jobEntry({ inputs, targetFormat, allowExternal = [], ...job }: BatchJob): object {
  const [first] = inputs;
  const format = first?.format;
  for (const { path: input, format: own, ...named } of inputs)
    if (own !== format || Object.values(named).some((value) => value !== undefined)) {
      const shown = shownName(input);
      const text = `'${shown}' is given more than a job file can say: one format for all inputs`;
      throw new Qcow2Error('INVALID_ARGUMENT', text, { file: shown });
    }
  const names = inputs.map(({ path: name }) => name);
  return {
    ...job,
    input: names.length === 1 ? names[0] : names,
    ...(format !== undefined && { inputFormat: format }),
    format: targetFormat,
    ...(allowExternal.length > 0 && { allowExternal }),
  };
}

type Values = Record<string, unknown>;

class JobFileReader {
  readonly #file: string;
  readonly #folder: string;

  constructor(file: string) {
    this.#file = file;
    this.#folder = path.dirname(file);
  }

  readWhole(text: string): BatchJob[] {
    const top = this.#parse(text, '');
    if (!isObject(top)) throw this.#invalid('it must hold an object with the key "jobs"');
    // Editors find the schema by it.
    const { $schema: _, ...rest } = top;
    this.#check(rest, '', TOP_KEYS);
    if (rest.jobs === undefined) throw this.#invalid('key "jobs" is missing');
    const defaults = this.#defaults(rest.defaults ?? {}, 'defaults');
    return (rest.jobs as unknown[]).map((job, index) => this.#job(job, defaults, `jobs[${index}]`));
  }

  readLines(text: string): BatchJob[] {
    const jobs: BatchJob[] = [];
    let defaults: Values = {};
    for (const [index, line] of text.split('\n').entries()) {
      if (line.trim() === '') continue;
      const place = `line ${index + 1}`;
      const value = this.#parse(line, `${place}: `);
      if (isObject(value) && Object.keys(value).join() === 'defaults')
        defaults = this.#defaults(value.defaults, `${place}: defaults`);
      else jobs.push(this.#job(value, defaults, place));
    }
    if (jobs.length > 0) return jobs;
    throw this.#invalid('it must hold at least one job, each a line of JSON');
  }

  #invalid(what: string): Qcow2Error {
    const text = `job file '${this.#file}': ${what}`;
    return new Qcow2Error('INVALID_ARGUMENT', text, { file: this.#file });
  }

  #parse(text: string, at: string): unknown {
    try {
      return JSON.parse(text);
    } catch (error) {
      const why = String((error as Error).message).replace(/\s+/g, ' ');
      throw this.#invalid(`${at}it is not JSON: ${why}`);
    }
  }

  #defaults(value: unknown, place: string): Values {
    if (!isObject(value)) throw this.#invalid(`"${place}" must be an object`);
    this.#checkOptions(value, place, COMMON_KEYS);
    return value;
  }

  #checkOptions(value: Values, place: string, keys: Keys): void {
    this.#check(value, place, keys);
    const { create } = value;
    if (create !== undefined) this.#check(create as Values, `${place}.create`, CREATE_KEYS);
  }

  #check(value: Values, place: string, keys: Keys): void {
    const at = place === '' ? '' : `${place}: `;
    for (const [key, member] of Object.entries(value)) {
      const spec = Object.hasOwn(keys, key) ? keys[key] : undefined;
      if (spec === undefined) {
        const known = Object.keys(keys).join(', ');
        throw this.#invalid(`${at}unknown key "${key}"; there are ${known}`);
      }
      if (!matches(spec.schema, member)) throw this.#invalid(`${at}"${key}" must be ${spec.must}`);
    }
  }

  #job(value: unknown, defaults: Values, place: string): BatchJob {
    if (!isObject(value)) throw this.#invalid(`${place}: must be an object`);
    this.#checkOptions(value, place, JOB_KEYS);
    const create = { ...(defaults.create as Values), ...(value.create as Values) };
    const merged: Values = { ...defaults, ...value, create };
    for (const key of ['input', 'target', 'format'])
      if (merged[key] === undefined) throw this.#invalid(`${place}: key "${key}" is missing`);
    const entry = merged as unknown as JobEntry;
    this.#requireConsistent(entry, place);
    return this.#batchJob(entry);
  }

  #batchJob(entry: JobEntry): BatchJob {
    const { input, inputFormat: format, target, format: targetFormat, create = {} } = entry;
    const { allowExternal = [] } = entry;
    const same = SAME_KEYS.filter((key) => entry[key] !== undefined);
    return {
      inputs: [input].flat().map((name) => ({
        path: isHttpUrl(name) ? name : this.#resolve(name),
        format,
      })),
      target: this.#resolve(target),
      targetFormat,
      create,
      ...Object.fromEntries(same.map((key) => [key, entry[key]])),
      allowExternal:
        allowExternal === 'any'
          ? 'any'
          : allowExternal.map((name) => (isHttpUrl(name) ? name : this.#resolve(name))),
    };
  }

  /** What would otherwise have no effect is an error. */
  #requireConsistent(entry: JobEntry, place: string): void {
    const { input, format, compress, create, snapshot, digest, checksum } = entry;
    if (Array.isArray(input) && input.length > 1 && snapshot !== undefined)
      throw this.#invalid(`${place}: "snapshot" needs a single input: it names a snapshot of it`);
    if (digest !== undefined && checksum === undefined)
      throw this.#invalid(`${place}: "digest" needs "checksum", which says of what kind it is`);
    if (format === 'qcow2') return;
    if (compress) throw this.#invalid(`${place}: "compress" needs "format": "qcow2"`);
    const key = Object.keys(create ?? {}).find((name) => !RAW_CREATE_KEYS.includes(name));
    if (key !== undefined) throw this.#invalid(`${place}.create: "${key}" needs "format": "qcow2"`);
  }

  #resolve(name: string): string {
    return path.join(path.isAbsolute(name) ? '' : this.#folder, name);
  }
}
