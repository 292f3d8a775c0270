import { isQcow2Error } from '../errors.ts';
import type { Image } from '../image/image.ts';
import { STATUS_DATA, STATUS_ZERO, StatusRuns } from './block-status.ts';

/** Guest bytes compared at once; a multiple of the largest cluster. */
export const COMPARE_BYTES = 2 * 1024 * 1024;
/** Ranges shorter than this are compared together with their neighbours: calls cost more than bytes. */
const SMALL_BYTES = 65536;

/** Which sides of a range must be read; the other one is known to be zeros. */
export const SIDES_FIRST = 1;
export const SIDES_SECOND = 2;
export const SIDES_BOTH = SIDES_FIRST | SIDES_SECOND;

/** A range to be compared. */
export interface ComparePart {
  /** Guest offset and length, in bytes. */
  start: number;
  length: number;
  sides: number;
}

/** What one thread does at a time: parts of one stretch of `COMPARE_BYTES`. Survives `structuredClone`. */
export interface CompareJob {
  /** Ascending, disjoint, not empty. */
  parts: ComparePart[];
  /** Guest offset up to which everything is compared when this job and those before it are done. */
  end: number;
}

/** Guest range with one answer to what must be read (0: nothing). */
interface Stretch {
  start: number;
  end: number;
  sides: number;
}

/**
 * Cuts guest bytes `[0, limit)` of two disks in jobs, in ascending order. The shorter disk counts as
 * zeros behind its end. When mapping fails, the jobs before that place come first.
 * @throws Qcow2Error BAD_ENTRY, TRUNCATED, IO
 */
export async function* compareJobs(
  first: Image,
  second: Image,
  limit: number,
): AsyncGenerator<CompareJob> {
  let job = emptyJob();
  let failure: { error: unknown } | undefined;
  try {
    for await (const stretch of stretches(first, second, limit)) {
      if (stretch.sides === 0) continue;
      for (let at = stretch.start; at < stretch.end; ) {
        const cell = (Math.floor(at / COMPARE_BYTES) + 1) * COMPARE_BYTES;
        const end = Math.min(stretch.end, cell);
        if (job.parts.length > 0 && job.end <= cell - COMPARE_BYTES) {
          yield job;
          job = emptyJob();
        }
        append(job, { ...stretch, start: at, end });
        at = end;
      }
    }
  } catch (error) {
    failure = { error };
  }
  if (job.parts.length > 0) yield job;
  if (failure) throw failure.error;
}

function emptyJob(): CompareJob {
  return { parts: [], end: 0 };
}

/** Adds a range behind the others of the job, joined with the last one where that saves a call. */
function append(job: CompareJob, { start, end, sides }: Stretch): void {
  const last = job.parts.at(-1);
  job.end = end;
  const lastEnd = last ? last.start + last.length : 0;
  const joins =
    last &&
    start - lastEnd < SMALL_BYTES &&
    ((start === lastEnd && last.sides === sides) ||
      last.length < SMALL_BYTES ||
      end - start < SMALL_BYTES);
  if (!joins) {
    job.parts.push({ start, length: end - start, sides });
    return;
  }
  last.length = end - last.start;
  last.sides |= sides;
}

/** The two disks side by side: where either has something to read. */
async function* stretches(first: Image, second: Image, limit: number): AsyncGenerator<Stretch> {
  const a = await StatusRuns.open(first, { holes: false });
  const b = await StatusRuns.open(second, { holes: false });
  for (let at = 0; at < limit; ) {
    if (a.end <= at && at < first.virtualSize) await a.next();
    if (b.end <= at && at < second.virtualSize) await b.next();
    const end = Math.min(
      limit,
      at < first.virtualSize ? a.end : limit,
      at < second.virtualSize ? b.end : limit,
    );
    yield { start: at, end, sides: sidesAt(a, b, at) };
    at = end;
  }
}

function sidesAt(a: StatusRuns, b: StatusRuns, at: number): number {
  const sides = (isRead(a, at) ? SIDES_FIRST : 0) | (isRead(b, at) ? SIDES_SECOND : 0);
  return sides === SIDES_BOTH && isSamePlace(a, b) ? 0 : sides;
}

/** Whether the run must be read: it is data. */
function isRead({ end, flags }: StatusRuns, at: number): boolean {
  return at < end && (flags & (STATUS_DATA | STATUS_ZERO)) === STATUS_DATA;
}

/** Whether both disks show the very same bytes of one file there, as overlays of one base do. */
function isSamePlace(a: StatusRuns, b: StatusRuns): boolean {
  if (a.storage?.identity === undefined || a.storage.identity !== b.storage?.identity) return false;
  return a.host - a.start === b.host - b.start;
}

/** What QEMU reads and compares at once, which shows in what strict comparison reports. */
const QEMU_BUFFER_BYTES = 2 * 1024 * 1024;

/**
 * Guest offset of the first range whose block status differs between two disks of one size, or -1.
 * An entry that cannot be mapped ends the search: comparing the contents will come to it.
 */
export async function firstStatusMismatch(first: Image, second: Image): Promise<number> {
  const a = await StatusRuns.open(first, { holes: true });
  const b = await StatusRuns.open(second, { holes: true });
  const size = first.virtualSize;
  try {
    for (let at = 0; at < size; at = Math.min(a.end, b.end)) {
      if (a.end <= at) await a.next();
      if (b.end <= at) await b.next();
      if (a.flags !== b.flags) return at;
      const offset = firstEndMismatch(a, b, at, size);
      if (offset >= 0) return offset;
    }
  } catch (error) {
    if (!isQcow2Error(error)) throw error;
  }
  return -1;
}

/**
 * QEMU also tells apart whether the rest of the disk is one run. That is asked only at the offsets its
 * walk stops at, which is followed here through the range from `start` on that both runs share.
 */
function firstEndMismatch(a: StatusRuns, b: StatusRuns, start: number, size: number): number {
  if (a.end < size && b.end < size) return -1;
  const [lastA, lastB] = [a, b].map((runs) =>
    runs.end < size ? Number.POSITIVE_INFINITY : runs.lastRun(),
  ) as [number, number];
  const most = isRead(a, start) ? QEMU_BUFFER_BYTES : size;
  const end = Math.min(a.end, b.end);
  for (let at = start; at < end; ) {
    const [bytesA, bytesB] = [a.queryBytes(at), b.queryBytes(at)];
    const endsA = at >= lastA && size - at <= bytesA;
    const endsB = at >= lastB && size - at <= bytesB;
    if (endsA !== endsB) return at;
    if (endsA) return -1;
    const stops = [at + Math.min(bytesA, bytesB, most), lastA, lastB];
    at = Math.min(...stops.filter((stop) => stop > at));
  }
  return -1;
}
