import { convert } from '../../src/operations/convert.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import { openFiles, PickedFile } from '../model/open-files.ts';
import { openUrl } from '../open-url.ts';

/** What is to be converted, and into what. */
export interface SaveRequest {
  /** The image and the files it names, the image first. */
  files: File[];
  /** The image, if it is not a file. */
  url?: string;
  format: 'raw' | 'qcow2';
  compress: boolean;
  suggestedName: string;
}

/** How a conversion is followed. */
export interface SaveOptions {
  onProgress(done: number, total: number): void;
  signal: AbortSignal;
}

/** What was saved. */
export interface Saved {
  name: string;
  bytes: number;
  sha256: string;
  where: 'picker' | 'download' | 'opfs';
}

/** Converts an image in memory and hands it to the browser as a download. */
export async function convertAndSave(request: SaveRequest, options: SaveOptions): Promise<Saved> {
  const { format, compress, suggestedName: name } = request;
  const storages = request.files.map((file, index) => new PickedFile(file, index));
  const top = request.url === undefined ? [] : [await openUrl(request.url)];
  const { image } = await openFiles([...top, ...storages]);
  try {
    const target = new MemoryStorage();
    await convert(image, target, { format, compress: compress && format === 'qcow2', ...options });
    const bytes = target.bytes.slice();
    const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
    download(new Blob([bytes]), name);
    const sha256 = Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
    return { name, bytes: bytes.length, sha256, where: 'download' };
  } finally {
    await image.close();
  }
}

function download(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob);
  Object.assign(document.createElement('a'), { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
