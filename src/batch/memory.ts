import { Qcow2Error } from '../errors.ts';

const MIB = 2 ** 20;

/** Bytes of a process that has loaded the library and runs no thread, and of what its results take. */
const BASE_BYTES = 80 * MIB;
/** Bytes a thread at work takes at most: its heap, its buffers and the tables it keeps. */
const THREAD_BYTES = 48 * MIB;

/** Heap limits of a thread in MiB; one that needs more ends with an error. */
export const THREAD_HEAP = { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 4 };

/** How many threads there may be under a ceiling. */
export interface MemoryCeilings {
  /** Bytes for the whole process; absent: no limit. */
  memory?: number | undefined;
  /** Bytes for one image; absent: no limit. */
  imageMemory?: number | undefined;
}

/** Least memory of a batch, in bytes. */
export const LEAST_MEMORY = BASE_BYTES + THREAD_BYTES;

/**
 * Threads of a batch, and most threads of one image, under the ceilings.
 * @param concurrency threads wanted
 * @throws Qcow2Error INVALID_ARGUMENT: not even one thread fits
 */
export function threadsWithin(
  { memory = Number.POSITIVE_INFINITY, imageMemory = Number.POSITIVE_INFINITY }: MemoryCeilings,
  concurrency: number,
): { threads: number; perImage: number } {
  requireAtLeast('memory for the batch', memory, LEAST_MEMORY);
  requireAtLeast('memory for an image', imageMemory, THREAD_BYTES);
  const threads = Math.min(concurrency, Math.floor((memory - BASE_BYTES) / THREAD_BYTES));
  return { threads, perImage: Math.min(threads, Math.floor(imageMemory / THREAD_BYTES)) };
}

function requireAtLeast(what: string, bytes: number, least: number): void {
  if (bytes >= least) return;
  const text = `${what} of ${bytes} bytes is too little: at least ${least} (${least / MIB} MiB) are needed`;
  throw new Qcow2Error('INVALID_ARGUMENT', text, { value: bytes });
}
