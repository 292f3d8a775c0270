import { Qcow2Error } from '../errors.ts';
import type { Storage } from './storage.ts';

/** What is used of a `FileSystemSyncAccessHandle`, which browsers have in workers only. */
export interface SyncAccessHandle {
  read(into: Uint8Array<ArrayBuffer>, options: { at: number }): number;
  write(from: Uint8Array<ArrayBuffer>, options: { at: number }): number;
  truncate(size: number): void;
  getSize(): number;
  flush(): void;
  close(): void;
}

/** What is used of a `FileSystemFileHandle` of the page's own files. */
export interface SyncFileHandle {
  readonly name: string;
  /** In workers only. */
  createSyncAccessHandle?(): Promise<SyncAccessHandle>;
}

/**
 * A file of the page's own file system (OPFS), in a worker: read and written in place and at once,
 * straight from and to the kernel's memory. Nobody else can open the file meanwhile. Offsets and
 * lengths are in bytes.
 * @example
 * import { create, Image, OpfsStorage } from 'qcow2';
 *
 * const folder = await navigator.storage.getDirectory();
 * const handle = await folder.getFileHandle('disk.img', { create: true });
 * const storage = await OpfsStorage.open(handle);
 * await create(storage, { format: 'qcow2', size: 1024 ** 3 });
 * const image = await Image.open(storage, { writable: true });
 * await image.write(4096, new TextEncoder().encode('hello'));
 * await image.close();
 */
export class OpfsStorage implements Storage {
  readonly name: string;
  readonly #handle: SyncAccessHandle;
  #size: number;

  private constructor(handle: SyncAccessHandle, name: string) {
    this.#handle = handle;
    this.name = name;
    this.#size = handle.getSize();
  }

  /**
   * Opens a file for reading and writing.
   * @throws Qcow2Error IO: it is open elsewhere; UNSUPPORTED: not in a worker
   */
  static async open(file: SyncFileHandle): Promise<OpfsStorage> {
    if (typeof file.createSyncAccessHandle !== 'function') {
      const text = `'${file.name}' can be opened in place in a worker only: read it with getFile(), or write it with createWritable() and StreamStorage`;
      throw new Qcow2Error('UNSUPPORTED', text, { file: file.name });
    }
    try {
      return new OpfsStorage(await file.createSyncAccessHandle(), file.name);
    } catch (cause) {
      throw failed('open', file.name, cause);
    }
  }

  get size(): number {
    return this.#size;
  }

  /** @throws Qcow2Error IO */
  read(offset: number, into: Uint8Array): number {
    if (offset >= this.#size) return 0;
    return this.#try('read', () => this.#handle.read(own(into), { at: offset }));
  }

  /** @throws Qcow2Error IO: there is no room, for example */
  write(offset: number, from: Uint8Array): void {
    const count = this.#try('write', () => this.#handle.write(own(from), { at: offset }));
    this.#size = Math.max(this.#size, offset + count);
    if (count === from.length) return;
    const text = `Could not write '${this.name}': ${count} of ${from.length} bytes at offset ${offset} were taken; there may be no room`;
    throw new Qcow2Error('IO', text, { file: this.name, offset });
  }

  /** @throws Qcow2Error IO: there is no room, for example */
  truncate(size: number): void {
    this.#try('resize', () => this.#handle.truncate(size));
    this.#size = size;
  }

  /** @throws Qcow2Error IO */
  flush(): void {
    this.#try('flush', () => this.#handle.flush());
  }

  close(): void {
    this.#handle.close();
  }

  #try<T>(verb: string, work: () => T): T {
    try {
      return work();
    } catch (cause) {
      throw failed(verb, this.name, cause);
    }
  }
}

/** Storages are never given shared memory. */
function own(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return bytes as Uint8Array<ArrayBuffer>;
}

function failed(verb: string, name: string, cause: unknown): Qcow2Error {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new Qcow2Error('IO', `Could not ${verb} '${name}': ${why}`, { file: name }, { cause });
}
