import * as fs from 'node:fs';
import type { BatchJob } from './jobs.ts';

/** More threads do not make one conversion faster; `convertFile` takes no more. */
const MAX_IMAGE_THREADS = 16;

/** A job that waits for a thread. */
export interface WaitingJob {
  /** Place in the list. */
  index: number;
  /** How much work it is, compared with others: bytes its inputs occupy, at least 1. */
  weight: number;
}

/**
 * The order in which jobs begin: those with the most data first, so that no long one is left for
 * the end with nothing to run beside it.
 */
export function startOrder(jobs: readonly BatchJob[]): WaitingJob[] {
  return jobs
    .map((job, index) => ({ index, weight: 1 + allocatedBytes(job.inputs.map((i) => i.path)) }))
    .sort((a, b) => b.weight - a.weight);
}

/**
 * Threads for the next job to begin: its part of the free ones, as its weight is to that of all
 * waiting. Many jobs get one each; a single one, or one much larger than the rest, gets more.
 */
export function threadShare(free: number, weight: number, waitingWeight: number): number {
  const share = Math.round((free * weight) / waitingWeight);
  return Math.max(1, Math.min(free, MAX_IMAGE_THREADS, share));
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
