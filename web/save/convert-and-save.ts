import { convertInWorker, type WorkerConversion } from '../../src/browser/convert-in-worker.ts';
import workerUrl from '../../src/browser/worker.ts?worker&url';
import { Qcow2Error } from '../../src/errors.ts';
import { openDownload, serviceWorker } from './download-stream.ts';

/** What is to be converted, and into what. */
export interface SaveRequest {
  /** The image (unless it has a URL), then backing and data files, which are found by their names. */
  files: File[];
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
}

/** What was saved. */
export interface Saved {
  name: string;
  bytes: number;
  sha256: string;
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
 * person picks, else as a download, else in the page's own storage. Call it from a click: the place is
 * chosen first.
 * @throws Qcow2Error those of `convertInWorker`; ABORTED: no file was picked
 */
export async function convertAndSave(request: SaveRequest, options: SaveOptions): Promise<Saved> {
  const { files, url, format, compress, suggestedName } = request;
  const place = await choosePlace(suggestedName);
  const [top, ...below] = url === undefined ? files : [url, ...files];
  const others = (below as File[]).map((file) => [file.name, file] as const);
  try {
    const { bytes, sha256 } = await convertInWorker(
      {
        source: top!,
        files: Object.fromEntries(others),
        format,
        compress: compress && format === 'qcow2',
        target: place.target,
        reusePieces: true,
      },
      { ...options, worker: 'file', workerUrl },
    );
    await place.finish?.();
    return { name: place.name, bytes, sha256, where: place.where };
  } catch (error) {
    await place.discard?.();
    throw error;
  }
}

async function choosePlace(name: string): Promise<Place> {
  const { showSaveFilePicker } = window as Partial<PickerWindow>;
  if (showSaveFilePicker) return pickFile(showSaveFilePicker, name);
  const worker = await serviceWorker();
  if (!worker) return ownFile(name);
  const target = (length: number) => openDownload(worker, name, length);
  return { name, where: 'download', target };
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

/** Where saved images are that had no other place. */
const FOLDER = 'saved';

/** A file of the page's own, which the browser copies to the downloads. */
async function ownFile(name: string): Promise<Place> {
  const root = await navigator.storage.getDirectory();
  // Those of before were copied long ago.
  await root.removeEntry(FOLDER, { recursive: true }).catch(() => undefined);
  const folder = await root.getDirectoryHandle(FOLDER, { create: true });
  const file = await folder.getFileHandle(name, { create: true });
  return {
    name,
    where: 'opfs',
    target: file,
    finish: async () => {
      const url = URL.createObjectURL(await file.getFile());
      Object.assign(document.createElement('a'), { href: url, download: name }).click();
    },
  };
}
