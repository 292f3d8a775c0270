import { Qcow2Error } from '../errors.ts';
import { BlobStorage } from './blob.ts';
import { MemoryStorage } from './memory.ts';
import type { Storage } from './storage.ts';

/** What an image can be read from: bytes, a `Blob` or `File`, or any other storage. */
export type ImageSource = Storage | Blob | Uint8Array | ArrayBuffer;

/**
 * The storage over a source. Bytes are not copied; those of a `Blob` are read when they are needed.
 * @throws Qcow2Error INVALID_ARGUMENT: it is none of these, for example a path
 */
export function storageOf(source: ImageSource): Storage {
  if (isStorage(source)) return source;
  if (source instanceof Uint8Array) return new MemoryStorage(source);
  if (source instanceof ArrayBuffer) return new MemoryStorage(new Uint8Array(source));
  if (isBlob(source)) return new BlobStorage(source);
  const text = `an image cannot be opened from ${described(source)}: pass a Storage, a Blob or bytes`;
  throw new Qcow2Error('INVALID_ARGUMENT', text);
}

/** Whether a value is one of the kinds of source. */
export function isImageSource(value: unknown): value is ImageSource {
  const isBytes = value instanceof Uint8Array || value instanceof ArrayBuffer;
  return isBytes || isStorage(value) || isBlob(value);
}

function isBlob(value: unknown): value is Blob {
  return typeof Blob === 'function' && value instanceof Blob;
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
