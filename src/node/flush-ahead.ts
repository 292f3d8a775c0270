import type { Image } from '../image/image.ts';
import type { OperationControl } from '../operations/control.ts';
import type { FileStorage } from '../storage/file.ts';

/** Guest bytes done between two flushes in the background. */
const FLUSH_BYTES = 128 * 2 ** 20;

/** Where the guest data of an image goes that was opened by its path. */
export async function dataFile(image: Image): Promise<FileStorage> {
  return (await image.chain()).layers[0]!.layer.dataStorage as FileStorage;
}

/** Reports progress, and has the system write a file to the disk meanwhile: its end has less to wait for. */
export function flushingAhead(
  file: FileStorage,
  onProgress: OperationControl['onProgress'],
): NonNullable<OperationControl['onProgress']> {
  let flushed = 0;
  return (done, total) => {
    if (done - flushed >= FLUSH_BYTES) {
      flushed = done;
      file.beginFlush();
    }
    return onProgress?.(done, total);
  };
}
