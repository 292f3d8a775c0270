import type { Image } from '../image/image.ts';
import type { Region } from '../kernel/arena.ts';
import { createKernel, type Kernel } from '../kernel/kernel.ts';
import {
  type CompareJob,
  type ComparePart,
  compareJobs,
  firstStatusMismatch,
  SIDES_BOTH,
  SIDES_FIRST,
  SIDES_SECOND,
} from './compare-plan.ts';
import { type OperationControl, throwIfAborted } from './control.ts';
import { fetchedAhead, isRemote } from './fetch-ahead.ts';

/** Differences are told by their sector. */
const SECTOR_BYTES = 512;

/** Bytes of either side held at a time: both stay in the cache of a core while they are compared. */
const PIECE_BYTES = 512 * 1024;

/** How to compare. */
export interface CompareOptions extends OperationControl {
  /** Different sizes, and ranges allocated in one image only, are differences too. */
  strict?: boolean;
  /**
   * Runs the jobs; default on the calling thread.
   * @internal
   */
  executor?: CompareExecutor;
}

/** What comparing found. */
export interface CompareResult {
  identical: boolean;
  /** Whether the disks have different lengths: a difference only with `strict`. */
  sizesDiffer: boolean;
  /** Length of the shorter disk in bytes. */
  commonBytes: number;
  /** The first difference; absent if the images are identical. */
  difference?: CompareDifference;
}

/** A difference; offsets are guest offsets in bytes. */
export type CompareDifference =
  | { kind: 'size' }
  /** One range is data, zeros or unallocated in one image and something else in the other. */
  | { kind: 'status'; offset: number }
  /** Bytes differ in the sector at the offset. */
  | { kind: 'content'; offset: number };

/** A comparison about to run: what an executor needs to set up its threads. */
export interface Comparison {
  images: readonly [Image, Image];
  /** Ascending; every call lists them anew. Those before one that cannot be listed still count. */
  jobs: () => AsyncIterable<CompareJob>;
}

/** Runs the jobs of a comparison, in order or on several threads. */
export interface CompareExecutor {
  /**
   * @param finished called once per job without a difference with its end, one call at a time
   * @returns guest offset of the first difference, or -1
   * @throws the error of a job, or of listing one, unless a difference comes before it
   */
  run(comparison: Comparison, finished: (end: number) => void | Promise<void>): Promise<number>;
}

/** Compares single jobs. Each thread has its own, over its own images and kernel. */
export class CompareStep {
  readonly #images: readonly [Image, Image];
  readonly #kernel: Kernel;
  readonly #buffers: readonly [Region, Region];

  private constructor(images: readonly [Image, Image], kernel: Kernel) {
    this.#images = images;
    this.#kernel = kernel;
    const { arena } = kernel;
    this.#buffers = [arena.allocate(PIECE_BYTES), arena.allocate(PIECE_BYTES)];
  }

  /** Opens both chains and lays out the buffers: from here on no memory grows. */
  static async prepare(images: readonly [Image, Image]): Promise<CompareStep> {
    for (const image of images) await image.chain();
    const [first, second] = images;
    const kernel = first.kernel === second.kernel ? first.kernel : createKernel();
    return new CompareStep(images, kernel);
  }

  /** Begins to fetch what a job needs, where reading takes long. */
  async prefetch(job: CompareJob): Promise<void> {
    for (const { start, length, sides } of job.parts) {
      if (sides & SIDES_FIRST) await this.#images[0].prefetch(start, start + length);
      if (sides & SIDES_SECOND) await this.#images[1].prefetch(start, start + length);
    }
  }

  /** Guest offset of the first sector that differs, or -1. */
  async run(job: CompareJob): Promise<number> {
    for (const { start, length, sides } of job.parts)
      for (let done = 0; done < length; done += PIECE_BYTES) {
        const piece = Math.min(length - done, PIECE_BYTES);
        const index = await this.#compare({ start: start + done, length: piece, sides });
        if (index < 0) continue;
        const offset = start + done + index;
        return offset - (offset % SECTOR_BYTES);
      }
    return -1;
  }

  release(): void {
    for (const buffer of this.#buffers) this.#kernel.arena.release(buffer);
  }

  async #compare({ start, length, sides }: ComparePart): Promise<number> {
    const { exports } = this.#kernel;
    if (sides === SIDES_BOTH) {
      const [a, b] = await this.#readBoth(start, length);
      return exports.first_difference(a.ptr, b.ptr, length);
    }
    const buffer = await this.#read(sides === SIDES_FIRST ? 0 : 1, start, length);
    if (exports.zero_range(buffer.ptr, length) === 1) return -1;
    return buffer.bytes.findIndex((byte) => byte !== 0);
  }

  async #readBoth(start: number, length: number): Promise<[Region, Region]> {
    const reads = [this.#read(0, start, length), this.#read(1, start, length)] as const;
    // Neither buffer may be in use any more when this returns, with an error or without.
    await Promise.allSettled(reads);
    return [await reads[0], await reads[1]];
  }

  /** Reads a side; it is zeros behind the end of its disk. */
  async #read(side: 0 | 1, start: number, length: number): Promise<Region> {
    const image = this.#images[side];
    const buffer = this.#buffers[side];
    const inside = Math.max(0, Math.min(length, image.virtualSize - start));
    for (let view: Uint8Array | undefined; inside > 0; ) {
      view = buffer.bytes.subarray(0, inside);
      await image.read(start, view);
      // Another user of the kernel may have made its memory grow meanwhile: what was read is lost.
      if (this.#kernel.arena.contains(view)) break;
    }
    buffer.bytes.fill(0, inside, length);
    return buffer;
  }
}

/** Everything on the calling thread. */
export const inlineCompareExecutor: CompareExecutor = {
  async run({ images, jobs }, finished) {
    const step = await CompareStep.prepare(images);
    try {
      const ahead = (await isRemote(images))
        ? fetchedAhead(jobs(), (job) => step.prefetch(job))
        : jobs();
      for await (const job of ahead) {
        const offset = await step.run(job);
        if (offset >= 0) return offset;
        await finished(job.end);
      }
      return -1;
    } finally {
      step.release();
    }
  },
};

/**
 * Compares the disks of two images: what reads the same is the same, wherever it is stored, and what
 * one disk has behind the end of the other must be zeros. Only what is data in either is read, and
 * what both find in the same place of one file is not.
 * @param first fastest when both were opened with one kernel
 * @throws Qcow2Error ABORTED, and whatever reading throws; an error behind the first difference does
 *   not show
 * @example
 * import { compare, openImage } from 'qcow2';
 *
 * const [before, after] = [await openImage('disk.qcow2'), await openImage('overlay.qcow2')];
 * const { identical, difference } = await compare(before, after);
 * console.log(identical ? 'the same' : difference);
 * await before.close();
 * await after.close();
 */
export async function compare(
  first: Image,
  second: Image,
  options: CompareOptions = {},
): Promise<CompareResult> {
  const { signal, onProgress, executor = inlineCompareExecutor } = options;
  throwIfAborted(signal, 'the comparison');
  const sizes = [first.virtualSize, second.virtualSize];
  const total = Math.max(...sizes);
  const commonBytes = Math.min(...sizes);
  const sizesDiffer = total !== commonBytes;
  const differ = (difference: CompareDifference): CompareResult => {
    return { identical: false, sizesDiffer, commonBytes, difference };
  };
  if (options.strict && sizesDiffer) return differ({ kind: 'size' });
  const mismatch = options.strict ? await firstStatusMismatch(first, second) : -1;
  const limit = mismatch < 0 ? total : mismatch;
  async function* jobs(): AsyncGenerator<CompareJob> {
    for await (const job of compareJobs(first, second, limit)) {
      throwIfAborted(signal, 'the comparison');
      yield job;
    }
  }
  let done = 0;
  const finished = (end: number): void | Promise<void> => {
    throwIfAborted(signal, 'the comparison');
    done = Math.max(done, end);
    return onProgress?.(done, total);
  };
  const offset = await executor.run({ images: [first, second], jobs }, finished);
  if (offset >= 0) return differ({ kind: 'content', offset });
  if (mismatch >= 0) return differ({ kind: 'status', offset: mismatch });
  await onProgress?.(total, total);
  return { identical: true, sizesDiffer, commonBytes };
}
