import type { Image } from '../image/image.ts';
import { Plan } from '../image/plan.ts';
import { canPrefetch } from '../image/prefetch.ts';
import { RUN_COMPRESSED } from '../kernel/abi.ts';

/** Steps of an operation that are fetched while the one before them is done. */
export const STEPS_AHEAD = 3;

/** Whether data of one of the images is somewhere where reading it takes long. */
export async function isRemote(images: readonly Image[]): Promise<boolean> {
  for (const image of images) if (canPrefetch((await image.chain()).layers)) return true;
  return false;
}

/** Guest bytes looked at for compressed clusters. */
const SAMPLE_BYTES = 2 ** 32;

/** Whether reading the images takes decompression, by the first part of each. */
export async function isCompressed(images: readonly Image[]): Promise<boolean> {
  const plan = new Plan();
  for (const image of images) {
    await image.map(0, Math.min(image.virtualSize, SAMPLE_BYTES), plan);
    if (plan.kind.subarray(0, plan.count).includes(RUN_COMPRESSED)) return true;
  }
  return false;
}

/** The same steps; each has been announced some steps before it comes. */
export async function* fetchedAhead<Step>(
  steps: AsyncIterable<Step>,
  prefetch: (step: Step) => Promise<void>,
): AsyncGenerator<Step> {
  const ahead: Step[] = [];
  let failure: { error: unknown } | undefined;
  try {
    for await (const step of steps) {
      // What fails here fails again when the step is done.
      await prefetch(step).catch(() => {});
      ahead.push(step);
      if (ahead.length > STEPS_AHEAD) yield ahead.shift()!;
    }
  } catch (error) {
    failure = { error };
  }
  yield* ahead;
  if (failure) throw failure.error;
}
