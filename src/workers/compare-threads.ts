import {
  type CompareExecutor,
  CompareStep,
  type Comparison,
  inlineCompareExecutor,
} from '../operations/compare.ts';
import { COMPARE_BYTES, type CompareJob } from '../operations/compare-plan.ts';
import { isRemote } from '../operations/fetch-ahead.ts';
import type { ComparedJob, CompareStart, InputFiles } from './messages.ts';
import { WorkShare } from './work-share.ts';
import {
  defaultThreads,
  isOne,
  type Outcome,
  type PoolWork,
  type ThreadOptions,
  WorkerPool,
} from './worker-pool.ts';

/** Up to so many guest bytes the calling thread is done sooner than others would have started. */
const INLINE_BYTES = 8 * COMPARE_BYTES;

/** Compares on several threads; small images on the calling one. */
export function threadedCompareExecutor(
  files: InputFiles,
  { threads = defaultThreads(), blocking = false }: ThreadOptions,
): CompareExecutor {
  return {
    async run(comparison, finished) {
      if (isOne(threads) || (await isSmall(comparison)))
        return inlineCompareExecutor.run(comparison, finished);
      const isFarAway = await isRemote(comparison.images);
      const share = new WorkShare();
      const step =
        blocking && !isFarAway ? await CompareStep.prepare(comparison.images) : undefined;
      const search = new FirstDifference(comparison, finished);
      // This thread has made sure that nobody writes the images.
      const data: CompareStart = { files: { ...files, share: true }, share: share.state };
      const url = new URL('./compare-worker.js', import.meta.url);
      const work: PoolWork<CompareJob, ComparedJob> = {
        steps: search.jobs(),
        own: step && (async (job) => ({ offset: await step.run(job), end: job.end })),
        thread: { url, data },
        ended: (sequence, outcome) => search.ended(sequence, outcome),
      };
      try {
        await new WorkerPool(share, work, threads).run();
      } finally {
        step?.release();
      }
      return search.result();
    },
  };
}

async function isSmall({ jobs }: Comparison): Promise<boolean> {
  let bytes = 0;
  for await (const { parts } of jobs()) {
    for (const { length } of parts) bytes += length;
    if (bytes > INLINE_BYTES) return false;
  }
  return true;
}

/** Finds what comes first in the images among what threads report in any order. */
class FirstDifference {
  readonly #comparison: Comparison;
  readonly #finished: (end: number) => void | Promise<void>;
  /** The earliest job that decides the comparison, with a difference or an error. */
  #decided: { sequence: number; outcome: Outcome<ComparedJob> } | undefined;
  #listing: { error: unknown } | undefined;

  constructor(comparison: Comparison, finished: (end: number) => void | Promise<void>) {
    this.#comparison = comparison;
    this.#finished = finished;
  }

  /** All jobs. Those before one that cannot be listed may still find a difference. */
  async *jobs(): AsyncGenerator<CompareJob> {
    try {
      yield* this.#comparison.jobs();
    } catch (error) {
      this.#listing = { error };
    }
  }

  async ended(sequence: number, outcome: Outcome<ComparedJob>): Promise<boolean> {
    if ('value' in outcome && outcome.value.offset < 0) {
      await this.#finished(outcome.value.end);
      return false;
    }
    if (!this.#decided || sequence < this.#decided.sequence) this.#decided = { sequence, outcome };
    return true;
  }

  /** Guest offset of the first difference, or -1. */
  result(): number {
    const outcome = this.#decided?.outcome ?? this.#listing ?? { value: { offset: -1 } };
    if ('error' in outcome) throw outcome.error;
    return outcome.value.offset;
  }
}
