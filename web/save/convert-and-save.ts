import { convertInWorker, type WorkerConversion } from '../../src/browser/convert-in-worker.ts';
import workerUrl from '../../src/browser/worker.ts?worker&url';
import { Qcow2Error } from '../../src/errors.ts';
import { openDownload, serviceWorker } from './download-stream.ts';
import { OwnFile, removeLeftFiles } from './own-file.ts';

/** Makes ready to save; called when the page is loaded, it works without a network from then on. */
export async function prepareSaving(): Promise<void> {
  await Promise.all([serviceWorker(), removeLeftFiles()]);
}

/** A file that an image names, at a URL. */
export interface FileAtUrl {
  name: string;
  url: string;
}

/** What is to be converted, and into what. */
export interface SaveRequest {
  /** The image (unless it has a URL), then backing and data files, which are found by their names. */
  files: (File | FileAtUrl)[];
  /** The image, if it is not a file. */
  url?: string;
  format: 'raw' | 'qcow2';
  compress: boolean;
  suggestedName: string;
}

/** How a conversion is followed. */
export interface SaveOptions {
  /** At most ten times a second. */
  onProgress(done: number, total: number): void;
  /** Ends it within 100 ms; nothing is left of what was written. */
  signal: AbortSignal;
  /** The browser may hold the whole file in memory until it is saved: nothing else is possible. */
  onHeld(): void;
}

/** What was saved. */
export interface Saved {
  name: string;
  bytes: number;
  sha256: string;
  /** The last: written in the page's own storage first, which the browser copies to the downloads. */
  where: 'picker' | 'download' | 'opfs';
}

/** A place that was chosen. */
interface Place {
  name: string;
  where: Saved['where'];
  target: WorkerConversion['target'];
  /** What there is to do when it was written, or when it was not. */
  finish?(): Promise<void>;
  discard?(): Promise<void>;
}

/**
 * Converts an image in a worker and saves it without ever holding it in memory: in a file that the
 * person picks, else as a download that is streamed, or that is written in the page's own storage first.
 * Call it from a click: the place is chosen first.
 * @throws Qcow2Error those of `convertInWorker`; ABORTED: no file was picked
 */
export async function convertAndSave(request: SaveRequest, options: SaveOptions): Promise<Saved> {
  const { files, url, format, compress, suggestedName } = request;
  const { onProgress, signal } = options;
  const place = await choosePlace(suggestedName, options);
  const sources = files.map((file) => ('url' in file ? file.url : file));
  const others = files.map(({ name }, i) => [name, sources[i]!] as const);
  try {
    const { bytes, sha256 } = await convertInWorker(
      {
        source: url ?? sources[0]!,
        files: Object.fromEntries(url === undefined ? others.slice(1) : others),
        format,
        compress: compress && format === 'qcow2',
        target: place.target,
        reusePieces: true,
      },
      { onProgress, signal, worker: 'file', workerUrl },
    );
    await place.finish?.();
    return { name: place.name, bytes, sha256, where: place.where };
  } catch (error) {
    await place.discard?.();
    throw error;
  }
}

function choosePlace(name: string, options: SaveOptions): Place | Promise<Place> {
  const { showSaveFilePicker } = window as Partial<PickerWindow>;
  if (showSaveFilePicker) return pickFile(showSaveFilePicker, name);
  return new Download(name, options);
}

/** What Chromium has. */
interface PickerWindow {
  showSaveFilePicker(options: { suggestedName: string }): Promise<PickedFile>;
}

interface PickedFile extends FileSystemFileHandle {
  remove?(): Promise<void>;
}

async function pickFile(
  pick: PickerWindow['showSaveFilePicker'],
  suggestedName: string,
): Promise<Place> {
  let file: PickedFile;
  try {
    file = await pick.call(window, { suggestedName });
  } catch (error) {
    if ((error as Error).name !== 'AbortError') throw error;
    throw new Qcow2Error('ABORTED', 'no file was chosen to save the image in');
  }
  const isNew = (await file.getFile()).size === 0;
  return {
    name: file.name,
    where: 'picker',
    target: await file.createWritable(),
    // The picker made it; one that was there before keeps what it held.
    discard: async () => {
      if (isNew) await file.remove?.();
    },
  };
}

/**
 * Firefox keeps all of a response that a service worker makes in its parent process until the download
 * has ended and after, however slowly the response comes and whatever it is made of.
 */
const HOLDS_RESPONSES = / Gecko\/\d/.test(navigator.userAgent);

/**
 * A file among the downloads: streamed, or written in the page's own storage first where the browser
 * would hold what is streamed in memory.
 */
class Download implements Place {
  readonly name: string;
  where: Saved['where'] = 'download';
  readonly #options: SaveOptions;
  #own: OwnFile | undefined;

  constructor(name: string, options: SaveOptions) {
    this.name = name;
    this.#options = options;
  }

  readonly target = async (length: number): Promise<WritableStream<Uint8Array<ArrayBuffer>>> => {
    const worker = await serviceWorker();
    if (worker && !HOLDS_RESPONSES) return openDownload(worker, this.name, length);
    this.#own = await OwnFile.create(length);
    if (this.#own) {
      this.where = 'opfs';
      return this.#own.stream;
    }
    if (worker === undefined) throw noPlace(length);
    // The browser may have asked the person for room, who has stopped it instead.
    this.#options.signal.throwIfAborted();
    this.#options.onHeld();
    return openDownload(worker, this.name, length);
  };

  async finish(): Promise<void> {
    await this.#own?.offer(this.name);
  }

  async discard(): Promise<void> {
    await this.#own?.remove();
  }
}

function noPlace(length: number): Qcow2Error {
  const text = `this browser gives the page no place to save ${length} bytes: free space, or use a window that is not private, of a page at https:`;
  return new Qcow2Error('IO', text);
}
