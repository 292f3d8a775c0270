import { HttpStorage } from '../src/storage/http.ts';
import type { Storage } from '../src/storage/storage.ts';

/**
 * The image at a URL a person typed: only what is looked at is fetched. Files it names are not.
 * @throws Qcow2Error those of `HttpStorage.open`
 */
export function openUrl(url: string): Promise<Storage> {
  return HttpStorage.open(url);
}
