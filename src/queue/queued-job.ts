import * as fs from 'node:fs';
import * as path from 'node:path';
import type { JobFailed, JobFiles, JobFinished } from '../batch/events.ts';
import { type FileIdentity, fileIdentity } from '../batch/file-identity.ts';
import { jobEntry, parseJobs } from '../batch/job-file.ts';
import { jobId } from '../batch/job-id.ts';
import { isObject } from '../batch/job-schema.ts';
import { type BatchJob, filesWritten } from '../batch/jobs.ts';
import type { PhaseProgress } from '../batch/run-job.ts';
import { sourceIdentity, sourcesOf } from '../batch/source-identity.ts';
import { Qcow2Error } from '../errors.ts';
import { PARTIAL_PREFIX, PARTIAL_SUFFIX } from '../node/target-file.ts';
import type { HttpOptions } from '../storage/http.ts';
import { isHttpUrl, parseHttpUrl, shownName } from '../storage/http-url.ts';
import { placeOf } from './root.ts';

/** The name of the queue on its server. */
export const QUEUE_NAME = 'qcow2';

/** Steps in nanoseconds in which file systems count time: FAT, HFS+ and NFSv2, exFAT, others, NTFS. */
const TIME_STEPS = [2_000_000_000n, 1_000_000_000n, 10_000_000n, 1_000_000n, 1000n, 100n];

/** What a source was when the job was submitted; size -1: who submitted it does not see the file. */
export type SourceVersion = Pick<FileIdentity, 'size' | 'version'>;

/** A job on its way through the server: no image bytes, names of files only. */
export interface QueuedData {
  /** As in a job file, with absolute names. */
  job: object;
  sources: readonly SourceVersion[];
}

/** What is kept of a job that is done. */
export interface QueuedResult
  extends Pick<
    JobFinished,
    'bytesVirtual' | 'bytesSource' | 'bytesWritten' | 'checksum' | 'phases' | 'seconds' | 'attempts'
  > {
  targets: readonly FileIdentity[];
}

/** What a worker tells of a job: how far it is, or why an attempt failed. */
export type QueuedProgress =
  | (PhaseProgress & { attempt: number })
  | { failed: Pick<JobFailed, 'code' | 'message'>; attempt: number };

/** A job on its way into the queue. */
export interface Entry {
  /** Its name there, which is the same as long as its sources are (see `jobId`). */
  id: string;
  job: BatchJob;
  data: QueuedData;
}

/**
 * Jobs as they go into the queue. Web servers are asked for the versions of their files.
 * @throws Qcow2Error INVALID_ARGUMENT: a URL holds a password, or job files have no words for a job
 */
export async function queuedJobs(given: readonly BatchJob[]): Promise<Entry[]> {
  const jobs = given.map(withPlaces).map((job) => {
    const entry = jobEntry(job);
    // Through text, as it will be read.
    return { entry, job: jobOf({ job: entry, sources: [] }).job };
  });
  const sources = await sourcesOf(jobs.map(({ job }) => job));
  return jobs.map(({ entry, job }, index) => {
    const own = sources[index]!;
    const versions = own.map(({ size, version }) => ({ size, version }));
    return { id: jobId(job, own), job, data: { job: entry, sources: versions } };
  });
}

/** A job with names that are the same everywhere. */
function withPlaces(job: BatchJob): BatchJob {
  return {
    ...job,
    inputs: job.inputs.map((input) => ({ ...input, path: placeName(input.path) })),
    target: path.resolve(job.target),
    ...(Array.isArray(job.allowExternal) && { allowExternal: job.allowExternal.map(placeName) }),
  };
}

function placeName(name: string): string {
  if (!isHttpUrl(name)) return path.resolve(name);
  if (parseHttpUrl(name).authorization === undefined) return name;
  const shown = shownName(name);
  const text = `'${shown}' is given with a user or password, which all who see the queue could read: leave it out`;
  throw new Qcow2Error('INVALID_ARGUMENT', text, { file: shown });
}

/**
 * Reads what came from the server.
 * @throws Qcow2Error INVALID_ARGUMENT: it is not what `queuedJob` makes
 */
export function jobOf(data: unknown): { job: BatchJob; sources: SourceVersion[] } {
  if (!isObject(data) || !Array.isArray(data.sources) || !data.sources.every(isVersion))
    throw new Qcow2Error('INVALID_ARGUMENT', 'what the queue holds is not a job of qcow2 batch');
  const [job] = parseJobs(JSON.stringify({ jobs: [data.job] }), '/queue.json');
  return { job: job!, sources: data.sources };
}

/** The names in what is kept of a job, which may be anything. */
export function namesOf(data: unknown): Omit<JobFiles, 'job'> {
  try {
    const { inputs, target } = jobOf(data).job;
    return { inputs: inputs.map(({ path: file }) => shownName(file)), target };
  } catch {
    return { inputs: ['?'], target: '?' };
  }
}

function isVersion(value: unknown): value is SourceVersion {
  if (!isObject(value)) return false;
  const { size, version } = value;
  return Number.isSafeInteger(size) && typeof version === 'string';
}

/**
 * The result of a job must be that of the files it was submitted with, whenever and wherever it runs.
 * @throws Qcow2Error REFUSED, NOT_FOUND, IO
 */
export async function requireUnchanged(
  { inputs }: BatchJob,
  sources: readonly SourceVersion[],
  http: HttpOptions,
): Promise<void> {
  for (const [index, { path: name }] of inputs.entries()) {
    const source = sources[index];
    if (source === undefined || source.size < 0) continue;
    const now = await sourceIdentity(name, http);
    const isSame = isHttpUrl(name) ? isSameOnServer(now, source) : isSameFile(now, source);
    if (isSame) continue;
    const text = `source '${now.file}' has changed since the job was submitted: submit it again`;
    throw new Qcow2Error('REFUSED', text, { file: now.file });
  }
}

/** Whether the targets of a job are there as it left them. */
export function areTargetsThere(targets: readonly FileIdentity[]): boolean {
  return targets.every((target) => {
    try {
      return isSameFile(fileIdentity(target.file), target);
    } catch {
      return false;
    }
  });
}

function isSameFile(now: SourceVersion, then: SourceVersion): boolean {
  if (now.size !== then.size || !isTime(now.version) || !isTime(then.version)) return false;
  return isSameTime(BigInt(now.version), BigInt(then.version));
}

/** Two machines may see one file with times of which one is rounded. */
function isSameTime(one: bigint, other: bigint): boolean {
  const step = [stepOf(one), stepOf(other)].reduce((a, b) => (a > b ? a : b));
  const difference = one - other;
  return difference < step && difference > -step;
}

/** The longest in which a time can have been counted. */
function stepOf(time: bigint): bigint {
  return TIME_STEPS.find((step) => time % step === 0n) ?? 1n;
}

function isTime(version: string): boolean {
  return /^-?\d{1,20}$/.test(version);
}

/** Of a server that tells no version only the size is compared. */
function isSameOnServer(now: SourceVersion, then: SourceVersion): boolean {
  return now.size === then.size && now.version === then.version;
}

/** In the names of the files an attempt at a job is writing. */
export function partialTag(id: string): string {
  return `job${id}`;
}

/**
 * Removes what earlier attempts at a job were writing. One that still runs, having lost its job without
 * knowing, has nothing left to publish.
 */
export function removeLeftovers(job: BatchJob, id: string): void {
  const prefix = `${PARTIAL_PREFIX}${partialTag(id)}-`;
  const folders = filesWritten(job).map((file) => path.dirname(placeOf(file) ?? file));
  for (const folder of new Set(folders))
    for (const name of namesIn(folder))
      if (name.startsWith(prefix) && name.endsWith(PARTIAL_SUFFIX))
        fs.rmSync(path.join(folder, name), { force: true });
}

function namesIn(folder: string): string[] {
  try {
    return fs.readdirSync(folder);
  } catch {
    return [];
  }
}
