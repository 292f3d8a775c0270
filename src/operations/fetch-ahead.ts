import type { Image } from '../image/image.ts';
import { canPrefetch } from '../image/prefetch.ts';

/** Steps of an operation that are fetched while the one before them is done. */
export const STEPS_AHEAD = 3;

/** Whether data of one of the images is somewhere where reading it takes long. */
export async function isRemote(images: readonly Image[]): Promise<boolean> {
  for (const image of images) if (canPrefetch((await image.chain()).layers)) return true;
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
