import { Qcow2Error } from '../errors.ts';
import type { Storage } from '../storage/storage.ts';

/** A storage that a new image can be written to. */
export interface WritableStorage extends Storage {
  write(offset: number, from: Uint8Array): void | Promise<void>;
  truncate(size: number): void | Promise<void>;
}

/** Where a new image goes when its data is to be in an external data file. */
export interface ImageTarget {
  /** The image: empty, or (raw with `overwrite`) at least as long as the source. */
  storage: WritableStorage;
  /** The new external data file of a qcow2 image; its name is the option `dataFile`. */
  dataStorage?: WritableStorage | undefined;
}

/**
 * The storages of a target.
 * @throws Qcow2Error INVALID_ARGUMENT: one of them cannot be written to
 */
export function targetStorages(target: WritableStorage | ImageTarget): ImageTarget {
  const { storage, dataStorage } = 'storage' in target ? target : { storage: target };
  for (const each of [storage, dataStorage]) if (each !== undefined) requireWritable(each);
  return { storage, dataStorage };
}

/**
 * Programs without types may name another format, or forget it.
 * @throws Qcow2Error INVALID_ARGUMENT: it is none that can be written
 */
export function requireTargetFormat(format: unknown): void {
  if (format === 'qcow2' || format === 'raw') return;
  const what = format === undefined ? 'a format is needed' : `unknown format '${String(format)}'`;
  throw new Qcow2Error('INVALID_ARGUMENT', `${what}; qcow2 and raw are supported`);
}

function requireWritable({ name = 'storage', write, truncate }: Storage): void {
  if (typeof write === 'function' && typeof truncate === 'function') return;
  const text = `'${name}' cannot be written to: a target needs write and truncate`;
  throw new Qcow2Error('INVALID_ARGUMENT', text, { file: name });
}
