import * as fs from 'node:fs';
import type { BatchJob } from './jobs.ts';

/** More threads do not make one conversion faster; `convertFile` takes no more. */
const MAX_IMAGE_THREADS = 16;

/** Work that takes a few ms. */
const SMALL_WEIGHT = 16 * 2 ** 20;

interface WaitingJob {
  /** Place in the list. */
  index: number;
  weight: number;
  /** When it joined: among equals the first comes first. */
  ticket: number;
}

interface RunningJob {
  weight: number;
  /** 0 while it waits behind another one that its thread does first. */
  threads: number;
  isFromLarge: boolean;
}

/**
 * Which job begins next, and how many threads each has. Half of the threads take the largest jobs
 * first, so that no long one is left for the end; the others take the smallest first, which so never
 * wait for a large one. Every job begins with one thread. Threads that nothing waits for go to the
 * running jobs, most to those with the most work a thread. Knows no clock and no files.
 */
export class Schedule {
  readonly #threads: number;
  readonly #perImage: number;
  /** The largest first. */
  readonly #waiting: WaitingJob[];
  readonly #running = new Map<number, RunningJob>();
  #tickets: number;

  /**
   * @param weights of the jobs by their places in the list: how much work each is compared with others
   * @param threads for all of them
   * @param perImage most threads of one job
   */
  constructor(weights: ReadonlyMap<number, number>, threads: number, perImage = MAX_IMAGE_THREADS) {
    this.#threads = threads;
    this.#perImage = Math.min(perImage, MAX_IMAGE_THREADS);
    this.#waiting = [...weights].map(([index, weight], ticket) => ({ index, weight, ticket }));
    this.#waiting.sort(order);
    this.#tickets = weights.size;
  }

  /** Threads not given to any job. */
  get free(): number {
    let free = this.#threads;
    for (const { threads } of this.#running.values()) free -= threads;
    return free;
  }

  /** Takes the job that begins now, on one thread; undefined if none waits or no thread is free. */
  next(): number | undefined {
    if (this.free === 0) return undefined;
    const large = [...this.#running.values()].filter(
      ({ isFromLarge, threads }) => isFromLarge && threads > 0,
    ).length;
    const first = this.#waiting[0];
    const isFromLarge =
      large < Math.floor(this.#threads / 2) && first?.weight !== this.#waiting.at(-1)?.weight;
    const job = isFromLarge ? this.#waiting.shift() : this.#waiting.pop();
    if (job === undefined) return undefined;
    this.#running.set(job.index, { weight: job.weight, threads: 1, isFromLarge });
    return job.index;
  }

  /**
   * Takes a job that a thread does when it has ended job `before`, without having to ask: both are small,
   * and there are enough others for all threads.
   */
  nextBehind(before: number): number | undefined {
    const last = this.#waiting.at(-1);
    if (last === undefined || this.#waiting.length <= 2 * this.#threads) return undefined;
    const { weight = 0, isFromLarge = false } = this.#running.get(before) ?? {};
    if (weight > SMALL_WEIGHT || last.weight > SMALL_WEIGHT) return undefined;
    this.#waiting.pop();
    this.#running.set(last.index, { weight: last.weight, threads: 0, isFromLarge });
    return last.index;
  }

  /** A job taken by `nextBehind` begins: the one before it has ended. */
  begin(index: number): void {
    this.#running.get(index)!.threads = 1;
  }

  /**
   * Gives threads that nothing waits for to running jobs, for as long as these run. Returns the jobs
   * that have got more.
   */
  grow(): Set<number> {
    const grown = new Set<number>();
    if (this.#waiting.length > 0) return grown;
    for (let free = this.free; free > 0; free--) {
      let neediest: [number, RunningJob] | undefined;
      for (const entry of this.#running) {
        const [, { weight, threads }] = entry;
        if (threads === 0 || threads >= this.#perImage) continue;
        const need = neediest ? neediest[1].weight / neediest[1].threads : 0;
        if (weight / threads > need) neediest = entry;
      }
      if (neediest === undefined) break;
      neediest[1].threads++;
      grown.add(neediest[0]);
    }
    return grown;
  }

  /** Threads of a running job. */
  threadsOf(index: number): number {
    return this.#running.get(index)?.threads ?? 0;
  }

  /** The threads of a job are free again. */
  end(index: number): void {
    this.#running.delete(index);
  }

  /** A job waits once more. */
  retry(index: number, weight: number): void {
    this.#running.delete(index);
    this.#waiting.push({ index, weight, ticket: this.#tickets++ });
    this.#waiting.sort(order);
  }

  /** Takes every waiting job out, in the order of the list. */
  drop(): number[] {
    return this.#waiting
      .splice(0)
      .map(({ index }) => index)
      .sort((a, b) => a - b);
  }
}

/** The largest first; of equals, which are taken from the end, the first last. */
function order(a: WaitingJob, b: WaitingJob): number {
  return b.weight - a.weight || b.ticket - a.ticket;
}

/** How much work a job is, compared with others: bytes its inputs occupy, at least 1. */
export function weightOf({ inputs }: BatchJob): number {
  return 1 + allocatedBytes(inputs.map(({ path }) => path));
}

/** Bytes that files occupy on their file systems; 0 for one that cannot be looked at. */
export function allocatedBytes(files: readonly string[]): number {
  let bytes = 0;
  for (const file of files) {
    try {
      bytes += fs.statSync(file).blocks * 512;
    } catch {
      // Opening it says what is wrong.
    }
  }
  return bytes;
}
