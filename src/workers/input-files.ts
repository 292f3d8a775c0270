import type { Image } from '../image/image.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { openChain } from '../node/open-image.ts';
import type { InputFiles } from './messages.ts';

/** Opens the inputs of a conversion with one kernel; all or none. */
export async function openSource(files: InputFiles, kernel: Kernel): Promise<Image[]> {
  const images: Image[] = [];
  try {
    for (const { path, snapshot: own = files.snapshot, ...named } of files.inputs) {
      const { allowExternal, share } = files;
      const snapshot = own ?? undefined;
      images.push(
        await openChain(path, { ...named, snapshot, allowExternal, share, kernel, sync: true }),
      );
    }
    return images;
  } catch (error) {
    for (const image of images) await image.close();
    throw error;
  }
}
