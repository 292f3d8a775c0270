import * as fs from 'node:fs';
import * as path from 'node:path';
import { type BatchJob, besideTarget } from '../batch/jobs.ts';
import { Qcow2Error } from '../errors.ts';
import { ioError } from '../storage/file.ts';
import { isBelowUrl, isHttpUrl, parseHttpUrl, parseUrlPrefix } from '../storage/http-url.ts';

/** Symbolic links followed in one name; the limit of Linux. */
const MAX_LINKS = 40;

/**
 * The folder whose tree is all a worker reads and writes, and the URLs that it may read besides. Whoever
 * may submit jobs reaches no file outside, and no web server by way of the worker; whoever may make symbolic
 * links inside while a job begins is trusted.
 */
export class Root {
  /** Its real path. */
  readonly path: string;
  readonly #urls: readonly URL[];

  /**
   * @param allowedUrls each with all below it
   * @throws Qcow2Error NOT_FOUND, IO; REFUSED: it is no folder; INVALID_ARGUMENT: a URL is none
   */
  constructor(folder: string, allowedUrls: readonly string[] = []) {
    this.#urls = allowedUrls.map(parseUrlPrefix);
    try {
      this.path = fs.realpathSync.native(folder);
    } catch (cause) {
      throw ioError(cause, `Could not open '${folder}'`, folder);
    }
    if (!fs.statSync(this.path).isDirectory())
      throw new Qcow2Error('REFUSED', `root '${folder}' is not a folder`, { file: folder });
  }

  /**
   * Judges every name in a job by where it really leads. The same job; where it allows `any` file, those
   * below the root.
   * @throws Qcow2Error REFUSED: one leads outside
   */
  confine(job: BatchJob): BatchJob {
    const { target, create = {}, allowExternal = [] } = job;
    for (const input of job.inputs) this.#requireInput(input);
    this.#require(target);
    for (const file of [create.dataFile, create.backingFile])
      if (file !== undefined) this.#require(besideTarget(target, file));
    if (allowExternal === 'any') return { ...job, allowExternal: [this.path] };
    for (const folder of allowExternal) this.#requireSource(folder);
    return job;
  }

  #requireInput(
    input: Pick<BatchJob['inputs'][number], 'path' | 'dataFile' | 'backingFile'>,
  ): void {
    this.#requireSource(input.path);
    if (input.dataFile !== undefined) this.#requireSource(input.dataFile);
    if (input.backingFile !== undefined) this.#requireInput(input.backingFile);
  }

  #requireSource(name: string): void {
    if (isHttpUrl(name)) this.#requireUrl(name);
    else this.#require(name);
  }

  /** Where redirections and backing files lead is judged when they are followed. */
  #requireUrl(text: string): void {
    const { url, name, authorization } = parseHttpUrl(text);
    if (authorization === undefined && isBelowUrl(url, this.#urls)) return;
    const why = `'${name}' is not below a URL that this worker may read (--allow-url)`;
    throw new Qcow2Error('REFUSED', why, { file: name });
  }

  #require(file: string): void {
    if (path.isAbsolute(file) && path.normalize(file) === file && this.#holds(placeOf(file)))
      return;
    const text = `'${file}' is not below the root of this worker, '${this.path}'`;
    throw new Qcow2Error('REFUSED', text, { file });
  }

  #holds(place: string | null): boolean {
    if (place === null) return false;
    const below = path.relative(this.path, place);
    return below !== '..' && !below.startsWith(`..${path.sep}`) && !path.isAbsolute(below);
  }
}

/** Where a name leads, or would if the file were made; null: nowhere. */
export function placeOf(file: string, links = 0): string | null {
  if (links > MAX_LINKS) return null;
  try {
    return fs.realpathSync.native(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') return null;
  }
  const folder = placeOf(path.dirname(file), links);
  if (folder === null) return null;
  const place = path.join(folder, path.basename(file));
  const link = linkTarget(place);
  return link === undefined ? place : placeOf(path.resolve(folder, link), links + 1);
}

/** Undefined: it is no symbolic link. */
function linkTarget(place: string): string | undefined {
  try {
    return fs.readlinkSync(place);
  } catch {
    return undefined;
  }
}
