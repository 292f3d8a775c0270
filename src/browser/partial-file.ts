import type { SyncFileHandle } from '../storage/opfs.ts';

/** For so long a worker that was ended may hold its file, in milliseconds. */
const MOST_MILLISECONDS = 5000;
const RETRY_MILLISECONDS = 10;

/** Removes a file of the page's own file system, as soon as nobody has it open. */
export async function removeOwnFile(file: SyncFileHandle): Promise<void> {
  const root = await navigator.storage.getDirectory();
  const path = await root.resolve(file as unknown as FileSystemHandle);
  const name = path?.pop();
  if (path == null || name === undefined) return;
  let folder = root;
  for (const part of path) folder = await folder.getDirectoryHandle(part);
  for (const end = performance.now() + MOST_MILLISECONDS; ; ) {
    try {
      return await folder.removeEntry(name);
    } catch (error) {
      const isHeld = (error as Error).name === 'NoModificationAllowedError';
      if (!isHeld || performance.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MILLISECONDS));
    }
  }
}
