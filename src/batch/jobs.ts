import * as fs from 'node:fs';
import * as path from 'node:path';
import { Qcow2Error } from '../errors.ts';
import type { ChecksumAlgorithm } from '../node/disk-digest.ts';
import { isHttpUrl, shownName } from '../storage/http-url.ts';
import type { ConvertFileOptions } from '../workers/convert-file.ts';

/** One image of a batch: what `convertFile` takes, as far as it is plain data, and what is checked. */
export interface BatchJob
  extends Pick<
    ConvertFileOptions,
    | 'inputs'
    | 'snapshot'
    | 'allowExternal'
    | 'share'
    | 'target'
    | 'targetFormat'
    | 'create'
    | 'compress'
    | 'compressionLevel'
  > {
  /** Check the metadata of each qcow2 input first; a corrupt one fails the job. */
  checkSource?: boolean;
  /**
   * Read the target again before it gets its name: compare it with the source and, if it is qcow2, check
   * its metadata.
   */
  verify?: boolean;
  /**
   * Tell the digest of the disk, see `checksum`: of what is read from the source while it is converted. With
   * `verify`, the target is known to hold just that.
   */
  checksum?: ChecksumAlgorithm;
  /** The digest it must have, in hexadecimal. */
  digest?: string;
}

/** What all images of a command line have in common. */
export interface CommonJobOptions extends Omit<BatchJob, 'inputs' | 'snapshot' | 'target'> {
  /** Folder of the targets. */
  directory: string;
  /** Absent: each is probed. */
  inputFormat?: 'qcow2' | 'raw' | undefined;
}

/** Endings that name an image format, or how it is packed, and are replaced by the target's. */
const IMAGE_ENDING = /(?<=.)(\.(qcow2|img|raw))?(\.(gz|xz|zst))?$/i;

/** A job per input; `vm.img` and `vm.img.gz` become `DIRECTORY/vm.raw` or `DIRECTORY/vm.qcow2`. */
export function jobsFromInputs(inputs: readonly string[], options: CommonJobOptions): BatchJob[] {
  const { directory, inputFormat, ...common } = options;
  return inputs.map((input) => {
    const name = path.basename(withoutQuery(input)).replace(IMAGE_ENDING, '');
    const target = path.join(directory, `${name}.${common.targetFormat}`);
    return { ...common, inputs: [{ path: input, format: inputFormat }], target };
  });
}

/** What a URL calls its file; a path as it is. */
function withoutQuery(input: string): string {
  return isHttpUrl(input) ? input.replace(/[?#].*$/s, '') : input;
}

/**
 * Jobs run at the same time and in any order, so none may write what another reads or writes.
 * @throws Qcow2Error INVALID_ARGUMENT
 */
export function requireIndependent(jobs: readonly BatchJob[]): void {
  const writers = new Map<string, BatchJob>();
  for (const job of jobs) {
    for (const file of filesWritten(job)) {
      const key = placeOf(file);
      const other = writers.get(key);
      if (other)
        throw invalid(`'${nameOf(other)}' and '${nameOf(job)}' have the same target '${file}'`);
      writers.set(key, job);
    }
  }
  for (const job of jobs) {
    for (const file of filesRead(job)) {
      const writer = writers.get(placeOf(file));
      if (writer) throw invalid(`target '${file}' of '${nameOf(writer)}' is also an input`);
    }
  }
}

/** The target, and its external data file if it is to have one. */
export function filesWritten({ target, create }: BatchJob): string[] {
  const { dataFile } = create ?? {};
  return dataFile === undefined ? [target] : [target, besideTarget(target, dataFile)];
}

function filesRead({ inputs, target, create }: BatchJob): string[] {
  const { backingFile } = create ?? {};
  const paths = inputs.flatMap(filesGiven).filter((file) => !isHttpUrl(file));
  return backingFile === undefined ? paths : [...paths, besideTarget(target, backingFile)];
}

/** An input and the files its caller named for it. */
function filesGiven({ path: file, dataFile, backingFile }: BatchJob['inputs'][number]): string[] {
  const below = backingFile === undefined ? [] : filesGiven(backingFile);
  return dataFile === undefined ? [file, ...below] : [file, dataFile, ...below];
}

/** Where a file is that a target names. */
export function besideTarget(target: string, file: string): string {
  return path.resolve(path.dirname(target), file);
}

function nameOf({ inputs }: BatchJob): string {
  return inputs.map((input) => shownName(input.path)).join("', '");
}

/** File systems of these platforms usually take names that differ in case for the same. */
const FOLDS_CASE = process.platform === 'darwin' || process.platform === 'win32';

/** Where a name leads, or would lead if the file were there: the same text for the same place. */
function placeOf(file: string): string {
  const folder = path.dirname(path.resolve(file));
  const place = realPath(file) ?? path.join(realPath(folder) ?? folder, path.basename(file));
  return FOLDS_CASE ? place.toLowerCase() : place;
}

function realPath(file: string): string | undefined {
  try {
    return fs.realpathSync.native(file);
  } catch {
    return undefined;
  }
}

function invalid(message: string): Qcow2Error {
  return new Qcow2Error('INVALID_ARGUMENT', message);
}
