import * as path from 'node:path';
import { Qcow2Error } from '../errors.ts';
import type { Image } from '../image/image.ts';
import { createKernel, type Kernel } from '../kernel/kernel.ts';
import { commit } from '../operations/commit.ts';
import type { OperationControl } from '../operations/control.ts';
import { sameFile } from './create-file.ts';
import { dataFile, flushingAhead } from './flush-ahead.ts';
import { type NamedFiles, type OpenImageOptions, openChain, openImage } from './open-image.ts';

/** An overlay file and where it is committed to. */
export interface CommitFileOptions
  extends OperationControl,
    NamedFiles,
    Pick<OpenImageOptions, 'allowExternal' | 'sync'> {
  path: string;
  /** Name of a file below it, from the folder of the image that names it. Absent: its backing file. */
  base?: string | undefined;
  /** The overlay keeps what it holds. Always so with `base`. */
  keep?: boolean;
}

/** Where a base was found. */
interface FoundBase {
  path: string;
  format: 'qcow2' | 'raw';
  depth: number;
  identity: string | undefined;
}

/**
 * Commits an overlay file into a file below it; see `commit`.
 * @throws Qcow2Error NOT_FOUND, EXTERNAL_REFUSED, INVALID_ARGUMENT: no such file in its chain; and those
 *   of `openImage` and `commit`
 * @example
 * import { commitFile } from 'qcow2';
 *
 * await commitFile({ path: 'overlay.qcow2' }); // disk.qcow2 has it all now
 */
export async function commitFile(options: CommitFileOptions): Promise<void> {
  const { path: file, base: baseName, keep = false, onProgress, signal, ...open } = options;
  const kernel = createKernel();
  const found = await findBase(file, baseName, open);
  const base = await openBase(found, options, kernel);
  let image: Image | undefined;
  try {
    // The base is open once only, and what lies below it is none of the overlay's business here.
    const { depth } = found;
    // Read by the system while this thread writes the base.
    image = await openImage(file, { ...open, sync: false, kernel, writable: true, layers: depth });
    await commit(image, base, {
      depth,
      keep: keep || baseName !== undefined,
      signal,
      onProgress: flushingAhead(await dataFile(base), onProgress),
    });
  } catch (error) {
    // What cannot be closed after an error fails for the same reason.
    await image?.close().catch(() => undefined);
    await base.close().catch(() => undefined);
    throw error;
  }
  await image.close();
  await base.close();
}

/** Opens the whole chain, to read only, and looks for the base. */
async function findBase(
  file: string,
  name: string | undefined,
  open: OpenImageOptions,
): Promise<FoundBase> {
  const image = await openChain(file, open);
  try {
    const { layers } = await image.chain();
    if (layers.length === 1)
      throw new Qcow2Error('INVALID_ARGUMENT', 'Image does not have a backing file');
    const files = layers.map(({ layer }) => layer.storage.name ?? '');
    const isBase = (depth: number): boolean =>
      name === undefined ||
      sameFile(path.resolve(path.dirname(files[depth - 1]!), name), files[depth]!);
    for (let depth = 1; depth < files.length; depth++) {
      if (!isBase(depth)) continue;
      const { format, storage } = layers[depth]!.layer;
      return { path: files[depth]!, format, depth, identity: storage.identity };
    }
    const text = `Did not find '${name}' in the backing chain of '${file}'`;
    throw new Qcow2Error('INVALID_ARGUMENT', text, { file });
  } finally {
    await image.close();
  }
}

/** Opens the base, which the gate has let through, for writing, and below it what it names. */
async function openBase(
  { path: file, format, depth, identity }: FoundBase,
  options: CommitFileOptions,
  kernel: Kernel,
): Promise<Image> {
  const { allowExternal = [], sync = false } = options;
  let named: NamedFiles | undefined = options;
  for (let i = 0; i < depth; i++) named = named?.backingFile;
  const folder = path.dirname(options.path);
  const base = await openImage(file, {
    sync,
    kernel,
    writable: true,
    allowExternal: allowExternal === 'any' ? 'any' : [folder, ...allowExternal],
    ...(named && { dataFile: named.dataFile, backingFile: named.backingFile }),
    format,
  });
  if (base.storage.identity === identity) return base;
  await base.close();
  const text = `'${file}' was exchanged while it was looked at; nothing was committed`;
  throw new Qcow2Error('REFUSED', text, { file });
}
