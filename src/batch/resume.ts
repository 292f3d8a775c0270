import { isHttpUrl, parseHttpUrl, shownName } from '../storage/http-url.ts';
import { type FileIdentity, isUnchanged } from './file-identity.ts';
import { jobId } from './job-id.ts';
import type { BatchJob } from './jobs.ts';
import type { Journal, JournalRecord } from './journal.ts';
import { eachOf, type Http, sourceIdentity, sourcesOf, unversioned } from './source-identity.ts';

/** What a journal says of the jobs of a batch; by their places in the list. */
export interface Resumed {
  journal: Journal;
  /** Names of the jobs in the journal. */
  ids: readonly string[];
  /** Done, and nothing has changed since. */
  done: ReadonlyMap<number, JournalRecord>;
  /** Done, but of this source nobody tells whether it has changed. */
  untold: ReadonlyMap<number, string>;
}

/** Looks at all files of jobs that the journal says are done, on web servers too. */
export async function resumed(journal: Journal, jobs: readonly BatchJob[]): Promise<Resumed> {
  const sources = await sourcesOf(jobs);
  const ids = jobs.map((job, index) => jobId(job, sources[index]));
  const done = new Map<number, JournalRecord>();
  const untold = new Map<number, string>();
  await eachOf(jobs, async (job, index) => {
    const record = journal.recordOf(ids[index]!);
    if (record === undefined || !record.targets.every(isUnchanged)) return;
    const name = unversioned(job, sources[index]!) ?? unversionedIn(record);
    if (name !== undefined) untold.set(index, shownName(name));
    else if (await areSame(record.sources, job)) done.set(index, record);
  });
  return { journal, ids, done, untold };
}

function unversionedIn({ sources }: JournalRecord): string | undefined {
  return sources.find(({ version }) => version === '')?.file;
}

async function areSame(sources: readonly FileIdentity[], job: BatchJob): Promise<boolean> {
  for (const source of sources)
    if (!(isHttpUrl(source.file) ? await isSameUrl(source, job) : isUnchanged(source)))
      return false;
  return true;
}

/** Whether a file on a web server is what it was: an input, whose version the job's name holds, or below one. */
async function isSameUrl({ file, size, version }: FileIdentity, job: BatchJob): Promise<boolean> {
  if (job.inputs.some(({ path: name }) => shownName(name) === file)) return true;
  const now = await sourceIdentity(file, httpBelow(file, job)).catch(() => undefined);
  return now?.size === size && now.version === version;
}

/** As files below an image are read: its user and password are for its own server. */
function httpBelow(file: string, { inputs }: BatchJob): Http {
  const { origin } = new URL(file);
  const own = inputs
    .filter(({ path: name }) => isHttpUrl(name))
    .map(({ path: name }) => parseHttpUrl(name))
    .find(({ url, authorization }) => url.origin === origin && authorization !== undefined);
  return {
    redirects: false,
    ...(own?.authorization !== undefined && { headers: { authorization: own.authorization } }),
  };
}
