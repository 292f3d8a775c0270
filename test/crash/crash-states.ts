import type { StorageChange, StorageEvent } from '../../src/storage/recording.ts';
import { Random } from '../fuzz/random.ts';
import { SECTOR_BYTES } from './hash.ts';
import type { PagedStorage } from './paged-storage.ts';

/** What may have been left on the disks by a cut. */
export interface CrashState {
  /** Events `[0, cut)` of the log had begun; none later. */
  readonly cut: number;
  readonly files: ReadonlyMap<string, PagedStorage>;
  /** What became of each change since the last flush, one line each. */
  readonly description: readonly string[];
}

export interface CrashStateOptions {
  seed: number;
  /** Most states made. */
  limit: number;
  /**
   * `power`: changes since the last flush may be lost, whichever they are. `kill`: none is, the
   * process ends and the system goes on. Default `power`.
   */
  cause?: 'power' | 'kill';
  /** Cuts made; default all. */
  from?: number;
  /**
   * Distinguishes cuts with the same bytes but other promises: states that differ in neither are made
   * once.
   */
  versionOf?: (cut: number) => number;
}

/** Tries at a cut in a row that gave nothing new before it counts as exhausted. */
const VAIN_TRIES = 6;

const isChange = (event: StorageEvent): event is StorageChange => event.kind !== 'flush';

/** What of a change arrives: all, nothing, or these of the sectors it touches. */
type Arrival = boolean | readonly boolean[];

interface Cut {
  at: number;
  /** Last cut at which the stable files changed, as an index into them. */
  stable: number;
  /** Changes that may be lost, by event number, and those after the first of them that may not. */
  open: { index: number; optional: boolean }[];
  /** Nothing that comes before the next flush is missing. */
  isFull: boolean;
  visits: number;
  vain: number;
}

/** One round in so many goes to cuts that are not full as well. */
const ROUNDS_OF_FULL_CUTS = 4;
/** Most states made of a cut in a round. */
const MOST_VISITS = 4;

/**
 * The cuts of a round, in random order: those with much to lose more often, and mostly those right
 * before a flush. What an earlier cut leaves, such a one may leave as well.
 */
function visits(cuts: readonly Cut[], round: number, random: Random): Cut[] {
  const all = round % ROUNDS_OF_FULL_CUTS === ROUNDS_OF_FULL_CUTS - 1;
  const chosen = cuts.filter((cut) => all || cut.isFull);
  const list = chosen.flatMap((cut) => {
    const times = Math.max(1, Math.min(MOST_VISITS, cut.open.length - 1));
    return Array.from<Cut>({ length: times }).fill(cut);
  });
  shuffle(list, random);
  return list;
}

/**
 * The states a cut may leave: for every cut between two events, the changes that a flush made
 * durable, and of the others any subset, one of them possibly torn at sectors of 512 bytes. Drawn at
 * random from the seed, the same each time; among the first, for each cut, nothing and everything.
 * @param base what the files held when the log began
 */
export function* crashStates(
  base: ReadonlyMap<string, PagedStorage>,
  events: readonly StorageEvent[],
  options: CrashStateOptions,
): Generator<CrashState> {
  const { cuts, stable } = cutsOf(base, events, options.from ?? 0);
  const random = new Random(options.seed, 0xc0a5);
  const seen = new Set<string>();
  let made = 0;
  for (let round = 0; cuts.length > 0 && made < options.limit; round++) {
    for (const cut of visits(cuts, round, random)) {
      const arrivals = draw(cut, events, cut.visits++, options.cause ?? 'power', random);
      const state = materialise(cut, stable[cut.stable]!, events, arrivals);
      const digests = [...state.files.values()].map((file) => file.digest());
      const key = `${options.versionOf?.(cut.at) ?? 0} ${digests.join(' ')}`;
      if (seen.has(key)) cut.vain++;
      else {
        cut.vain = 0;
        seen.add(key);
        yield state;
        if (++made >= options.limit) return;
      }
    }
    for (let i = cuts.length - 1; i >= 0; i--) if (cuts[i]!.vain >= VAIN_TRIES) cuts.splice(i, 1);
  }
}

/** Walks the log once: which changes are durable at each cut, and the files as these made them. */
function cutsOf(
  base: ReadonlyMap<string, PagedStorage>,
  events: readonly StorageEvent[],
  from: number,
): { cuts: Cut[]; stable: Map<string, PagedStorage>[] } {
  let files = copyAll(base);
  const stable = [copyAll(files)];
  const cuts: Cut[] = [];
  let open: { index: number; optional: boolean }[] = [];
  for (let at = 0; at <= events.length; at++) {
    const event = events[at];
    const isFull = event === undefined || !isChange(event);
    const stand = { at, stable: stable.length - 1, open: [...open] };
    if (at >= from) cuts.push({ ...stand, isFull, visits: 0, vain: 0 });
    if (event === undefined) break;
    if (isChange(event)) {
      open.push({ index: at, optional: true });
      continue;
    }
    const isDurable = (index: number): boolean => {
      const change = events[index] as StorageChange;
      return change.file === event.file && !event.pending.includes(change);
    };
    open = open.map((entry) => (isDurable(entry.index) ? { ...entry, optional: false } : entry));
    // What is durable and has nothing of its file before it that is not becomes the new start.
    const rest: typeof open = [];
    files = copyAll(files);
    for (const entry of open) {
      const change = events[entry.index] as StorageChange;
      const blocked = rest.some(({ index }) => events[index]!.file === change.file);
      if (entry.optional || blocked) rest.push(entry);
      else apply(files, change, true);
    }
    open = rest;
    stable.push(copyAll(files));
  }
  return { cuts, stable };
}

/** Which of the open changes of a cut arrive. */
function draw(
  cut: Cut,
  events: readonly StorageEvent[],
  visit: number,
  cause: 'power' | 'kill',
  random: Random,
): Arrival[] {
  const optional = cut.open.flatMap(({ optional }, i) => (optional ? [i] : []));
  const arrivals: Arrival[] = cut.open.map(() => true);
  if (optional.length === 0) return arrivals;
  if (cause === 'power') {
    for (const [nth, i] of pattern(optional.length, visit, random).entries())
      arrivals[optional[nth]!] = i;
  }
  const tearable =
    cause === 'kill'
      ? optional.slice(-1)
      : optional.filter((i) => arrivals[i] === true || optional.length < 4);
  const torn = tearable.length > 0 ? random.pick(tearable) : -1;
  if (torn >= 0 && (cause === 'kill' ? visit > 0 : visit > 3 && random.oneIn(2))) {
    const sectors = sectorsOf(events[cut.open[torn]!.index] as StorageChange);
    if (sectors > 1) arrivals[torn] = tear(sectors, cause, random);
  }
  return arrivals;
}

/** Whether each of `count` changes arrives. */
function pattern(count: number, visit: number, random: Random): boolean[] {
  const all = (value: (i: number) => boolean): boolean[] =>
    Array.from({ length: count }, (_, i) => value(i));
  if (visit === 2) return all(() => true);
  // What came last without what came before shows most wrong orders.
  if (visit === 0) return all((i) => i === count - 1);
  if (visit === 1) return all((i) => i === 0);
  if (visit === 3) return all(() => false);
  const which = random.below(count);
  switch (random.below(6)) {
    case 0:
      return all((i) => i !== which);
    case 1:
      return all((i) => i === which);
    case 2:
      return all((i) => i >= which);
    case 3:
      return all((i) => i < which);
    case 4:
      return all(() => !random.oneIn(8));
    default:
      return all(() => random.oneIn(2));
  }
}

function tear(sectors: number, cause: 'power' | 'kill', random: Random): boolean[] {
  const split = 1 + random.below(sectors - 1);
  const how = cause === 'kill' ? 0 : random.below(3);
  return Array.from({ length: sectors }, (_, i) => {
    if (how === 0) return i < split;
    return how === 1 ? i >= split : random.oneIn(2);
  });
}

/** Sectors of the file a change touches; each arrives whole or not at all. */
function sectorsOf(change: StorageChange): number {
  if (change.kind === 'truncate' || change.kind === 'allocate') return 1;
  const length = change.kind === 'write' ? change.bytes.length : change.length;
  const first = Math.floor(change.offset / SECTOR_BYTES);
  return Math.ceil((change.offset + length) / SECTOR_BYTES) - first;
}

function materialise(
  cut: Cut,
  stable: ReadonlyMap<string, PagedStorage>,
  events: readonly StorageEvent[],
  arrivals: readonly Arrival[],
): CrashState {
  const files = copyAll(stable);
  const description: string[] = [];
  for (const [i, { index, optional }] of cut.open.entries()) {
    const change = events[index] as StorageChange;
    const arrival = arrivals[i]!;
    apply(files, change, arrival);
    description.push(`#${index} ${optional ? fateOf(arrival) : 'durable'} ${textOf(change)}`);
  }
  return { cut: cut.at, files, description };
}

function fateOf(arrival: Arrival): string {
  if (typeof arrival === 'boolean') return arrival ? 'kept' : 'lost';
  return `torn ${arrival.map((kept) => (kept ? '+' : '-')).join('')}`;
}

/** A change in a line: what, and where. */
export function textOf(event: StorageEvent): string {
  const where = (offset: number, length: number): string => `0x${offset.toString(16)} + ${length}`;
  switch (event.kind) {
    case 'flush':
      return `flush ${event.file}`;
    case 'truncate':
      return `truncate ${event.file} to ${event.size}`;
    case 'write':
      return `write ${event.file} ${where(event.offset, event.bytes.length)}`;
    default:
      return `${event.kind} ${event.file} ${where(event.offset, event.length)}`;
  }
}

function apply(
  files: ReadonlyMap<string, PagedStorage>,
  change: StorageChange,
  arrival: Arrival,
): void {
  const file = files.get(change.file);
  if (file === undefined) throw new Error(`no base for '${change.file}'`);
  if (arrival === true) applyPart(file, change, 0, Number.POSITIVE_INFINITY);
  if (typeof arrival === 'boolean' || !('offset' in change)) return;
  const first = Math.floor(change.offset / SECTOR_BYTES);
  for (const [i, kept] of arrival.entries()) {
    const start = (first + i) * SECTOR_BYTES;
    if (kept) applyPart(file, change, start, start + SECTOR_BYTES);
  }
}

/** Applies what of a change lies in `[start, end)` of the file. */
function applyPart(file: PagedStorage, change: StorageChange, start: number, end: number): void {
  if (change.kind === 'truncate') {
    file.truncate(change.size);
    return;
  }
  const length = change.kind === 'write' ? change.bytes.length : change.length;
  const from = Math.max(start, change.offset);
  const to = Math.min(end, change.offset + length);
  if (change.kind === 'write')
    file.write(from, change.bytes.subarray(from - change.offset, to - change.offset));
  else if (change.kind === 'punchHole') file.punchHole(from, to - from);
  else file.allocate(from, to - from);
}

function copyAll(files: ReadonlyMap<string, PagedStorage>): Map<string, PagedStorage> {
  return new Map([...files].map(([name, file]) => [name, file.copy()]));
}

function shuffle<T>(list: T[], random: Random): void {
  for (let i = list.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [list[i], list[j]] = [list[j]!, list[i]!];
  }
}
