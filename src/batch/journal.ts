import * as fs from 'node:fs';
import * as path from 'node:path';
import { Qcow2Error } from '../errors.ts';
import { PARTIAL_PREFIX, PARTIAL_SUFFIX } from '../node/target-file.ts';
import { ioError } from '../storage/file.ts';
import type { TargetFigures } from './events.ts';
import type { FileIdentity } from './file-identity.ts';
import { isRunning, type ProcessIdentity, thisProcess } from './process-identity.ts';

/** First line of a journal. */
const HEAD = { journal: 'qcow2-batch', version: 1 };

/** A job that is done, as a line of the journal. */
export interface JournalRecord {
  /** See `jobId`. */
  done: string;
  /** When it ended, as an ISO 8601 date. */
  at: string;
  figures: TargetFigures;
  /** Every file that was read, as it was before; URLs as they are shown. */
  sources: readonly FileIdentity[];
  targets: readonly FileIdentity[];
}

/** A run that wrote to the journal. */
interface RunRecord {
  /** In the names of the files it was writing. */
  run: string;
  at: string;
  process: ProcessIdentity;
}

/**
 * What a batch has done, one line of JSON after the other: a run that was killed goes on from there. A
 * line is on the disk before the job counts as finished; a last line that was cut off does not count.
 */
export class Journal {
  /** In the names of the files this run is writing. */
  readonly tag = Math.random().toString(36).slice(2);
  readonly #file: string;
  readonly #fd: number;
  readonly #done = new Map<string, JournalRecord>();
  readonly #runs: RunRecord[] = [];
  #pending: string[] = [];
  #writing: Promise<void> | undefined;

  /**
   * @param resume go on with a journal that is there; otherwise there must be none
   * @throws Qcow2Error REFUSED: there is a journal, or a batch that runs writes it; INVALID_ARGUMENT: it
   *   is no journal; IO, NOT_FOUND
   */
  constructor(file: string, resume: boolean) {
    this.#file = file;
    this.#fd = this.#open(resume);
    try {
      this.#read();
      const record: RunRecord = { run: this.tag, at: now(), process: thisProcess() };
      this.#write(`${JSON.stringify(record)}\n`);
      fs.fsyncSync(this.#fd);
    } catch (error) {
      fs.closeSync(this.#fd);
      throw this.#failed(error);
    }
  }

  /** What is noted of a job, by its name; see `jobId`. */
  recordOf(name: string): JournalRecord | undefined {
    return this.#done.get(name);
  }

  /**
   * Writes that a job is done. Settles when that is on the disk; what comes meanwhile goes there together.
   * @throws Qcow2Error IO
   */
  append(record: JournalRecord): Promise<void> {
    this.#pending.push(`${JSON.stringify(record)}\n`);
    this.#writing = (this.#writing ?? Promise.resolve()).then(() => this.#flush());
    return this.#writing;
  }

  /** Removes what earlier runs were writing into these folders when they were killed. */
  removeLeftovers(folders: Iterable<string>): void {
    const prefixes = this.#runs.map(({ run }) => `${PARTIAL_PREFIX}${run}-`);
    if (prefixes.length === 0) return;
    for (const folder of new Set(folders)) {
      for (const name of namesIn(folder))
        if (name.endsWith(PARTIAL_SUFFIX) && prefixes.some((prefix) => name.startsWith(prefix)))
          fs.rmSync(path.join(folder, name), { force: true });
    }
  }

  close(): void {
    fs.closeSync(this.#fd);
  }

  #open(resume: boolean): number {
    const { O_RDWR, O_CREAT, O_EXCL, O_APPEND } = fs.constants;
    try {
      const flags = O_RDWR | O_CREAT | O_APPEND | (resume ? 0 : O_EXCL);
      return fs.openSync(this.#file, flags, 0o644);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw this.#failed(cause);
      const text = `journal '${this.#file}' is there: go on with it (--resume), or remove it to begin anew`;
      throw new Qcow2Error('REFUSED', text, { file: this.#file });
    }
  }

  #read(): void {
    const bytes = fs.readFileSync(this.#fd);
    const whole = bytes.lastIndexOf(10) + 1;
    const lines = bytes.toString('utf8', 0, whole).split('\n').slice(0, -1);
    for (const [i, line] of lines.entries()) this.#take(line, i);
    const head = JSON.stringify(HEAD);
    if (lines.length === 0 && !head.startsWith(bytes.toString())) throw this.#isNone(1);
    const last = this.#runs.at(-1);
    if (last !== undefined && isRunning(last.process)) {
      const text = `journal '${this.#file}' is in use by process ${last.process.pid}: wait for it`;
      throw new Qcow2Error('REFUSED', text, { file: this.#file });
    }
    // What a killed run did not write to its end: the next line must not be joined to it.
    if (whole < bytes.length) fs.ftruncateSync(this.#fd, whole);
    if (lines.length === 0) this.#write(`${head}\n`);
  }

  #take(line: string, index: number): void {
    const value = parsed(line);
    if (index === 0) {
      if (value?.journal === HEAD.journal && value.version === HEAD.version) return;
    } else if (isDone(value)) {
      this.#done.set(value.done, value);
      return;
    } else if (isRun(value)) {
      this.#runs.push(value);
      return;
    }
    throw this.#isNone(index + 1);
  }

  #isNone(line: number): Qcow2Error {
    const text = `'${this.#file}' is no journal of a batch: line ${line} is not one of its lines; name another file`;
    return new Qcow2Error('INVALID_ARGUMENT', text, { file: this.#file });
  }

  #write(text: string): void {
    fs.writeFileSync(this.#fd, text);
  }

  async #flush(): Promise<void> {
    const lines = this.#pending.join('');
    if (lines === '') return;
    this.#pending = [];
    try {
      this.#write(lines);
      await new Promise<void>((resolve, reject) => {
        fs.fdatasync(this.#fd, (error) => (error ? reject(error) : resolve()));
      });
    } catch (error) {
      throw this.#failed(error);
    }
  }

  #failed(error: unknown): unknown {
    if (error instanceof Qcow2Error) return error;
    return ioError(error, `Could not write journal '${this.#file}'`, this.#file);
  }
}

function now(): string {
  return new Date().toISOString();
}

function parsed(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isDone(value: unknown): value is JournalRecord {
  if (!isObject(value)) return false;
  const { done, figures, sources, targets } = value;
  return typeof done === 'string' && isObject(figures) && [sources, targets].every(areFiles);
}

function areFiles(value: unknown): value is FileIdentity[] {
  return (
    Array.isArray(value) &&
    value.every((each) => isObject(each) && typeof each.file === 'string' && each.file !== '')
  );
}

/** The name of a run is part of the names of files that are removed. */
function isRun(value: unknown): value is RunRecord {
  if (!isObject(value) || !isObject(value.process)) return false;
  return typeof value.run === 'string' && /^[a-z0-9]+$/.test(value.run);
}

function namesIn(folder: string): string[] {
  try {
    return fs.readdirSync(folder);
  } catch {
    return [];
  }
}
