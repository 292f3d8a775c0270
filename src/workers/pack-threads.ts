import type { ChunkPacker, PackedAt } from '../operations/stream-compressed.ts';
import type { InputFiles, PackStart } from './messages.ts';
import { WorkShare } from './work-share.ts';
import { defaultThreads, isOne, type ThreadOptions, WorkerPool } from './worker-pool.ts';

/** Chunks begun for each thread and not taken: what is compressed waits for those before it. */
const AHEAD_PER_THREAD = 2;

/** Compresses on several threads; undefined where one is asked for, which needs no help. */
export function threadedPacker(
  files: InputFiles,
  { threads = defaultThreads() }: ThreadOptions,
): ChunkPacker | undefined {
  if (isOne(threads)) return undefined;
  return async function* packed(step, starts, withBytes) {
    const share = new WorkShare();
    const url = new URL('./pack-worker.js', import.meta.url);
    // The thread that began has made sure that nobody writes the inputs.
    const inputs = { ...files, share: true };
    const data: PackStart = { files: inputs, step, withBytes, share: share.state };
    const results = new InOrder<PackedAt>();
    const steps = new StepsAhead(starts, AHEAD_PER_THREAD * defaultThreads());
    const pool = new WorkerPool<number, PackedAt>(
      share,
      {
        steps,
        comeSlowly: true,
        thread: { url, data },
        ended(sequence, outcome) {
          if ('error' in outcome) throw outcome.error;
          results.put(sequence, outcome.value);
          return false;
        },
      },
      threads,
    );
    const running = pool.run().then(
      () => results.end(),
      (error: unknown) => results.end({ error }),
    );
    try {
      for (let next = await results.take(); next !== undefined; next = await results.take()) {
        steps.taken();
        yield next;
      }
    } finally {
      await steps.return();
      await running;
    }
  };
}

/** Steps of which only so many are open at a time. */
class StepsAhead implements AsyncIterableIterator<number> {
  readonly #steps: AsyncIterator<number>;
  #room: number;
  #isGivenUp = false;
  #wake: () => void = () => {};

  constructor(steps: AsyncIterable<number>, most: number) {
    this.#steps = steps[Symbol.asyncIterator]();
    this.#room = most;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<number, undefined>> {
    while (this.#room === 0 && !this.#isGivenUp)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    if (this.#isGivenUp) return { done: true, value: undefined };
    this.#room--;
    return this.#steps.next();
  }

  async return(): Promise<IteratorResult<number, undefined>> {
    this.#isGivenUp = true;
    this.#wake();
    await this.#steps.return?.();
    return { done: true, value: undefined };
  }

  /** What came of one was taken: another may be begun. */
  taken(): void {
    this.#room++;
    this.#wake();
  }
}

/** Results that come in any order and are taken by their numbers. */
class InOrder<Result> {
  readonly #ready = new Map<number, Result>();
  #next = 0;
  #isAtEnd = false;
  #failure: { error: unknown } | undefined;
  #wake: () => void = () => {};

  put(sequence: number, result: Result): void {
    this.#ready.set(sequence, result);
    this.#wake();
  }

  /** No others will come, or not all of them. */
  end(failure?: { error: unknown }): void {
    this.#isAtEnd = true;
    this.#failure = failure;
    this.#wake();
  }

  /** The next one; undefined behind the last. Throws what `end` was told, when it is its turn. */
  async take(): Promise<Result | undefined> {
    while (!this.#ready.has(this.#next)) {
      if (this.#failure) throw this.#failure.error;
      if (this.#isAtEnd) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const result = this.#ready.get(this.#next);
    this.#ready.delete(this.#next++);
    return result;
  }
}
