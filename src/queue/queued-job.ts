import * as fs from 'node:fs';
import * as path from 'node:path';
import type { JobFailed, JobFiles, JobFinished } from '../batch/events.ts';
import { type FileIdentity, fileIdentity } from '../batch/file-identity.ts';
import { jobEntry, parseJobs } from '../batch/job-file.ts';
import { jobId } from '../batch/job-id.ts';
import { isObject } from '../batch/job-schema.ts';
import { type BatchJob, filesWritten } from '../batch/jobs.ts';
import type { PhaseProgress } from '../batch/run-job.ts';
import { Qcow2Error } from '../errors.ts';
import { PARTIAL_PREFIX, PARTIAL_SUFFIX } from '../node/target-file.ts';
import { placeOf } from './root.ts';

/** The name of the queue on its server. */
export const QUEUE_NAME = 'qcow2';

/** Nanoseconds by which the times of one file may differ when two machines look: FAT counts in 2 s. */
const SAME_TIME = 2_000_000_000n;

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

/** A job with its name in the queue, which is the same as long as its sources are (see `jobId`). */
export function queuedJob(job: BatchJob): { id: string; job: BatchJob; data: QueuedData } {
  const entry = jobEntry({
    ...job,
    inputs: job.inputs.map((input) => ({ ...input, path: path.resolve(input.path) })),
    target: path.resolve(job.target),
    ...(Array.isArray(job.allowExternal) && {
      allowExternal: job.allowExternal.map((folder) => path.resolve(folder)),
    }),
  });
  // Through text, as it will be read.
  const given = jobOf({ job: entry, sources: [] }).job;
  const sources = given.inputs.map(({ path: file }) => versionOf(file));
  return { id: jobId(given), job: given, data: { job: entry, sources } };
}

function versionOf(file: string): SourceVersion {
  try {
    const { size, version } = fileIdentity(file);
    return { size, version };
  } catch {
    return { size: -1, version: '' };
  }
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
    return { inputs: inputs.map(({ path: file }) => file), target };
  } catch {
    return { inputs: ['?'], target: '?' };
  }
}

function isVersion(value: unknown): value is SourceVersion {
  if (!isObject(value)) return false;
  const { size, version } = value;
  return (
    Number.isSafeInteger(size) && typeof version === 'string' && /^(-?\d{1,20})?$/.test(version)
  );
}

/**
 * The result of a job must be that of the files it was submitted with, whenever and wherever it runs.
 * @throws Qcow2Error REFUSED, NOT_FOUND, IO
 */
export function requireUnchanged({ inputs }: BatchJob, sources: readonly SourceVersion[]): void {
  for (const [index, { path: file }] of inputs.entries()) {
    const source = sources[index];
    if (source === undefined || source.size < 0 || isVersionOf(fileIdentity(file), source))
      continue;
    const text = `source '${file}' has changed since the job was submitted: submit it again`;
    throw new Qcow2Error('REFUSED', text, { file });
  }
}

/** Whether the targets of a job are there as it left them. */
export function areTargetsThere(targets: readonly FileIdentity[]): boolean {
  return targets.every((target) => isVersionOf(versionOf(target.file), target));
}

function isVersionOf(now: SourceVersion, then: SourceVersion): boolean {
  if (now.size !== then.size || now.version === '' || then.version === '') return false;
  const difference = BigInt(now.version) - BigInt(then.version);
  return difference <= SAME_TIME && difference >= -SAME_TIME;
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
