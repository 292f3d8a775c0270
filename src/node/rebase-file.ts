import * as path from 'node:path';
import { Qcow2Error } from '../errors.ts';
import type { Image } from '../image/image.ts';
import { createKernel, type Kernel } from '../kernel/kernel.ts';
import type { OperationControl } from '../operations/control.ts';
import { type NewBacking, rebase } from '../operations/rebase.ts';
import { dataFile, flushingAhead } from './flush-ahead.ts';
import { type NamedFiles, type OpenImageOptions, openChain, openImage } from './open-image.ts';

/** An overlay and the backing file it is to have. */
export interface RebaseFileOptions
  extends OperationControl,
    NamedFiles,
    Pick<OpenImageOptions, 'allowExternal' | 'share'> {
  path: string;
  /** Absent: none. The caller's word for it is trusted; a relative name is taken from the overlay's folder. */
  backing?: NewBacking | undefined;
  /** Only records the name; see `rebase`. */
  unsafe?: boolean;
}

/**
 * Gives an overlay file another backing file, or none; see `rebase`. Returns how many internal snapshots
 * it has, which show the new backing file where they hold nothing themselves.
 * @throws Qcow2Error NOT_FOUND, EXTERNAL_REFUSED, and those of `openImage` and `rebase`
 * @example
 * import { rebaseFile } from 'qcow2';
 *
 * await rebaseFile({ path: 'overlay.qcow2', backing: { name: 'disk.raw', format: 'raw' } });
 */
export async function rebaseFile(options: RebaseFileOptions): Promise<{ snapshots: number }> {
  const { path: file, backing, unsafe = false, onProgress, signal, ...open } = options;
  const kernel = createKernel();
  const openOverlay = unsafe ? openImage : openChain;
  // Not blocking: both backing files are read while the overlay is written.
  const image = await openOverlay(file, { ...open, sync: false, kernel, writable: true });
  let backingImage: Image | undefined;
  try {
    if (backing !== undefined && !unsafe)
      backingImage = await openBacking(file, backing, options, kernel);
    await rebase(image, {
      backing,
      backingImage,
      unsafe,
      signal,
      onProgress: unsafe ? onProgress : flushingAhead(await dataFile(image), onProgress),
    }).catch((error: unknown) => {
      throw notChanged(error, backing);
    });
  } catch (error) {
    // What cannot be closed after an error fails for the same reason.
    await image.close().catch(() => undefined);
    throw error;
  } finally {
    await backingImage?.close();
  }
  await image.close();
  return { snapshots: image.metadata?.header.nbSnapshots ?? 0 };
}

async function openBacking(
  overlay: string,
  { name, format }: NewBacking,
  { allowExternal, share = false }: RebaseFileOptions,
  kernel: Kernel,
): Promise<Image> {
  const file = path.isAbsolute(name) ? name : path.join(path.dirname(overlay), name);
  try {
    return await openChain(file, { format, allowExternal, share, kernel });
  } catch (error) {
    if (!(error instanceof Qcow2Error)) throw error;
    const text = `Could not open new backing file '${name}': ${error.message}`;
    throw new Qcow2Error(error.code, text, error.details, { cause: error });
  }
}

/** An error of the image's header in the words scripts look for. */
function notChanged(error: unknown, backing: NewBacking | undefined): unknown {
  if (!(error instanceof Qcow2Error)) return error;
  const { structure } = error.details;
  const why = REASONS[structure ?? ''];
  if (why === undefined) return error;
  const text = `Could not change the backing file to '${backing?.name ?? ''}': ${why}: ${error.message}`;
  return new Qcow2Error(error.code, text, error.details, { cause: error });
}

/** What is at fault, and what qemu-img says to it. */
const REASONS: Readonly<Record<string, string>> = {
  'image format': 'Operation not supported',
  'header autoclear_features': 'Invalid argument',
  'backing file name': 'No space left in the file header',
  header: 'No space left in the file header',
};
