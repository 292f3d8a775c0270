import { createHash } from 'node:crypto';
import { type FileIdentity, fileIdentity } from './file-identity.ts';
import type { BatchJob } from './jobs.ts';

/**
 * The name of a job for journals and queues: the same for the same sources, target and options,
 * another one as soon as a source has changed.
 * @param sources the inputs; without them those of the local files, as far as they are there
 * @example
 * import { jobId } from 'qcow2';
 *
 * const inputs = [{ path: 'disk.qcow2' }];
 * console.log(jobId({ inputs, target: 'disk.raw', targetFormat: 'raw' })); // 32 hexadecimal digits
 */
export function jobId(job: BatchJob, sources: readonly FileIdentity[] = inputsOf(job)): string {
  const text = JSON.stringify([sorted(job), sources.map(({ size, version }) => [size, version])]);
  return createHash('sha256').update(text).digest('hex').slice(0, 32);
}

function inputsOf({ inputs }: BatchJob): FileIdentity[] {
  return inputs.map(({ path: file }) => {
    try {
      return fileIdentity(file);
    } catch {
      return { file, size: -1, version: '' };
    }
  });
}

/** The same text for the same values, whatever the order in which they were given. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).filter(([, member]) => member !== undefined);
  entries.sort(([a], [b]) => (a < b ? -1 : 1));
  return entries.map(([key, member]) => [key, sorted(member)]);
}
