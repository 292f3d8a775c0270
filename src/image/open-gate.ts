import { Qcow2Error } from '../errors.ts';
import { isHttpUrl } from '../storage/http-url.ts';
import { type ImageSource, storageOf } from '../storage/source.ts';
import type { MaybePromise, Storage } from '../storage/storage.ts';

/** A file that an image names and that is about to be opened. */
export interface OutsideFile {
  role: 'backing file' | 'data file';
  /** The name exactly as the image records it. Never trust it. */
  name: string;
  /** Name of the image that refers to it. */
  namedBy: string;
  /** True if the source must have `write`: it is the data file of an image opened for writing. */
  writable?: boolean;
}

/**
 * The caller's gate: opens a file an image names, or throws. Nothing outside an image is opened
 * without one. Returning null refuses with the standard text.
 */
export interface OutsideResolver {
  (file: OutsideFile): MaybePromise<ImageSource | null>;
  /** Whether it also judges names that are http or https URLs; absent: they are refused without it. */
  readonly judgesUrls?: boolean;
}

/** The refusal, the same whether or not the file exists. */
export function refusal(file: OutsideFile, hint: string): Qcow2Error {
  const { role, name, namedBy } = file;
  return new Qcow2Error(
    'EXTERNAL_REFUSED',
    `${role} '${name}' named by '${namedBy}' is not opened: ${hint}`,
    { structure: role, file: name },
  );
}

/** A `protocol:` or `json:` prefix: a name that is not a plain path. */
const PROTOCOL = /^[A-Za-z][A-Za-z0-9+.-]*:/;

/**
 * Names that no policy opens as a file (design: open gate).
 * @throws Qcow2Error EXTERNAL_REFUSED
 */
export function requirePlainPath(file: OutsideFile, allowsUrls = false): void {
  if (file.name.includes('\0')) throw refusal(file, 'the name contains a NUL byte');
  if (PROTOCOL.test(file.name) && !(allowsUrls && isHttpUrl(file.name)))
    throw refusal(file, 'protocols are not followed');
  if (file.name === '') throw refusal(file, 'the name is empty');
}

/** Opens what is named, asking the gate. */
export async function openOutside(
  file: OutsideFile,
  resolver: OutsideResolver | undefined,
): Promise<Storage> {
  requirePlainPath(file, resolver?.judgesUrls);
  if (resolver === undefined) throw refusal(file, 'pass a resolver that allows it');
  const source = await resolver(file);
  if (source === null) throw refusal(file, 'the resolver does not allow it');
  return storageOf(source);
}
