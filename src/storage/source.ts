import { Qcow2Error } from '../errors.ts';
import { BlobStorage } from './blob.ts';
import { MemoryStorage } from './memory.ts';
import type { Storage } from './storage.ts';

/** What is used of a `FileSystemFileHandle` to read it: a file that a person picked, for example. */
export interface FileHandle {
  readonly name: string;
  getFile(): Promise<Blob>;
}

/**
 * What an image can be read from: bytes, a `Blob` or `File`, a handle of a file, or any other storage.
 */
export type ImageSource = Storage | Blob | FileHandle | Uint8Array | ArrayBuffer;

/**
 * The storage over a source. Bytes are not copied; those of a `Blob` are read when they are needed.
 * @throws Qcow2Error INVALID_ARGUMENT: it is none of these, for example a path; IO: a handle's file is
 *   gone, or may not be read
 */
export async function storageOf(source: ImageSource): Promise<Storage> {
  if (isStorage(source)) return source;
  if (source instanceof Uint8Array) return new MemoryStorage(source);
  if (source instanceof ArrayBuffer) return new MemoryStorage(new Uint8Array(source));
  if (isBlob(source)) return new BlobStorage(source);
  if (isFileHandle(source)) return new BlobStorage(await fileOf(source));
  const text = `an image cannot be opened from ${described(source)}: pass a Storage, a Blob, a FileSystemFileHandle or bytes`;
  throw new Qcow2Error('INVALID_ARGUMENT', text);
}

/** Whether a value is one of the kinds of source. */
export function isImageSource(value: unknown): value is ImageSource {
  const isBytes = value instanceof Uint8Array || value instanceof ArrayBuffer;
  return isBytes || isStorage(value) || isBlob(value) || isFileHandle(value);
}

function isBlob(value: unknown): value is Blob {
  return typeof Blob === 'function' && value instanceof Blob;
}

function isFileHandle(value: unknown): value is FileHandle {
  if (typeof value !== 'object' || value === null) return false;
  return typeof (value as Partial<FileHandle>).getFile === 'function';
}

async function fileOf(handle: FileHandle): Promise<Blob> {
  try {
    return await handle.getFile();
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    const text = `Could not open '${handle.name}': ${why}`;
    throw new Qcow2Error('IO', text, { file: handle.name }, { cause });
  }
}

function isStorage(source: unknown): source is Storage {
  if (typeof source !== 'object' || source === null) return false;
  const { size, read, close } = source as Partial<Storage>;
  return typeof size === 'number' && typeof read === 'function' && typeof close === 'function';
}

function described(source: unknown): string {
  if (typeof source === 'string') return `a string (openImage takes paths, in Node)`;
  return source === null ? 'null' : `a value of type ${typeof source}`;
}
