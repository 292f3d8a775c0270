import type { Image } from '../image/image.ts';
import { STATUS_DATA, STATUS_ZERO, StatusRuns } from './block-status.ts';

/** A guest range that two backing files may answer differently, in whole units of the overlay. */
export interface OpenRange {
  /** Guest offsets in bytes. */
  start: number;
  end: number;
  /** Whether the disk as it is must be read there; else it is zeros. */
  readsOld: boolean;
  /** The same of the new backing file. */
  readsNew: boolean;
}

/**
 * Guest ranges an overlay leaves to its backing file, and for which that and another one may differ, in
 * ascending order. Where both are zeros, or show the same bytes of one file, they cannot.
 * @param backing the other backing file; absent: zeros
 * @param unit bytes of a cluster or subcluster of the overlay: it holds all of one or nothing
 * @throws Qcow2Error BAD_ENTRY, TRUNCATED, IO
 */
export async function* openRanges(
  image: Image,
  backing: Image | undefined,
  unit: number,
): AsyncGenerator<OpenRange> {
  const size = image.virtualSize;
  let last: OpenRange | undefined;
  for await (const stretch of stretches(image, backing))
    for (const range of inUnits(stretch, unit, size)) {
      // A unit that two stretches share is there already.
      if (last !== undefined && range.start < last.end) continue;
      if (last?.end === range.start && readsSame(last, range)) {
        last.end = range.end;
        continue;
      }
      if (last !== undefined) yield last;
      last = range;
    }
  if (last !== undefined) yield last;
}

/** A stretch in whole units. Of one it does not fill nothing is known: both must be read. */
function inUnits({ start, end, ...reads }: OpenRange, unit: number, size: number): OpenRange[] {
  const first = Math.ceil(start / unit) * unit;
  const last = end === size ? end : end - (end % unit);
  const partly = (at: number): OpenRange => {
    const from = at - (at % unit);
    return { start: from, end: Math.min(size, from + unit), readsOld: true, readsNew: true };
  };
  const ranges: OpenRange[] = [];
  if (start < first) ranges.push(partly(start));
  if (first < last) ranges.push({ start: first, end: last, ...reads });
  if (last < end && last >= first) ranges.push(partly(last));
  return ranges;
}

function readsSame(a: OpenRange, b: OpenRange): boolean {
  return a.readsOld === b.readsOld && a.readsNew === b.readsNew;
}

/** Both backing files side by side, where the overlay has nothing itself. */
async function* stretches(image: Image, backing: Image | undefined): AsyncGenerator<OpenRange> {
  const old = await StatusRuns.open(image, { holes: false });
  const other = backing && (await StatusRuns.open(backing, { holes: false }));
  const size = image.virtualSize;
  const otherSize = Math.min(size, backing?.virtualSize ?? 0);
  for (let at = 0; at < size; ) {
    if (old.end <= at) await old.next();
    if (old.isOwn) {
      at = old.end;
      continue;
    }
    while (other && at < otherSize && other.end <= at) await other.next();
    const end = Math.min(size, old.end, other && at < otherSize ? other.end : size);
    const readsOld = isData(old, at);
    const readsNew = other !== undefined && at < otherSize && isData(other, at);
    if ((readsOld || readsNew) && !(readsOld && readsNew && isSamePlace(old, other!)))
      yield { start: at, end, readsOld, readsNew };
    at = end;
  }
}

function isData({ end, flags }: StatusRuns, at: number): boolean {
  return at < end && (flags & (STATUS_DATA | STATUS_ZERO)) === STATUS_DATA;
}

/** Whether both disks show the very same bytes of one file there. */
function isSamePlace(a: StatusRuns, b: StatusRuns): boolean {
  if (a.storage?.identity === undefined || a.storage.identity !== b.storage?.identity) return false;
  return a.host - a.start === b.host - b.start;
}
