import type { Image } from '../image/image.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { openChain } from '../node/open-image.ts';
import type { InputFiles } from './messages.ts';

/**
 * Opens the inputs of a conversion with one kernel; all or none.
 * @param sync blocking reads; without them this thread goes on meanwhile
 */
export async function openSource(
  files: InputFiles,
  kernel: Kernel,
  signal?: AbortSignal,
  sync = true,
): Promise<Image[]> {
  const images: Image[] = [];
  try {
    for (const { path, snapshot: own = files.snapshot, ...named } of files.inputs) {
      const { allowExternal, share, http } = files;
      const snapshot = own ?? undefined;
      images.push(
        await openChain(path, {
          ...named,
          snapshot,
          allowExternal,
          share,
          http,
          kernel,
          signal,
          sync,
        }),
      );
    }
    return images;
  } catch (error) {
    for (const image of images) await image.close();
    throw error;
  }
}
