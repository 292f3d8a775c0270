import { type FileOptions, FileStorage } from '../storage/file.ts';
import { type HttpOptions, HttpStorage } from '../storage/http.ts';
import { isHttpUrl } from '../storage/http-url.ts';
import type { Storage } from '../storage/storage.ts';
import { nodeTransport } from './http-transport.ts';

/** How a file or URL is opened. */
export interface OpenStorageOptions extends FileOptions {
  /** How http and https URLs are read. */
  http?: HttpOptions | undefined;
}

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
