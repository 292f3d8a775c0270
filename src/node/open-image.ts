import { Qcow2Error } from '../errors.ts';
import { Image, type OpenOptions, type SnapshotQuery } from '../image/image.ts';
import type { GivenFiles } from '../image/backing-chain.ts';
import { type OutsideResolver, refusal } from '../image/open-gate.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { type FileOptions, FileStorage } from '../storage/file.ts';
import { folderGate, openThroughGate } from '../storage/file-gate.ts';

/** Files named by the caller, in place of those an image names: trusted, no gate is asked. */
export interface NamedFiles {
  /** Absent: what the overlay records, or probed. */
  format?: 'qcow2' | 'raw' | undefined;
  /** Path of the external data file. */
  dataFile?: string | undefined;
  backingFile?: (NamedFiles & { path: string }) | undefined;
}

/** How to open an image file and what it may refer to. */
export interface OpenImageOptions extends NamedFiles {
  snapshot?: string | SnapshotQuery | undefined;
  /**
   * Folders beside the image's own in whose trees backing and data files may lie; `any` allows every
   * regular file.
   */
  allowExternal?: readonly string[] | 'any' | undefined;
  /** Blocking reads: for workers and command-line tools. */
  sync?: boolean;
  /** Open files although another program has them open for writing (`-U`). */
  share?: boolean | undefined;
  /** Shares a kernel with other images of the same conversion. */
  kernel?: Kernel;
}

/**
 * The gate for files an image at `imagePath` names: regular files in its folder's tree, and what is
 * allowed besides. Relative names are taken from the folder of the image that names them.
 */
export function fileResolver(
  imagePath: string,
  allowExternal: readonly string[] | 'any' = [],
  options: FileOptions = {},
): OutsideResolver {
  const gate = folderGate(imagePath, allowExternal);
  return (file) => {
    const opened = openThroughGate(gate, file.name, file.namedBy, options);
    if (opened) return opened;
    throw refusal(file, "it is outside the image's folder (--allow-external DIR opens more)");
  };
}

/**
 * Opens an image file. Files it names are opened when data is asked for, if the gate allows them.
 * @throws Qcow2Error NOT_FOUND, IO, REFUSED, and those of `Image.open`
 */
export async function openImage(file: string, options: OpenImageOptions = {}): Promise<Image> {
  const { snapshot, kernel, allowExternal, sync = false, share = false } = options;
  const storage = new FileStorage(file, { sync, share });
  const open: OpenOptions = {
    ...openNamed(options, { sync, share }, storage),
    resolver: fileResolver(file, allowExternal, { sync, share }),
  };
  if (snapshot !== undefined) open.snapshot = snapshot;
  if (kernel !== undefined) open.kernel = kernel;
  return Image.open(storage, open).catch((error: unknown) => {
    throw couldNotOpen(error, file);
  });
}

/** Opens the files the caller named; if one fails, those before it and `above` are closed. */
function openNamed(files: NamedFiles, options: FileOptions, above: FileStorage): GivenFiles {
  const { format, dataFile, backingFile } = files;
  const given: GivenFiles = {};
  if (format !== undefined) given.format = format;
  try {
    if (dataFile !== undefined) given.dataFile = new FileStorage(dataFile, options);
    if (backingFile === undefined) return given;
    const storage = new FileStorage(backingFile.path, options);
    given.backingFile = { storage, ...openNamed(backingFile, options, storage) };
    return given;
  } catch (error) {
    given.dataFile?.close();
    above.close();
    throw error;
  }
}

/** Opens an image and everything below it; see `openImage`. */
export async function openChain(file: string, options: OpenImageOptions = {}): Promise<Image> {
  const image = await openImage(file, options);
  try {
    await image.chain();
    return image;
  } catch (error) {
    await image.close();
    throw couldNotOpen(error, file);
  }
}

/** The error with the words scripts look for in front. */
function couldNotOpen(error: unknown, file: string): unknown {
  const prefix = `Could not open '${file}': `;
  if (!(error instanceof Qcow2Error) || error.message.startsWith(prefix)) return error;
  return new Qcow2Error(error.code, prefix + error.message, error.details, { cause: error });
}
