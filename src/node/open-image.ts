import type { GivenSources } from '../image/given-files.ts';
import { httpResolver, urlResolver } from '../image/http-resolver.ts';
import type { SnapshotQuery } from '../image/identify.ts';
import { Image } from '../image/image.ts';
import { type OutsideResolver, refusal } from '../image/open-gate.ts';
import type { OpenOptions } from '../image/open-options.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { FileStorage } from '../storage/file.ts';
import { folderGate, openThroughGate } from '../storage/file-gate.ts';
import type { HttpOptions } from '../storage/http.ts';
import { couldNotOpen, isHttpUrl } from '../storage/http-url.ts';
import { MemoryStorage } from '../storage/memory.ts';
import type { Storage } from '../storage/storage.ts';
import { nodeTransport, type OpenStorageOptions, openStorage } from './open-storage.ts';
import { openUnpacked, requireNoInput } from './open-unpacked.ts';

/** Files named by the caller, in place of those an image names: trusted, no gate is asked. */
export interface NamedFiles {
  /** Absent: what the overlay records, or probed. */
  format?: 'qcow2' | 'raw' | undefined;
  /** Path of the external data file. */
  dataFile?: string | undefined;
  backingFile?: (NamedFiles & { path: string }) | undefined;
}

/** What a stream held, kept where every thread can read it. */
export interface InputCopy {
  /** Shown in messages; names the image records are taken from its folder. */
  name: string;
  /** Files in that folder may be opened. */
  hasFolder: boolean;
  /** In memory all threads share, or the path of a file. */
  bytes?: Uint8Array | undefined;
  path?: string | undefined;
}

/** How to open an image file and what it may refer to. */
export interface OpenImageOptions extends NamedFiles {
  /**
   * Read this in its place.
   * @internal
   */
  copy?: InputCopy | undefined;
  snapshot?: string | SnapshotQuery | undefined;
  /**
   * Folders beside the image's own in whose trees backing and data files may lie, paths or URLs; `any`
   * allows every regular file, but no URL.
   */
  allowExternal?: readonly string[] | 'any' | undefined;
  /** How http and https URLs are read: headers, for example. */
  http?: HttpOptions | undefined;
  /** Ends requests to web servers, and what waits for them. */
  signal?: AbortSignal | undefined;
  /** Blocking reads: for workers and command-line tools. */
  sync?: boolean;
  /** Opens the image, and its data file if it has one, for writing too. */
  writable?: boolean | undefined;
  /**
   * False: writing waits for no disk (`-t unsafe`). After a power cut the image may be damaged; for
   * what can be made anew.
   */
  durable?: boolean | undefined;
  /** Bytes of memory for the tables of an image that is written. Default 32 MiB. */
  cacheBytes?: number | undefined;
  /** Open files that are only read although another program has them open for writing (`-U`). */
  share?: boolean | undefined;
  /** False: a short look that keeps nobody from writing to the files; see `FileOptions.holdLocks`. */
  holdLocks?: boolean | undefined;
  /** Shares a kernel with other images of the same conversion. */
  kernel?: Kernel;
  /**
   * Files of the chain to open; see `OpenOptions`.
   * @internal
   */
  layers?: number;
}

/**
 * The gate for files an image at `imagePath` names: regular files in its folder's tree, and what is
 * allowed besides. Relative names are taken from the folder of the image that names them.
 * @throws Qcow2Error NOT_FOUND, IO: the image or an allowed folder is not there; the gate itself throws
 *   EXTERNAL_REFUSED
 * @example
 * import { fileResolver, Image } from 'qcow2';
 * import { readFile } from 'node:fs/promises';
 *
 * // An image from somewhere else, whose backing file lies in the current folder's tree.
 * const resolver = fileResolver('overlay.qcow2');
 * const image = await Image.open(await readFile('overlay.qcow2'), { resolver });
 * await image.read(0, new Uint8Array(512));
 * await image.close();
 */
export function fileResolver(
  imagePath: string,
  allowExternal: readonly string[] | 'any' = [],
  options: OpenStorageOptions = {},
): OutsideResolver {
  return resolverFor(imagePath, allowExternal, options);
}

/** @param imagePath undefined: the image lies in no folder */
function resolverFor(
  imagePath: string | undefined,
  allowExternal: readonly string[] | 'any',
  options: OpenStorageOptions,
): OutsideResolver {
  const { http: httpOptions, ...fileOptions } = options;
  const http = { transport: nodeTransport, ...httpOptions };
  const urls = allowExternal === 'any' ? [] : allowExternal.filter(isHttpUrl);
  if (imagePath !== undefined && isHttpUrl(imagePath))
    return httpResolver(imagePath, { ...http, allowExternal: urls });
  const folders =
    allowExternal === 'any' ? 'any' : allowExternal.filter((name) => !isHttpUrl(name));
  const gate = folderGate(imagePath, folders);
  const onServers = urlResolver(urls, http);
  const open: OutsideResolver = (file) => {
    if (isHttpUrl(file.name) || isHttpUrl(file.namedBy)) return onServers(file);
    const mode = file.writable ? 'r+' : 'r';
    const share = options.share === true && !file.writable;
    const opened = openThroughGate(gate, file.name, file.namedBy, { ...fileOptions, mode, share });
    if (opened) return opened;
    throw refusal(file, "it is outside the image's folder (--allow-external DIR opens more)");
  };
  return Object.assign(open, { judgesUrls: urls.length > 0 });
}

/**
 * Opens an image file, or to read one on a web server by its URL. Files it names are opened when data is asked for, if the gate allows them.
 * @throws Qcow2Error NOT_FOUND, IO, REFUSED, and those of `Image.open`
 * @example
 * import { openImage } from 'qcow2';
 *
 * const image = await openImage('disk.qcow2', { snapshot: 'monday' });
 * const boot = new Uint8Array(512);
 * await image.read(0, boot);
 * await image.close();
 */
export async function openImage(file: string, options: OpenImageOptions = {}): Promise<Image> {
  const { snapshot, kernel, allowExternal, sync = false, share = false } = options;
  const { writable = false, durable = true, cacheBytes, holdLocks = true, copy } = options;
  if (!copy) requireNoInput(file);
  const http = { ...options.http, signal: options.signal };
  const how = { sync, share, holdLocks, durable, http };
  const resolver = resolverFor(
    copy?.hasFolder === false ? undefined : file,
    allowExternal ?? [],
    how,
  );
  const mode = writable ? 'r+' : 'r';
  // A file that is written must be free all the same.
  const storage = copy
    ? openCopy(copy, how)
    : await openUnpacked(file, options.format, { ...how, mode, share: share && !writable });
  const given = await openNamed(options, how, storage, mode);
  const open: OpenOptions = { ...given, resolver, writable };
  if (cacheBytes !== undefined) open.cacheBytes = cacheBytes;
  if (snapshot !== undefined) open.snapshot = snapshot;
  if (kernel !== undefined) open.kernel = kernel;
  if (options.layers !== undefined) open.layers = options.layers;
  return Image.open(storage, open).catch((error: unknown) => {
    throw couldNotOpen(error, file);
  });
}

function openCopy({ name, bytes, path }: InputCopy, { sync = false }: OpenStorageOptions): Storage {
  if (bytes !== undefined) return new MemoryStorage(bytes, name);
  return new FileStorage(name, { realPath: path ?? name, sync, share: true });
}

/**
 * Opens the files the caller named; if one fails, those before it and `above` are closed.
 * @param mode of the data file; what lies below is only read
 * @throws Qcow2Error NOT_FOUND, IO, REFUSED
 */
export async function openNamed(
  files: NamedFiles,
  options: OpenStorageOptions,
  above: Storage,
  mode: 'r' | 'r+' = 'r',
): Promise<GivenSources> {
  const { format, dataFile, backingFile } = files;
  const given: GivenSources = {};
  let data: Storage | undefined;
  if (format !== undefined) given.format = format;
  try {
    const share = options.share === true && mode === 'r';
    data =
      dataFile === undefined ? undefined : await openStorage(dataFile, { ...options, mode, share });
    if (data !== undefined) given.dataFile = data;
    if (backingFile === undefined) return given;
    const storage = await openStorage(backingFile.path, options);
    const below = await openNamed(backingFile, options, storage);
    given.backingFile = { source: storage, ...below };
    return given;
  } catch (error) {
    await data?.close();
    await above.close();
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
