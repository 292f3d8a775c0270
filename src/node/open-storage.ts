import { type FileOptions, FileStorage } from '../storage/file.ts';
import { type HttpOptions, HttpStorage } from '../storage/http.ts';
import type { HttpTransport } from '../storage/http-transport.ts';
import { isHttpUrl } from '../storage/http-url.ts';
import type { Storage } from '../storage/storage.ts';

/** How a file or URL is opened. */
export interface OpenStorageOptions extends FileOptions {
  /** How http and https URLs are read. */
  http?: HttpOptions | undefined;
}

/** Requests by node:http, which is loaded with the first: it takes commands that need none 20 ms. */
export const nodeTransport: HttpTransport = async (url, request) =>
  (await import('./http-transport.ts')).nodeTransport(url, request);

/**
 * Opens what a caller named: a file, or to read an http or https URL.
 * @throws Qcow2Error of `FileStorage` or `HttpStorage.open`
 */
export async function openStorage(name: string, options: OpenStorageOptions): Promise<Storage> {
  const { http, ...file } = options;
  return isHttpUrl(name)
    ? HttpStorage.open(name, { transport: nodeTransport, ...http })
    : new FileStorage(name, file);
}
