import { openStorage } from '../node/open-storage.ts';
import { type HttpOptions, HttpStorage } from '../storage/http.ts';
import { isHttpUrl } from '../storage/http-url.ts';
import type { Storage } from '../storage/storage.ts';
import type { InputFiles } from '../workers/messages.ts';
import { type FileIdentity, fileIdentity } from './file-identity.ts';
import type { BatchJob } from './jobs.ts';

/** How http and https URLs are read. */
export type Http = InputFiles['http'];

/** Files that servers are asked about at a time. */
const AT_A_TIME = 16;

/** A server that does not answer must not keep all jobs from beginning. */
const BRIEFLY: Http = { retries: 2, timeout: 10_000 };

/** Bytes fetched to learn of a file: ranges are what it will be read by, and a HEAD may say less. */
const LOOK_BYTES = 512;

/**
 * The identity of a source: a local file, or one on a web server. A server that tells no version leaves it
 * empty.
 * @throws Qcow2Error NOT_FOUND, IO; of URLs those of `HttpStorage.open`
 */
export async function sourceIdentity(name: string, http?: HttpOptions): Promise<FileIdentity> {
  if (!isHttpUrl(name)) return fileIdentity(name);
  const look = { ...http, blockBytes: LOOK_BYTES, cacheBytes: 0 };
  const storage = await openStorage(name, { http: look });
  try {
    return storageIdentity(storage);
  } finally {
    await storage.close();
  }
}

/** The identity of a source that is open. */
export function storageIdentity(storage: Storage): FileIdentity {
  if (!(storage instanceof HttpStorage)) return fileIdentity(storage.name ?? '');
  const { name, size, version = '' } = storage;
  return { file: name, size, version };
}

/** What the inputs of jobs are now; size -1: not there, or out of reach, which running the job will tell. */
export async function sourcesOf(jobs: readonly BatchJob[]): Promise<FileIdentity[][]> {
  const sources: FileIdentity[][] = jobs.map(() => []);
  const places = jobs.flatMap(({ inputs }, job) =>
    inputs.map(({ path: name }, input) => ({ name, job, input })),
  );
  await eachOf(places, async ({ name, job, input }) => {
    const absent = { file: name, size: -1, version: '' };
    sources[job]![input] = await sourceIdentity(name, BRIEFLY).catch(() => absent);
  });
  return sources;
}

/** Does something for each of a list, for some at a time. */
export async function eachOf<T>(
  list: readonly T[],
  work: (item: T, index: number) => Promise<void>,
): Promise<void> {
  const left = list.entries();
  const next = async (): Promise<void> => {
    for (const [index, item] of left) await work(item, index);
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, next));
}

/** Of the sources of a job the first whose server does not tell when it has changed. */
export function unversioned(
  { inputs }: BatchJob,
  sources: readonly Pick<FileIdentity, 'size' | 'version'>[],
): string | undefined {
  const at = sources.findIndex(({ size, version }) => size >= 0 && version === '');
  return at < 0 ? undefined : inputs[at]?.path;
}
