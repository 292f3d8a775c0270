import type { Image } from '../../src/image/image.ts';
import { SurveyPlan } from '../../src/image/plan.ts';
import { RUN_COMPRESSED, RUN_DATA } from '../../src/kernel/abi.ts';
import { pacer } from '../../src/operations/control.ts';

/** How what an image stores itself lies in its file. Lengths are in bytes. */
export interface Statistics {
  /** Stretches of plain data that lie together on the disk and in the file. */
  readonly runs: number;
  readonly dataBytes: number;
  readonly longestRun: number;
  /** Compressed clusters, the guest bytes they stand for, and what they take, in whole sectors. */
  readonly compressedClusters: number;
  readonly compressedGuest: number;
  readonly compressedStored: number;
  /** Compressed clusters by stored over guest bytes, in `BINS` equal steps from 0 to 1. */
  readonly ratios: readonly number[];
  /** What is wrong with the first entry that breaks a rule: those that do are left out. */
  readonly damage?: string;
}

/** Bars of the histogram. */
export const BINS = 20;

const WINDOW_BYTES = 2 ** 40;

/**
 * Gathers statistics from the tables; no guest data is read.
 * @throws Qcow2Error IO, ABORTED, and those of opening the files below
 */
export async function gatherStatistics(image: Image, signal?: AbortSignal): Promise<Statistics> {
  const counts = { runs: 0, dataBytes: 0, longestRun: 0 };
  const compressed = { compressedClusters: 0, compressedGuest: 0, compressedStored: 0 };
  const ratios = new Array<number>(BINS).fill(0);
  const step = pacer(signal, 'the statistics');
  const plan = new SurveyPlan();
  let run = 0;
  let guestEnd = -1;
  let hostEnd = -1;
  for (let at = 0; at < image.virtualSize; ) {
    await step();
    at = await image.map(at, Math.min(image.virtualSize, at + WINDOW_BYTES), plan);
    for (let i = 0; i < plan.count; i++) {
      if (plan.layer[i] !== 0) continue;
      const length = plan.length[i]!;
      const stored = plan.aux[i]!;
      if (plan.kind[i] === RUN_COMPRESSED) {
        compressed.compressedClusters++;
        compressed.compressedGuest += length;
        compressed.compressedStored += stored;
        ratios[Math.min(BINS - 1, Math.floor((stored / length) * BINS))]! += 1;
      }
      if (plan.kind[i] !== RUN_DATA) continue;
      const isNext = plan.guest[i] === guestEnd && plan.host[i] === hostEnd;
      run = isNext ? run + length : length;
      if (!isNext) counts.runs++;
      guestEnd = plan.guest[i]! + length;
      hostEnd = plan.host[i]! + length;
      counts.dataBytes += length;
      counts.longestRun = Math.max(counts.longestRun, run);
    }
  }
  const { damage } = plan;
  return { ...counts, ...compressed, ratios, ...(damage && { damage: damage.message }) };
}
